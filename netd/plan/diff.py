"""The difference between how the kernel should be and how it is, as ordered operations."""

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence

from netd.plan.objects import (
    Address,
    Bridge,
    Key,
    LinkSysctl,
    Macvlan,
    Object,
    Redirect,
    Route,
    SetElement,
    State,
    Sysctl,
    Veth,
    VethPeer,
)
from netd.plan.operations import Operation
from netd.plan.tunnels import FdbEntry, Neighbour, Vxlan


def diff(
    desired: State, observed: State, *, owners: Container[str] | None = None
) -> list[Operation]:
    """What turns `observed` into `desired`: deletions first, then creations by rank.

    `observed` holds objects with netd's tag, and untagged ones only where `desired` has the
    same key. Only objects whose owner is in `owners` are looked at, all when it is None; but
    what an operation takes along is made anew whoever owns it.
    A link of the wrong kind is deleted and made anew, and so is all that lives on it.
    """

    def concerned(obj: Object) -> bool:
        return owners is None or obj.owner in owners

    deletes = []
    for key, has in observed.items():
        want = desired.get(key)
        if want is None:
            if concerned(has) and not has.permanent:
                deletes.append(Operation(verb="delete", object=has, reason="not wanted"))
        elif type(want) is not type(has) and concerned(want):
            reason = f"is a {type(has).__name__.lower()}"
            deletes.append(Operation(verb="delete", object=has, reason=reason))

    links = {op.object.key for op in deletes}
    deletes = [op for op in deletes if not _dies_with(op.object, links)]
    deletes.sort(key=lambda op: (-op.object.rank, op.object.key))

    gone = {key for op in deletes for key in _taken_by(op)}
    operations = deletes
    # No object stands on one of its own rank.
    for rank in _by_rank(desired):
        creations = []
        for key, want in rank:
            now = observed.get(key)
            if now is not None and gone and not gone.isdisjoint((key, *_ground_of(want))):
                creations.append(Operation(verb="add", object=want, reason="went with another"))
            elif want is now or want == now or not concerned(want):
                continue
            elif now is None:
                creations.append(Operation(verb="add", object=want, reason="missing"))
            elif reason := difference(want, now):
                creations.append(Operation(verb="change", object=want, reason=reason, was=now))
        creations.sort(key=lambda op: (_order(op.object), op.object.key))
        gone.update(key for op in creations for key in _taken_by(op))
        operations += creations
    return _with_ipv6_first(operations)


def _with_ipv6_first(operations: list[Operation]) -> list[Operation]:
    """The same, with containers' links that are up changed before parameters of links are set.

    A link has parameters of IPv6 only with an MTU that is large enough for it. One that comes up
    has them set before.
    """
    at = next((at for at, op in enumerate(operations) if isinstance(op.object, LinkSysctl)), None)
    if at is None:
        return operations
    early: list[Operation] = []
    late: list[Operation] = []
    for op in operations[at:]:
        is_up = op.verb == "change" and isinstance(op.was, VethPeer) and op.was.up
        (early if is_up else late).append(op)
    return [*operations[:at], *early, *late]


def _by_rank(state: State) -> Iterator[list[tuple[Key, Object]]]:
    """The state in pieces, the lowest rank first."""
    pieces: defaultdict[int, list[tuple[Key, Object]]] = defaultdict(list)
    for key, obj in state.items():
        pieces[obj.rank].append((key, obj))
    return (pieces[rank] for rank in sorted(pieces))


def difference(want: Object, now: Object) -> str:
    """Say in which managed attributes `now` is not as wanted; "" when it is.

    An attribute that is None in `want` is left to the kernel. A ruleset's script is
    represented by its digest.
    """
    differing = []
    for name in want.__struct_fields__:
        wanted = getattr(want, name)
        if wanted is None or name == "script":
            continue
        actual = getattr(now, name)
        if wanted != actual:
            differing.append(f"{name} is {actual}, not {wanted}")
    return "; ".join(differing)


def creation(objects: Sequence[Object], reason: str) -> list[Operation]:
    """The operations that make `objects` where none of them exists yet."""
    ordered = sorted(objects, key=_order)
    return [Operation(verb="add", object=obj, reason=reason) for obj in ordered]


def removal(objects: Sequence[Object], reason: str) -> list[Operation]:
    """The operations that remove `objects`; what lives on a removed link goes with it."""
    links = {obj.key for obj in objects}
    ordered = sorted(objects, key=lambda obj: -obj.rank)
    return [
        Operation(verb="delete", object=obj, reason=reason)
        for obj in ordered
        if not obj.permanent and not _dies_with(obj, links)
    ]


def _order(obj: Object) -> tuple[int, bool]:
    """What creations are sorted by: the rank, and forwarding after the other parameters.

    As the host begins to forward, Linux drops the default routes of links whose accept_ra is
    not yet 2: rt6_purge_dflt_routers() in net/ipv6/route.c.
    """
    return obj.rank, isinstance(obj, Sysctl) and obj.name.endswith("/forwarding")


def _dies_with(obj: Object, links: Container[Key]) -> bool:
    link = obj.link_key
    return link is not None and link in links


def _ground_of(obj: Object) -> list[Key]:
    """What `obj` stands on, as `_taken_by` names it: without one of these it may be gone."""
    ground: list[Key] = [] if obj.link_key is None else [obj.link_key]
    match obj:
        case Route():
            # Linux drops routes with the last address of their link, or with their source.
            ground.append((obj.ns, "address", obj.link))
        case Redirect():
            ground.append((obj.ns, "link", obj.target))
        case FdbEntry():
            ground.append((obj.ns, "port", obj.link))
        case Neighbour():
            ground.append((obj.ns, "mac", obj.link))
        case _:
            pass
    return ground


def _taken_by(operation: Operation) -> set[Key]:
    """What the operation removes, or makes anew and empty, besides what it is for."""
    obj = operation.object
    match obj, operation.verb:
        case Address(), "delete":
            return {obj.key, (obj.ns, "address", obj.link)}
        case Veth(), "add":
            return {(obj.peer_ns, "link", obj.peer_name)}
        case ((Macvlan() | Vxlan()), "change") if is_made_anew(obj, operation.was):
            return {obj.key}
        case Vxlan(), "change" if _differs(obj, operation.was, "master"):
            return {(obj.ns, "port", obj.name)}  # the bridge's half of forwarding entries
        case Bridge(), "change" if _differs(obj, operation.was, "mac"):
            return {(obj.ns, "mac", obj.name)}  # neigh_changeaddr() in net/core/neighbour.c
        case ((FdbEntry() | Neighbour() | SetElement()), "delete"):
            return set()  # nothing stands on these, of which there are thousands
        case _, "delete":
            return {obj.key}
        case _:
            return set()


def is_made_anew(want: Object, now: Object | None) -> bool:
    """Whether they differ in what the kernel settles when the link is made."""
    match want, now:
        case Macvlan(), Macvlan():
            return (want.kind, want.parent, want.mode) != (now.kind, now.parent, now.mode)
        case Vxlan(), Vxlan():
            return (want.vni, want.port, want.family) != (now.vni, now.port, now.family)
        case _:
            return False


def _differs(want: Object, now: Object | None, attribute: str) -> bool:
    return now is not None and getattr(want, attribute) != getattr(now, attribute)
