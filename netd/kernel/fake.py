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
from netd.kernel.sight import link_fact, trigger_of
from netd.kernel.simulated_processes import Processes
from netd.kernel.simulated_view import observed
from netd.kernel.simulation import OtherLink, Simulation
from netd.model.endpoint import Sandbox
from netd.model.errors import Invalid, KernelFailure, NotFound
from netd.plan.facts import AddressFact, Echo, Facts, LinkFact, NextHop, RouteFact
from netd.plan.objects import (
    HOST,
    Address,
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
from netd.plan.virtual import Flows

HOST_INODE: Final = 4026531840  # PROC_NET_INIT_INO, include/uapi/linux/nsfs.h
BOOT_ID: Final = "7d1f0a52-5f0c-4c7e-9a44-0f3f7a6f2b11"

DEFAULT_FACTS: Final = Facts(
    node="node-1",
    boot_id=BOOT_ID,
    kernel="6.1.0",
    links=(LinkFact(index=2, name="eth0", mac="02:00:5e:00:00:01"),),
    addresses=(AddressFact(link="eth0", address="192.0.2.10/24"),),
    routes=(RouteFact(destination="0.0.0.0/0", link="eth0", gateway="192.0.2.1"),),
    nameservers=("192.0.2.53",),
    capabilities=frozenset({"nft", "bridge", "veth", "macvlan", "ipvlan", "ifb", "tbf", "vxlan"}),
)

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
        self.announced: list[str] = []
        self.others_ports: set[HeldPort] = set()
        self.by_hand = Hands(self)
        self.faults = Faults()
        self.simulation = Simulation(self._changed)
        self.places: dict[str, Sandbox | FileKind] = {}
        self.processes = Processes()
        self._facts = facts
        self._held: set[HeldPort] = set()
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
        for link in facts.links:
            self._indexes[link.name] = link.index
            if link.name != "lo":
                self.by_hand.put(
                    OtherLink(name=link.name, kind=link.kind, mac=link.mac, mtu=link.mtu)
                )
        for address in facts.addresses:
            self.by_hand.put(Address(link=address.link, address=address.address))
        for route in facts.routes:
            if route.link is not None:
                self.by_hand.put(
                    Route(
                        destination=route.destination,
                        link=route.link,
                        gateway=route.gateway,
                        table=route.table,
                        metric=route.metric or None,
                    )
                )
        for name, value in facts.sysctls.items():
            self.by_hand.put(Sysctl(name=name, value=value))

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
        self._held.clear()
        self._watchers.clear()
        self.processes.forget_watches()

    # The interface.

    async def facts(self) -> Facts:
        await self._called()
        objects = self.simulation
        links = [link for link in objects.of_type(Link) if link.ns == HOST]
        own = [obj for obj in objects.of_type(Route) if obj.ns == HOST]
        return replace(
            self._facts,
            links=tuple(
                link_fact(link, index=self._index(link), ours=link.key in objects.tagged)
                for link in links
            ),
            addresses=tuple(
                AddressFact(link=obj.link, address=obj.address)
                for obj in objects.of_type(Address)
                if obj.ns == HOST
            ),
            routes=tuple(
                RouteFact(
                    destination=obj.destination,
                    link=obj.link,
                    gateway=obj.gateway,
                    table=obj.table,
                    metric=obj.metric or 0,
                )
                for obj in own
            ),
            sysctls={obj.name: obj.value for obj in objects.of_type(Sysctl) if obj.ns == HOST},
        )

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
        taken = [
            port
            for port in ports
            if port not in self._held
            and any(_clash(port, other) for other in self.others_ports | self._held)
        ]
        if not taken:
            self._held.update(ports)
        return taken

    def release_ports(self, ports: Sequence[HeldPort]) -> None:
        self._held.difference_update(ports)

    def busy_ports(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        taken = self.others_ports | self._held
        return [port for port in ports if any(_clash(port, other) for other in taken)]

    async def flush_conntrack(self, ports: Sequence[HeldPort]) -> int:
        await self._called()
        stay = [flow for flow in self.flows if not any(_clash(flow, port) for port in ports)]
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


def _clash(one: HeldPort, other: HeldPort) -> bool:
    """Whether two sockets cannot be bound to these at the same time."""
    return (one.protocol, one.family, one.port) == (other.protocol, other.family, other.port) and (
        one.address == other.address or "" in (one.address, other.address)
    )
