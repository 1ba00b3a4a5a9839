"""A host for engine tests: the fake kernel, the real store, and a clock that stands still."""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from netd.engine.core import Engine
from netd.engine.interfaces import Change, NetworkAuthority, Observation, Scope, Snapshot
from netd.engine.settings import Settings
from netd.kernel.fake import FakeKernel
from netd.kernel.faults import Crash
from netd.kernel.simulated_host import DEFAULT_FACTS
from netd.model.endpoint import AttachRequest, Endpoint, Sandbox
from netd.model.errors import Unavailable
from netd.model.event import Event
from netd.model.network import DriverName, Network, NetworkSpec
from netd.plan.facts import Facts
from netd.plan.objects import State, Sysctl, render
from netd.plan.operations import Failure, Operation
from netd.store.sqlite import SqliteStore
from tests.unit.memory_cluster import MemoryCluster, Mesh

SETTINGS = Settings(node="node-1", version="1", interval_s=3600.0, debounce_s=0.0)
NODE_ID = "5" * 32
DISK_FULL = "the disk is full"

FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
FACTS = replace(DEFAULT_FACTS, sysctls=dict.fromkeys(FORWARDING, "0"))


class ManualClock:
    """Time goes on when told to. Ids look random and are the same in each run."""

    def __init__(self, salt: str = "") -> None:
        self.now_s = 1_700_000_000.0
        self._salt = salt
        self._ids = 0

    def wall_s(self) -> float:
        return self.now_s

    def monotonic_s(self) -> float:
        return self.now_s

    def new_id(self) -> str:
        self._ids += 1
        return hashlib.sha256(f"{self._salt}{self._ids}".encode()).hexdigest()[:16]


class Gate:
    """Somebody waits here until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self.opened.wait()


class GatedKernel(FakeKernel):
    """Calls run at once and in order; the answer to one can be held back."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self.gates: dict[str, Gate] = {}

    @contextmanager
    def hold(self, call: str) -> Iterator[Gate]:
        """Hold back the next answer to `observe`, `apply` or `enter`."""
        gate = self.gates[call] = Gate()
        try:
            yield gate
        finally:
            gate.opened.set()
            self.gates.pop(call, None)

    async def observe(self, scope: Scope) -> Observation:
        answer = await super().observe(scope)
        await self._passed("observe")
        return answer

    async def apply(
        self, operations: Sequence[Operation], sandboxes: Mapping[str, Sandbox]
    ) -> list[Failure]:
        answer = await super().apply(operations, sandboxes)
        await self._passed("apply")
        return answer

    async def enter(self, *, path: str | None, pid: int | None) -> tuple[Sandbox, frozenset[str]]:
        answer = await super().enter(path=path, pid=pid)
        await self._passed("enter")
        return answer

    async def _passed(self, call: str) -> None:
        gate = self.gates.pop(call, None)
        if gate is not None:
            await gate.wait()


class TroubledStore:
    """The real store on a disk that fills up, or under a daemon that dies."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.full = False
        self.crash_before = 0  # the commit, counted from 1, that the daemon dies before
        self.crash_after = 0
        self.gate: Gate | None = None

    async def load(self) -> Snapshot:
        return await self._store.load()

    async def commit(self, change: Change) -> None:
        if self.gate is not None:
            gate, self.gate = self.gate, None
            await gate.wait()
        if self.full:
            raise Unavailable(DISK_FULL)
        if self.crash_before and not self._counted("crash_before"):
            raise Crash("before a commit")
        await self._store.commit(change)
        if self.crash_after and not self._counted("crash_after"):
            raise Crash("after a commit")

    async def close(self) -> None:
        await self._store.close()

    def _counted(self, name: str) -> int:
        left: int = getattr(self, name) - 1
        setattr(self, name, left)
        return left


class Host:
    """One host and its daemon, which can be started, stopped and killed."""

    def __init__(
        self,
        folder: Path,
        mesh: Mesh | None = None,
        *,
        node: str = "node-1",
        node_id: str = NODE_ID,
    ) -> None:
        self.folder = folder
        self.node_id = node_id
        self.boot(FACTS)
        self.clock = ManualClock("" if node == "node-1" else node)
        self.settings = replace(SETTINGS, node=node)
        self.mesh = mesh or Mesh()
        self.make_authority: Callable[[], NetworkAuthority | None] = lambda: None
        self.cluster: MemoryCluster
        self.engine: Engine
        self.store: TroubledStore
        self._seen: list[Event] = []
        self._forgotten = 0  # revision of the last event that no longer counts
        self._news = asyncio.Condition()
        self._tail: asyncio.Task[None] | None = None

    # The daemon's life.

    async def start(self) -> Engine:
        self.store = TroubledStore(await SqliteStore.open(self.folder))
        node = self.settings.node
        self.cluster = self.mesh.node(node, node_id=self.node_id, bound=False)
        self.engine = await Engine.start(
            self.kernel,
            self.store,
            self.clock,
            self.settings,
            self.cluster,
            authority=self.make_authority(),
        )
        self._seen = []
        self._forgotten = 0
        self._count_looks()
        self._tail = asyncio.create_task(self._follow(self.engine))
        return self.engine

    async def stop(self) -> None:
        """An orderly stop."""
        if self._tail is not None:
            await self.engine.stop()
            await self._tail
            self._tail = None

    async def restart(self) -> Engine:
        await self.stop()
        self.kernel.process_ended()
        return await self.start()

    async def killed(self) -> None:
        """The daemon is no more: its tasks and sockets, its lock on the store."""
        parts = self.engine._parts
        await parts.tasks.stop()
        parts.events.close()
        if self._tail is not None:
            await self._tail
            self._tail = None
        await self.died_at_start()

    async def died_at_start(self) -> None:
        """As `killed`, but the daemon had not come so far as to have tasks."""
        self.kernel.faults.clear()
        self.kernel.process_ended()
        await self.store.close()

    async def reboot(self, **facts: Any) -> Engine:
        """The host is booted anew, with other facts."""
        await self.stop()
        self.power_cycle(**facts)
        return await self.start()

    def power_cycle(self, **facts: Any) -> None:
        """Nothing is left in the kernel."""
        self.boot(replace(FACTS, **{"boot_id": "another-boot", **facts}))

    def boot(self, facts: Facts) -> None:
        """A kernel with nothing but what `facts` tell."""
        self.facts = facts
        self.kernel = GatedKernel(facts)

    # What tests do again and again.

    def container(self, name: str = "") -> str:
        """A new container; the path of its network namespace."""
        return self.kernel.container(path=f"/run/netns/{name}" if name else "").path

    async def network(self, name: str, driver: DriverName = "bridge", **more: Any) -> Network:
        network, _ = await self.engine.create_network(NetworkSpec(name=name, driver=driver, **more))
        return network

    async def attach(self, network: str, container: str, **more: Any) -> Endpoint:
        """Attach a container of that name, made when it is not there."""
        path = f"/run/netns/{container}"
        if path not in self.kernel.places:
            self.container(container)
        request = AttachRequest(container_id=container, **{"netns": path, **more})
        endpoint, _ = await self.engine.attach(network, request)
        return endpoint

    def text(self) -> str:
        """All that netd made, but for sysctls and `lo`, which stay as they are for good."""
        return removable(self.kernel)

    async def text_by_store(self) -> str:
        """What the kernel would have if a daemon made everything anew from the store alone."""
        kernel = FakeKernel(self.facts)
        for place in self.kernel.places.values():
            if isinstance(place, Sandbox) and place.path not in kernel.places:
                kernel.places[place.path] = place
                kernel.simulation.add_namespace(place.key)
        with tempfile.TemporaryDirectory() as copy:
            for file in self.folder.iterdir():
                if file.name != "lock":
                    shutil.copy(file, copy)
            store = await SqliteStore.open(Path(copy))
            cluster = Mesh().node("node-1")
            engine = await Engine.start(kernel, store, ManualClock(), self.settings, cluster)
            text = removable(kernel)
            await engine.stop()
        return text

    async def check(self) -> None:
        """The kernel is as wanted, and has nothing that the store does not account for."""
        assert await self.engine.plan() == ()
        assert self.text() == await self.text_by_store()

    def state(self) -> State:
        """All that is in the kernel, whoever made it, with every attribute.

        A parameter that nobody has set has the value 0 here, so those that have it are left out.
        """
        objects = self.kernel.simulation.objects
        return {
            key: obj
            for key, obj in objects.items()
            if not (isinstance(obj, Sysctl) and obj.value == "0")
        }

    async def quiet(self) -> None:
        """Wait until the watch has heard of all that happened so far, and is done with it.

        Raises `Crash` when the daemon died of that.
        """
        await asyncio.sleep(0)  # the kernel's events are on their way
        watch = self.engine._watch
        async with asyncio.timeout(5):
            while watch.waiting or watch._news.is_set() or self._looks:
                await asyncio.sleep(0)
                if self._died:
                    raise Crash("while it looked")

    def _count_looks(self) -> None:
        watch = self.engine._watch
        attempt = watch._attempt

        async def counted(work: Callable[[], Awaitable[None]]) -> None:
            self._looks += 1
            try:
                await attempt(work)
            except Crash:
                self._died = True
                raise
            finally:
                self._looks -= 1

        self._looks = 0  # under way just now
        self._died = False
        watch._attempt = counted  # type: ignore[method-assign]

    # Events.

    @property
    def seen(self) -> list[Event]:
        """The events since the start, or since `forget_events`."""
        return [event for event in self._seen if event.revision > self._forgotten]

    def forget_events(self) -> None:
        self._forgotten = self.engine._parts.events.revision

    async def happened(self, kind: str, detail: str = "", about: str = "") -> Event:
        """Wait for an event, or find it among those since `forget_events`."""

        def found() -> Event | None:
            for event in self.seen:
                if event.type == kind and detail in event.detail and about in ("", event.object):
                    return event
            return None

        async with asyncio.timeout(5), self._news:
            await self._news.wait_for(lambda: found() is not None)
            event = found()
            assert event is not None
            return event

    async def _follow(self, engine: Engine) -> None:
        async for event in engine.events(0):
            async with self._news:
                self._seen.append(event)
                self._news.notify_all()


def removable(kernel: FakeKernel) -> str:
    tagged = kernel.simulation.tagged
    objects = {key: kernel.simulation.objects[key] for key in tagged}
    return render({key: obj for key, obj in objects.items() if not obj.permanent})


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with a running daemon."""
    host = Host(tmp_path / "state")
    await host.start()
    yield host
    await host.stop()


@pytest.fixture
async def new_host(tmp_path: Path) -> AsyncIterator[Callable[[], Host]]:
    """Makes hosts without a daemon, each with a state folder of its own."""
    hosts: list[Host] = []

    def make() -> Host:
        hosts.append(Host(tmp_path / f"state-{len(hosts)}"))
        return hosts[-1]

    yield make
    for host in hosts:
        await host.stop()
