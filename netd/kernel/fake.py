"""A kernel in memory, for tests of everything above the kernel.

It keeps to the same contract as the real one, which tests/contract proves by asking both
the same questions. Besides, it can fail and crash on demand, lose events, and be changed
behind netd's back.
"""

import asyncio
import errno
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from msgspec.structs import replace

from netd.engine.interfaces import Observation, Scope, Trigger, WatchedProcess
from netd.kernel.faults import Faults
from netd.kernel.hands import Hands
from netd.kernel.refusal import Refused
from netd.kernel.routing import next_hop
from netd.kernel.sight import trigger_of
from netd.kernel.simulated_host import DEFAULT_FACTS, host_facts, host_objects
from netd.kernel.simulated_ports import Ports, clash
from netd.kernel.simulated_processes import Processes
from netd.kernel.simulated_view import observed
from netd.kernel.simulation import Simulation
from netd.model.endpoint import Sandbox
from netd.model.errors import Invalid, KernelFailure, NotFound
from netd.plan.facts import Echo, Facts, NextHop
from netd.plan.objects import (
    HOST,
    Key,
    Link,
    Loopback,
    Macvlan,
    Object,
    Redirect,
    Route,
    Rule,
    SetElement,
    Shaper,
    Sysctl,
    Veth,
    VethPeer,
    render,
)
from netd.plan.operations import Failure, Operation
from netd.plan.ports import HeldPort
from netd.plan.tunnels import FdbEntry, Neighbour
from netd.plan.underlay import Ways
from netd.plan.virtual import Flows

HOST_INODE: Final = 4026531840  # PROC_NET_INIT_INO, include/uapi/linux/nsfs.h
FileKind = Literal["file", "directory", "fifo", "mount namespace"]
Events = Literal["delivered", "lost", "silent"]

# These are there already, and `add` sets what they should be.
_SET_BY_ADD = (VethPeer, Loopback, Sysctl, Shaper, Redirect, SetElement, FdbEntry, Neighbour)

REAP: Final = "remove retired links"

_PROC_PATH = re.compile(r"/proc/([1-9][0-9]{0,6})/ns/net")


class FakeKernel:
    """`netd.engine.interfaces.Kernel` in memory.

    `operations` lists the texts of all executed operations, those that failed included.
    `events` says what becomes of triggers: "lost" delivers one of kind `lost` in the place of
    each, "silent" none. While `down` is not empty, every call raises `KernelFailure` with it.
    `translated` has a flow to each target of a virtual address, `forgotten` what was asked to be
    forgotten of them.
    `echoes` has the addresses that answer, each with the largest packet that gets there,
    `announced` the addresses that were announced.
    """

    def __init__(self, facts: Facts = DEFAULT_FACTS) -> None:
        self.operations: list[str] = []
        self.events: Events = "delivered"
        self.down = ""
        self.flows: list[HeldPort] = []
        self.translated: list[Flows] = []
        self.forgotten: list[Flows] = []
        self.echoes: dict[str, int] = {}
        self.route_mtus: dict[str, int] = {}  # of ways whose routes have one of their own
        self.announced: list[str] = []
        self.ports = Ports()
        self.by_hand = Hands(self)
        self.faults = Faults()
        self.simulation = Simulation(self._changed)
        self.places: dict[str, Sandbox | FileKind] = {}
        self.processes = Processes()
        self._facts = facts
        self._retired: dict[Key, Link] = {}
        self._watchers: dict[int, tuple[asyncio.AbstractEventLoop, Callable[[Trigger], None]]] = {}
        self._numbers = itertools.count(1)
        self._indexes: dict[str, int] = {}
        self._nsids: dict[str, int] = {}
        self._boot(facts)

    def _boot(self, facts: Facts) -> None:
        host = Sandbox(path="/proc/1/ns/net", inode=HOST_INODE, boot_id=facts.boot_id, pid=1)
        self.places[host.path] = self.places["/proc/self/ns/net"] = host
        self.simulation.add_namespace(HOST)
        self.by_hand.set_link("lo", up=True)
        self._indexes.update((link.name, link.index) for link in facts.links)
        for obj in host_objects(facts):
            self.by_hand.put(obj)

    # What tests look at and arrange.

    def text(self) -> str:
        """All that netd made, one object a line."""
        tagged = self.simulation.tagged
        return render({key: self.simulation.objects[key] for key in tagged})

    def container(self, *, pid: int | None = None, path: str = "") -> Sandbox:
        """A new network namespace, at `path` or at the process's; it has only `lo`."""
        number = next(self._numbers)
        if not path:
            path = f"/run/netns/c{number}" if pid is None else f"/proc/{pid}/ns/net"
        sandbox = Sandbox(
            path=path,
            inode=HOST_INODE + number,
            cookie=4096 + number,
            boot_id=self._facts.boot_id,
            pid=pid,
            pid_start_ticks=None if pid is None else 1000 + number,
        )
        self.places[path] = sandbox
        self.simulation.add_namespace(sandbox.key)
        return sandbox

    def process_ended(self) -> None:
        """What the kernel does when the daemon dies: its sockets are closed."""
        self.ports.release_all()
        self._watchers.clear()
        self.processes.forget_watches()

    # The interface.

    async def facts(self) -> Facts:
        await self._called()
        return host_facts(self.simulation, self._index, self._facts)

    async def enter(self, *, path: str | None, pid: int | None) -> tuple[Sandbox, frozenset[str]]:
        await self._called()
        if path is None:
            path = f"/proc/{pid}/ns/net"
        elif not path.startswith("/"):
            raise Invalid(f"{path!r} is not an absolute path", field="netns")
        of_process = _PROC_PATH.fullmatch(path) is not None
        place = self.places.get(path)
        if place is None:
            what = f"there is no process at {path}" if of_process else f"{path!r} does not exist"
            raise NotFound(what, field="pid" if of_process else "netns")
        if not isinstance(place, Sandbox):
            raise Invalid(f"{path!r} is not a network namespace", field="netns")
        ns = self._namespace(place)
        links = {obj.name for obj in self.simulation.of_type(Link) if obj.ns == ns}
        for link in self._retired.values():
            if isinstance(link, Veth) and link.peer_ns == ns:
                links.add(link.peer_name)  # it is there until the pair is removed
        return place, frozenset(links)

    def own_sandbox_inode(self) -> int:
        return HOST_INODE

    async def alive(self, sandbox: Sandbox) -> bool:
        await self._called()
        return self._is_alive(sandbox)

    async def observe(self, scope: Scope) -> Observation:
        await self._called()
        alive = {key for key, box in scope.sandboxes.items() if self._is_alive(box)}
        for obj in scope.wanted.values():
            if obj.ns in alive:
                self._make_heard(obj)
        state, foreign = observed(self.simulation, scope, alive)
        return Observation(
            state=state,
            missing=frozenset(scope.sandboxes.keys() - alive),
            foreign=foreign,
            retired=len(self._retired),
            nsids=self._seen_nsids(),
        )

    async def apply(
        self, operations: Sequence[Operation], sandboxes: Mapping[str, Sandbox]
    ) -> list[Failure]:
        await self._called()
        failures = []
        for operation in operations:
            self.operations.append(operation.text())
            try:
                self.faults.before(operation.text())
                self._run(operation, sandboxes)
            except Refused as refused:
                failures.append(
                    Failure(operation=operation, errno=refused.errno, message=str(refused))
                )
            self.faults.after()
        return failures

    async def reap(self) -> int:
        await self._called()
        if not self._retired:
            return 0
        self.operations.append(REAP)
        try:
            self.faults.before(REAP)
        except Refused as refused:
            raise KernelFailure(f"{REAP}: {refused}") from refused
        number = len(self._retired)
        self._retired.clear()
        self.faults.after()
        return number

    def hold_ports(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        return self.ports.hold(ports)

    def release_ports(self, ports: Sequence[HeldPort]) -> None:
        self.ports.release(ports)

    def busy_ports(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        return self.ports.busy(ports)

    async def flush_conntrack(self, ports: Sequence[HeldPort]) -> int:
        await self._called()
        stay = [flow for flow in self.flows if not any(clash(flow, port) for port in ports)]
        number = len(self.flows) - len(stay)
        self.flows = stay
        return number

    async def forget_flows(self, flows: Sequence[Flows]) -> int:
        await self._called()
        self.forgotten += flows
        gone = [each for each in self.translated if any(_is_of(each, some) for some in flows)]
        self.translated = [each for each in self.translated if each not in gone]
        return len(gone)

    async def next_hop(
        self, sandbox: Sandbox | None, destination: str, source: str | None = None
    ) -> NextHop | None:
        await self._called()
        if sandbox is None:
            return next_hop(self.simulation, HOST, destination, source)
        if not self._is_alive(sandbox):
            return None
        return next_hop(self.simulation, self._namespace(sandbox), destination, source)

    async def mtus_to(self, addresses: Sequence[str]) -> dict[str, int]:
        await self._called()
        ways = Ways(host_facts(self.simulation, self._index, self._facts))
        found = {each: self.route_mtus.get(each) or ways.mtu_to(each) for each in addresses}
        return {each: mtu for each, mtu in found.items() if mtu is not None}

    async def echo(self, address: str, size: int, timeout_s: float) -> Echo:
        await self._called()
        return Echo(rtt_ms=0.2 if size <= self.echoes.get(address, 0) else None)

    async def announce(self, neighbours: Sequence[Neighbour]) -> None:
        await self._called()
        self.announced += [neighbour.address for neighbour in neighbours]

    def watch(self, notify: Callable[[Trigger], None]) -> Callable[[], None]:
        number = next(self._numbers)
        self._watchers[number] = (asyncio.get_running_loop(), notify)

        def stop() -> None:
            self._watchers.pop(number, None)

        return stop

    def watch_process(
        self, pid: int, start_ticks: int | None, ended: Callable[[], None]
    ) -> WatchedProcess:
        return self.processes.watch(pid, start_ticks, ended)

    # How it works.

    async def _called(self) -> None:
        await asyncio.sleep(0)  # the real one answers later, too
        if self.down:
            raise KernelFailure(self.down)

    def _namespace(self, sandbox: Sandbox) -> str:
        """The key its objects have here."""
        return HOST if sandbox.inode == HOST_INODE else sandbox.key

    def _is_alive(self, sandbox: Sandbox) -> bool:
        return self.places.get(sandbox.path) == sandbox

    def _run(self, operation: Operation, sandboxes: Mapping[str, Sandbox]) -> None:
        obj = operation.object

        def reachable(ns: str) -> bool:
            return ns == HOST or (ns in sandboxes and self._is_alive(sandboxes[ns]))

        match operation.verb:
            case "delete" | "retire":
                if reachable(obj.ns) and not obj.permanent:
                    self._remove(obj, later=operation.verb == "retire")
            case _ if not reachable(obj.ns):
                raise Refused(errno.ENOENT)
            case "add" if isinstance(obj, Veth) and not reachable(obj.peer_ns):
                raise Refused(errno.ENOENT)
            case _ if self.simulation.is_on_a_strangers_link(obj):
                raise Refused(errno.EPERM)
            case verb if obj.key not in self.simulation.objects and (
                verb == "add" or isinstance(obj, Sysctl | FdbEntry | Neighbour)
            ):
                self._make_heard(obj)
                self.simulation.add(obj)
            case _ if obj.key not in self.simulation.objects:
                raise Refused(errno.ENODEV if isinstance(obj, Link) else errno.ENOENT)
            case verb if not self.simulation.is_own(obj):
                raise Refused(errno.EEXIST if verb == "add" else errno.EPERM)
            case "add" if not isinstance(obj, _SET_BY_ADD):
                pass
            case _:
                self.simulation.change(obj)
                self.simulation.tagged.add(obj.key)

    def _remove(self, obj: Object, *, later: bool) -> None:
        """Remove what is netd's; what is not there, or a veth's other end, needs no removal."""
        now = self.simulation.objects.get(obj.key)
        if now is None or isinstance(now, VethPeer):
            return
        if isinstance(now, Route | Rule) and now.key not in self.simulation.tagged:
            return  # the kernel compares the protocol number: there is none of netd's
        if isinstance(now, FdbEntry | Neighbour) and self.simulation.is_on_a_strangers_link(now):
            return
        if not self.simulation.is_own(obj):
            raise Refused(errno.EPERM)
        self.simulation.delete(obj.key)
        if later and isinstance(now, Link):
            self._retired[now.key] = now

    def namespace_ended(self, sandbox: Sandbox) -> None:
        """The last process of the namespace has ended, and nothing else holds it."""
        del self.places[sandbox.path]
        ns = self._namespace(sandbox)
        self.simulation.delete_namespace(ns)
        self._retired = {
            key: link
            for key, link in self._retired.items()
            if not (isinstance(link, Veth) and link.peer_ns == ns)
        }

    def _index(self, link: Link) -> int:
        return self._indexes.setdefault(link.name, 100 + next(self._numbers))

    def _seen_nsids(self) -> dict[int, frozenset[str]]:
        found: defaultdict[int, set[str]] = defaultdict(set)
        for veth in self.simulation.of_type(Veth):
            if veth.peer_ns == HOST:
                continue
            found[self._nsids[veth.peer_ns]].add(veth.name)
        return {nsid: frozenset(names) for nsid, names in found.items()}

    def _make_heard(self, obj: Object) -> None:
        """Give the namespace of a macvlan, to which no veth may lead, an id on the host."""
        if isinstance(obj, Macvlan) and obj.ns != HOST:
            self._nsids.setdefault(obj.ns, len(self._nsids))

    def _changed(self, verb: Literal["new", "delete"], obj: Object) -> None:
        if isinstance(obj, Veth) and obj.peer_ns != HOST:
            self._nsids.setdefault(obj.peer_ns, len(self._nsids))
        nsid = self._nsids.get(obj.ns, -1)
        trigger = trigger_of(verb, obj, nsid)
        if trigger is None or self.events == "silent" or not (trigger.host or nsid >= 0):
            return  # of a namespace without an id nothing is heard
        if self.events == "lost":
            trigger = Trigger(kind="lost", verb="new")
        for loop, notify in self._watchers.values():
            loop.call_soon(notify, trigger)


def _is_of(flow: Flows, some: Flows) -> bool:
    return flow == some or (
        not some.target and flow == replace(some, target=flow.target, target_port=flow.target_port)
    )
