"""Hosts that share keys: the engine's part of them, on a cluster in memory and real databases."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from netd.engine.interfaces import Record
from netd.engine.kv import KeyCases, Keys
from netd.engine.kv.changes import Changes
from netd.engine.services.catalogue import Catalogue
from netd.model.kv import KeyDone, KeyPut, SessionSpec
from netd.store.sqlite import SqliteStore
from tests.unit.engine_fixture import ManualClock, TroubledStore
from tests.unit.memory_cluster import MemoryCluster, Mesh

SECRET = bytes(32)
PATIENCE_S = 10.0


class KeyHost:
    """One host; `cases` is what its front ends call."""

    def __init__(self, lab: "Lab", name: str, folder: Path, wanted: str) -> None:
        self.name = name
        self.folder = folder
        self.cluster: MemoryCluster = lab.mesh.node(name, SECRET, node_id=_id(name))
        self.wanted = wanted
        self.clock = ManualClock(name)
        self.cases: KeyCases
        self.keys: Keys
        self.store: TroubledStore
        self.catalogue: Catalogue
        self.up = False

    async def start(self) -> None:
        self.store = TroubledStore(await SqliteStore.open(self.folder))
        snapshot = await self.store.load()
        changes = Changes()
        self.catalogue = Catalogue(self.cluster)
        self.keys = Keys(
            self.store,
            self.clock,
            self.cluster,
            self.catalogue,
            changes,
            node=self.name,
            wanted=self.wanted,
        )
        await self.keys.restore(snapshot)
        self.cases = KeyCases(self.keys, changes, self.name)
        self.catalogue.start()
        self.cases.start()
        self.up = True

    async def stop(self) -> None:
        """As a daemon stops."""
        self.up = False
        self.cases.end_streams()
        await self.cases.stop()
        self.catalogue.stop()
        await self.store.close()

    async def kill(self) -> None:
        """As kill -9 does, as far as others see it: nothing of it answers any more."""
        self.cluster.becomes("dead")
        await self.stop()

    async def revive(self) -> None:
        """Start it again; the others see it live."""
        await self.start()
        self.cluster.becomes("alive")

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def lose_disk(self) -> None:
        shutil.rmtree(self.folder)

    def later(self, seconds: float) -> None:
        self.clock.now_s += seconds
        self.keys.look_at_clock()

    # Words for tests

    async def put(self, key: str, value: bytes = b"", **fields: int | str) -> bool:
        return (await self.write(key, value, **fields)).done

    async def write(self, key: str, value: bytes = b"", **fields: int | str) -> KeyDone:
        asked = KeyPut(value=value, **fields)  # type: ignore[arg-type]
        return await self.cases.put(key, asked)

    async def get(self, key: str) -> bytes | None:
        entry = (await self.cases.read(key)).entry
        return None if entry is None else entry.value

    async def session(self, **fields: float | str | tuple[str, ...]) -> str:
        return (await self.cases.create_session(SessionSpec(**fields))).id  # type: ignore[arg-type]

    async def holder_of(self, key: str) -> str:
        entry = (await self.cases.read(key)).entry
        return entry.session if entry else ""

    async def state(self) -> str:
        status = await self.cases.status()
        return f"{status.holder} {status.state}"


class Lab:
    """`host` makes hosts, whose ids are in the order of their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mesh = Mesh()
        self.hosts: list[KeyHost] = []

    async def host(self, name: str, wanted: str = "") -> KeyHost:
        host = KeyHost(self, name, self.folder / name, wanted)
        self.hosts.append(host)
        await host.start()
        return host

    async def cluster(self, *names: str, wanted: str = "") -> list[KeyHost]:
        hosts = [await self.host(name, wanted) for name in names]
        for host in hosts[1:]:
            await host.cluster.join([hosts[0].cluster.address], None)
        return hosts

    async def close(self) -> None:
        for host in self.hosts:
            if host.up:
                await host.stop()


async def until(done: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = done()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)


def publish_junk(host: KeyHost, value: bytes) -> None:
    """A record that no netd would write."""
    host.cluster.publish([Record(table="kv", key="holder", value=value)])


def _id(name: str) -> str:
    return name.encode().hex().ljust(32, "0")[:32]
