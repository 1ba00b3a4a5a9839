"""What an observation sees of the simulated kernel."""

from collections.abc import Set

from msgspec.structs import replace

from netd.engine.interfaces import Scope
from netd.kernel.simulation import Simulation
from netd.plan.objects import (
    HOST,
    HOST_OWNER,
    Address,
    Key,
    Link,
    Object,
    Route,
    Rule,
    SetElement,
    State,
    Sysctl,
    Veth,
)
from netd.plan.tunnels import FdbEntry, Neighbour, Vxlan


def observed(simulation: Simulation, scope: Scope, alive: Set[str]) -> tuple[State, frozenset[Key]]:
    """What there is, as seen from the host, and the keys of what is not netd's and in the way.

    `alive` are the namespaces of the scope that there are.
    """
    state: State = {}
    foreign: set[Key] = set()
    places = alive | {HOST}
    served = _served_bridges(simulation)
    for key, obj in simulation.objects.items():
        want = scope.wanted.get(key)
        if obj.ns not in places:
            continue
        if want is None and not _shows_itself(simulation, obj, served):
            continue
        if simulation.is_own(obj):
            state[key] = _as_seen(simulation, scope, obj, want)
        else:
            foreign.add(key)
    for key, want in scope.wanted.items():
        if isinstance(want, Sysctl) and key not in state and want.ns in places:
            state[key] = replace(want, value="0")  # every parameter has some value
    return state, frozenset(foreign)


def _shows_itself(simulation: Simulation, obj: Object, served: Set[Key]) -> bool:
    """Whether it is seen without being wanted: containers' links and addresses have no tag.

    What a tunnel has, and its bridge, is netd's, whoever made it.
    """
    match obj:
        case FdbEntry():
            return obj.link_key in simulation.tagged
        case Neighbour():
            return obj.link_key in served
        case _:
            pass
    if obj.key not in simulation.tagged or obj.permanent or isinstance(obj, Address):
        return False
    return obj.ns == HOST or isinstance(obj, Route | Rule)


def _served_bridges(simulation: Simulation) -> set[Key]:
    """The bridges of netd's that have a tunnel of netd's as a port."""
    tunnels = [each for each in simulation.of_type(Vxlan) if each.key in simulation.tagged]
    bridges: set[Key] = {(HOST, "link", tunnel.master) for tunnel in tunnels}
    return bridges & simulation.tagged


def _as_seen(simulation: Simulation, scope: Scope, obj: Object, want: Object | None) -> Object:
    link = simulation.objects.get(obj.link_key) if obj.link_key else None
    seen = _without_hidden(obj, want, link.owner if link is not None else HOST_OWNER)
    if isinstance(obj, Veth) and isinstance(want, Veth):
        expected = (want.peer_ns, "link", want.peer_name)
        looked_for = expected in scope.wanted and want.peer_ns in scope.sandboxes
        if looked_for and simulation.peer_of(obj) != expected:
            return replace(seen, peer_name="")
    return seen


def _without_hidden(obj: Object, want: Object | None, link_owner: str) -> Object:
    """What an observer sees: owners only of host links, of a veth's peer that there is one."""
    if want is None or type(want) is not type(obj):
        return obj if isinstance(obj, Link | SetElement) else replace(obj, owner=link_owner)
    match obj, want:
        case Veth(), Veth():
            return replace(
                obj, peer_ns=want.peer_ns, peer_name=want.peer_name, peer_mac=want.peer_mac
            )
        case Rule(), Rule():
            return replace(obj, owner=want.owner, link=want.link)
        case Link(ns=ns), _ if ns == HOST:
            return obj
        case _:
            return replace(obj, owner=want.owner)
