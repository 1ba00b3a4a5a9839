"""The way of a packet between two ends, step by step, until one step fails.

Everything is judged from values: what is wanted, what the kernel was seen to have, which way it
routes, and what other hosts have said.
"""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from netd.model.endpoint import Protocol
from netd.model.explanation import Explanation, Step, StepName
from netd.model.network import Network
from netd.plan import crossing, stations
from netd.plan.compile import needs_routing
from netd.plan.finding import choose, find
from netd.plan.parties import Directory, Ends, Party, share_network
from netd.plan.view import View

_NOT_JUDGED: Final = "not judged: an earlier step failed"

# In this order, so that what is missing is named before what cannot be without it.
_WAY: Final[tuple[tuple[StepName, Callable[[View, Ends], Step]], ...]] = (
    ("policy", stations.policy),
    ("source", stations.source),
    ("route", stations.route),
    ("neighbour", crossing.neighbour),
    ("tunnel", crossing.tunnel),
    ("forwarding", crossing.forwarding),
    ("underlay", crossing.underlay),
)
_END: Final[tuple[StepName, ...]] = ("destination", "return")


def settle(directory: Directory, source: str, destination: str) -> tuple[Ends | None, Step]:
    """Who the two are, and the step that says so."""
    found = []
    for ref in (source, destination):
        parties = find(directory, ref)
        if not parties:
            return None, Step(
                name="name",
                status="failed",
                detail=f"no endpoint, container or host that this host knows is called {ref!r}"
                + _lost(directory, ref),
                remedy="'netctl endpoint ls' and 'netctl member ls' show who there is; give what "
                "is outside by its address",
            )
        network = _inside(directory, parties)
        if network is not None:
            return None, Step(
                name="name",
                status="failed",
                detail=f"nobody that this host knows has {parties[0].name}, an address of network "
                f"{network.name}{_lost(directory, ref)}",
                remedy=f"'netctl endpoint ls --network {network.name}' and 'netctl topology' show "
                "who is there",
            )
        found.append(parties)
    ends = choose(*found)
    if isinstance(ends, str):
        return None, Step(
            name="name",
            status="failed",
            detail=ends,
            remedy="attach both to networks in which they have addresses of the same family",
        )
    return ends, _named(directory, ends)


def explain(
    view: View, ends: Ends, named: Step, *, asked: tuple[str, str], protocol: Protocol
) -> Explanation:
    """The whole way. `named` is the step that `settle` made, `asked` the ends as given."""
    steps = [named]
    if named.status != "failed":
        steps += _until_failure(_judged(view, ends, _WAY))
    if steps[-1].status != "failed":
        steps += _until_failure(_arrival(view, ends))
    done = {step.name for step in steps}
    rest = [name for name, _ in _WAY if name not in done]
    rest += [name for name in _END if name not in done]
    return conclude(
        view.directory,
        [*steps, *(Step(name=name, status="skipped", detail=_NOT_JUDGED) for name in rest)],
        asked=asked,
        protocol=protocol,
        port=view.port,
        unknown=isinstance(view.answer, str),
    )


def conclude(
    directory: Directory,
    steps: list[Step],
    *,
    asked: tuple[str, str],
    protocol: Protocol,
    port: int | None,
    unknown: bool = False,
) -> Explanation:
    """The answer that consists of these steps; `unknown` when nobody could say all of it."""
    failed = next((step.name for step in steps if step.status == "failed"), None)
    return Explanation(
        source=asked[0],
        destination=asked[1],
        protocol=protocol,
        port=port,
        node=directory.members[0].name,
        result="failed" if failed else "unknown" if unknown else "ok",
        failed=failed,
        steps=tuple(steps),
    )


def _named(directory: Directory, ends: Ends) -> Step:
    """Whether a container that looks the name up gets an answer, and which."""
    one, other = ends.source, ends.destination
    if (
        one.kind == "endpoint"
        and other.kind == "endpoint"
        and other.by_name
        and not share_network(one, other)
    ):
        assert one.network is not None
        assert other.network is not None
        return Step(
            name="name",
            status="failed",
            detail=f"{one.name} is on {one.network.name} and does not see the name {other.name}, "
            f"which is on {other.network.name}",
            remedy=f"netctl endpoint attach {other.network.name} --container {one.container_id} "
            "--netns PATH; or explain the way to its address, "
            f"{ends.destination_address}",
        )
    described = (
        stations.described(directory, one, ends.source_address),
        stations.described(directory, other, ends.destination_address),
    )
    return Step(name="name", status="ok", detail="; ".join(described))


def _inside(directory: Directory, parties: Sequence[Party]) -> Network | None:
    """The network that an address belongs to which no party has."""
    if parties[0].kind != "outside":
        return None
    address = ipaddress.ip_address(parties[0].addresses[0])
    for network in directory.networks.values():
        subnets = map(ipaddress.ip_network, network.subnets if needs_routing(network) else ())
        if any(address.version == subnet.version and address in subnet for subnet in subnets):
            return network
    return None


def _lost(directory: Directory, ref: str) -> str:
    """Which dead host had it, or else which hosts are dead: with them, what they had goes out of
    sight.
    """
    for party in find(replace(directory, records=(), remotes=directory.lost), ref):
        host = directory.member(party.member)
        if party.kind == "endpoint" and party.network is not None and host is not None:
            return (
                f"; {host.name}, which is dead since {host.since}, had {party.name} on "
                f"{party.network.name} at {', '.join(party.addresses)}"
            )
    dead = [member.name for member in directory.members if member.state == "dead"]
    return f"; dead are {', '.join(dead)}, and what was on them is not known" if dead else ""


def _judged(
    view: View, ends: Ends, way: tuple[tuple[StepName, Callable[[View, Ends], Step]], ...]
) -> Iterator[Step]:
    for _, judge in way:
        yield judge(view, ends)


def _until_failure(steps: Iterator[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        if step.status == "failed":
            return


def _arrival(view: View, ends: Ends) -> Iterator[Step]:
    """Whether it is received, and whether an answer comes back."""
    back = Ends(
        source=ends.destination,
        destination=ends.source,
        source_address=ends.destination_address,
        destination_address=ends.source_address,
    )
    if ends.destination.member not in ("", view.directory.own):
        yield from _answered(view, ends)
        return
    arrived = stations.source(view, back)
    yield Step(
        name="destination",
        status=arrived.status,
        detail=arrived.detail,
        remedy=arrived.remedy,
    )
    if ends.destination.ns is None and not stations.is_handed_over(ends.destination):
        yield Step(name="return", status="skipped", detail="not needed: no container answers")
        return
    for step in _judged(view, back, _WAY[2:]):
        if step.status == "failed":
            yield Step(
                name="return",
                status="failed",
                detail=f"{step.name} of the answer: {step.detail}",
                remedy=step.remedy,
            )
            return
    name = ends.destination.name
    said = f"{name} has a way back"
    if stations.is_handed_over(ends.destination):
        said = f"nothing is in the way; {name}'s own routes its runtime has set"
    yield Step(name="return", status="ok", detail=said)


def _answered(view: View, ends: Ends) -> Iterator[Step]:
    """What the destination's own host says: whether it is there, and of the way back."""
    member = view.directory.member(ends.destination.member)
    host = member.name if member else ends.destination.member
    answer = view.answer
    if answer is None or isinstance(answer, str):
        why = f"could not be asked: {answer}" if answer else "is the one that asks"
        for name in _END:
            yield Step(name=name, status="skipped", detail=f"{host} {why}")
        return
    failure = next((step for step in answer.steps if step.status == "failed"), None)
    if failure is not None and failure.name in ("name", "source"):
        yield Step(
            name="destination",
            status="failed",
            detail=f"{host} says: {failure.detail}",
            remedy=_there(host, failure.remedy),
        )
        return
    there = next((step.detail for step in answer.steps if step.name == "source"), "it is there")
    yield Step(name="destination", status="ok", detail=f"{host} says: {there}")
    if failure is not None:
        yield Step(
            name="return",
            status="failed",
            detail=f"{host} says of the way back: {failure.name}: {failure.detail}",
            remedy=_there(host, failure.remedy),
        )
        return
    yield Step(name="return", status="ok", detail=f"{host} has the way back")


def _there(host: str, remedy: str) -> str:
    return f"on {host}: {remedy}" if remedy else ""
