"""Whole nodes on loopback, and waiting for what they make of each other."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from netd.cluster import secret
from netd.cluster.service import ClusterService
from netd.cluster.settings import ClusterSettings
from netd.engine.interfaces import ClaimChange, Cluster, ClusterChange, RecordChange


class Lab:
    """Nodes of one test, in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key_file = folder / "cluster.key"
        self.key_file.write_text(secret.generate())
        self.key_file.chmod(0o600)
        self.nodes: list[Cluster] = []  # the type checker sees that it is one

    async def open(self, name: str, *, key: bool = True, **more: object) -> ClusterService:
        values: dict[str, object] = {
            "directory": self.folder / name,
            "name": name,
            "bind": ("127.0.0.1", 0),
            "profile": "fast",
            "version": "1.2.3",
            "key_file": self.key_file if key else None,
        }
        made = await ClusterService.open(ClusterSettings(**(values | more)))  # type: ignore[arg-type]
        self.nodes.append(made)
        return made

    async def start(self, name: str, *, key: bool = True, **more: object) -> ClusterService:
        made = await self.open(name, key=key, **more)
        await made.start()
        return made

    async def pair(self) -> tuple[ClusterService, ClusterService]:
        a, b = await self.start("a"), await self.start("b")
        assert await joined(b, a)
        await sees(a, "b")
        return a, b


@asynccontextmanager
async def new_lab(folder: Path) -> AsyncIterator[Lab]:
    lab = Lab(folder)
    try:
        yield lab
    finally:
        for made in lab.nodes:
            await made.close()


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for what other nodes do, which nothing in this one tells of."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def states(here: ClusterService) -> dict[str, str]:
    return {member.name: member.state for member in here.members()}


async def sees(here: ClusterService, name: str, state: str = "alive") -> None:
    await until(lambda: states(here).get(name) == state)


async def joined(here: ClusterService, there: ClusterService, token: str | None = None) -> bool:
    (result,) = await here.join([there.health().advertised], token)
    assert result.error == ""
    return True


def key_ids(here: ClusterService) -> list[str]:
    ring = here.keys()
    return [key.id for key in ring]


class Watched:
    """What a watcher has heard."""

    def __init__(self, cluster: Cluster) -> None:
        self.changes: list[ClusterChange] = []
        self.stop = cluster.watch(self.changes.append)

    def records(self) -> dict[tuple[str, str], bytes]:
        found: dict[tuple[str, str], bytes] = {}
        for change in self.changes:
            if isinstance(change, RecordChange):
                if change.value is None:
                    del found[change.owner, change.key]
                else:
                    found[change.owner, change.key] = change.value
        return found

    def claims(self) -> dict[str, ClaimChange]:
        """What holds for each key that is claimed."""
        found: dict[str, ClaimChange] = {}
        for change in self.changes:
            if isinstance(change, ClaimChange):
                if change.body is None:
                    del found[change.key]
                else:
                    found[change.key] = change
        return found

    def told_of_claims(self) -> int:
        """How often."""
        return sum(isinstance(change, ClaimChange) for change in self.changes)
