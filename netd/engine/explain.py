"""Explains the way between two ends: gathers what `plan.explain` judges, and asks other hosts.

The source's host explains the whole way; the destination's host is asked for the way back.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from netd.engine.cluster import Membership
from netd.engine.interfaces import Cluster, Scope
from netd.engine.overlay.overlays import Overlays
from netd.engine.overlay.remotes import HOST_ITSELF, Key
from netd.engine.parts import Parts
from netd.engine.tunnel_doctor import Trial, try_tunnel
from netd.model.endpoint import Protocol
from netd.model.errors import NetdError
from netd.model.explanation import Explanation, Step, Way
from netd.model.overlay import RemoteEndpoint
from netd.plan.explain import conclude, explain, settle
from netd.plan.facts import NextHop
from netd.plan.finding import through_port, with_own_address
from netd.plan.host import node_addresses
from netd.plan.objects import HOST
from netd.plan.parties import Directory, Ends, Opened, Remote, underlay_address
from netd.plan.passage import port_element
from netd.plan.view import View

TOPIC: Final = "explain"  # what hosts ask each other
REPLY_S: Final = 3.0
WHOLE_S: Final = 8.0  # of which the host that is asked may need as much for another's answer


class Explainer:
    """Use case `explain`. Nothing that another host says makes it raise."""

    def __init__(
        self, parts: Parts, cluster: Cluster, membership: Membership, overlays: Overlays
    ) -> None:
        self._parts = parts
        self._cluster = cluster
        self._membership = membership
        self._overlays = overlays

    def start(self) -> None:
        """Answer other hosts' questions from now on."""
        self._cluster.answer(TOPIC, self._answer)

    def directory(self) -> Directory:
        """All that can be at an end of a way."""
        intent, overlays = self._parts.intent, self._overlays
        networks = {network.id: network for network in overlays.networks()} | intent.networks
        opened = [
            Opened(member=member, network_id=network_id, vtep=vtep)
            for network_id in networks
            for member, vtep in overlays.peers.vteps(network_id).items()
        ]
        members = self._membership.members()
        opened += [
            Opened(member=members[0].id, network_id=network_id, vtep=vtep)
            for network_id, vtep in overlays.openings.told.items()
        ]
        return Directory(
            zone=self._parts.settings.zone,
            members=members,
            host_addresses=node_addresses(self._parts.facts),
            networks=networks,
            records=tuple(intent.records.values()),
            remotes=_remotes(overlays.remotes.endpoints()),
            lost=_remotes(overlays.lost.endpoints()),
            opened=tuple(opened),
        )

    async def explain(
        self, source: str, destination: str, protocol: Protocol, port: int | None
    ) -> Explanation:
        """The whole way. Raises `KernelFailure` when the kernel cannot be read."""
        way = Way(source=source, destination=destination, protocol=protocol, port=port)
        directory = self.directory()
        ends, named = settle(directory, source, destination)
        if ends is None or named.status == "failed":
            return self._ended(directory, named, way)
        if ends.source.kind == "endpoint" and ends.source.member != directory.own:
            return await self._elsewhere_explained(directory, ends, named, way)
        return await self._explain(directory, ends, named, way)

    async def _answer(self, _member: str, body: bytes) -> bytes:
        """What another host asks: explained from here. For a reply, nobody else is asked."""
        way = msgspec.json.decode(body, type=Way)
        directory = self.directory()
        ends, named = settle(directory, way.source, way.destination)
        if ends is None:
            return msgspec.json.encode(self._ended(directory, named, way))
        return msgspec.json.encode(await self._explain(directory, ends, named, way))

    async def _elsewhere_explained(
        self, directory: Directory, ends: Ends, named: Step, way: Way
    ) -> Explanation:
        """The way as the source's host sees it."""
        exact = replace(
            way,
            source=ends.source.id or ends.source_address,
            destination=ends.destination.id or ends.destination_address,
        )
        answer = await self._ask(ends.source.member, exact, WHOLE_S)
        if isinstance(answer, Explanation):
            return replace(answer, source=way.source, destination=way.destination)
        member = directory.member(ends.source.member)
        host = member.name if member else ends.source.member
        detail = f"{host}, where {ends.source.name} is, could not be asked: {answer}"
        step = Step(name="source", status="skipped", detail=detail)
        return conclude(
            directory,
            [named, step],
            asked=(way.source, way.destination),
            protocol=way.protocol,
            port=way.port,
            unknown=True,
        )

    async def _explain(
        self, directory: Directory, ends: Ends, named: Step, way: Way
    ) -> Explanation:
        wanted = self._parts.intent.desired.state
        published = None
        if ends.destination.kind == "host" and ends.destination.member == directory.own:
            published = port_element(wanted, ends.destination_address, way.protocol, way.port)
        if published is not None:
            ends = through_port(directory, ends, published)
        ends = with_own_address(directory, ends)
        view = await self._look(directory, ends, way)
        answer: Explanation | str | None = None
        if not way.reply and ends.destination.member not in ("", directory.own):
            back = Way(
                source=ends.destination.id or ends.destination_address,
                destination=ends.source_address,
                protocol=way.protocol,
                reply=True,
            )
            answer = await self._ask(ends.destination.member, back, REPLY_S)
        trial = await self._try(view, ends) if not way.reply else None
        view = replace(
            view,
            published=published,
            answer=answer,
            small=trial.small if trial else None,
            full=trial.full if trial else None,
            plain=trial.plain if trial else None,
        )
        return explain(
            view,
            ends,
            named,
            asked=(way.source, way.destination),
            protocol=way.protocol,
        )

    async def _look(self, directory: Directory, ends: Ends, way: Way) -> View:
        """What the kernel has, and which way it sends what goes between the two."""
        parts = self._parts
        both = (ends.source, ends.destination)
        records = [party.record for party in both if party.ns is not None]
        boxes = [record.sandbox for record in records if record is not None]
        sandboxes = {box.key: box for box in boxes if box is not None}
        wanted = {
            key: obj
            for key, obj in parts.intent.desired.state.items()
            if obj.ns == HOST or obj.ns in sandboxes
        }
        parts.facts = await parts.kernel.facts()
        seen = await parts.kernel.observe(Scope(sandboxes=sandboxes, wanted=wanted))
        hops: dict[tuple[str, str], NextHop | None] = {}
        for one, target, source in (
            (ends.source, ends.destination_address, ends.source_address),
            (ends.destination, ends.source_address, ends.destination_address),
        ):
            if one.ns is not None and one.ns not in seen.missing:
                box = sandboxes[one.ns]
                hops[one.ns, target] = await parts.kernel.next_hop(box, target, source)
            hops[HOST, target] = await parts.kernel.next_hop(None, target)
        for party in both:
            member = directory.member(party.member)
            if member is not None and (address := underlay_address(member)):
                hops[HOST, address] = await parts.kernel.next_hop(None, address)
        return View(
            directory=directory,
            wanted=wanted,
            seen=seen.state,
            missing=seen.missing,
            foreign=seen.foreign,
            facts=parts.facts,
            hops=hops,
            port=way.port,
            reply=way.reply,
        )

    async def _try(self, view: View, ends: Ends) -> Trial | None:
        """Whether packets pass the tunnel to the destination's host."""
        network, own = ends.destination.network, view.directory.own
        member = view.directory.member(ends.destination.member)
        if network is None or member is None or member.id == own:
            return None
        vtep = view.directory.vtep(member.id, network.id)
        if vtep is None or view.directory.vtep(own, network.id) is None:
            return None
        is_ipv6 = ":" in ends.destination_address
        address = next((text for text in vtep.addresses if (":" in text) == is_ipv6), None)
        if address is None:
            return None
        return await try_tunnel(self._parts.kernel, member, network, address.partition("/")[0])

    async def _ask(self, member: str, way: Way, timeout_s: float) -> Explanation | str:
        """What that host says; why it could not be asked."""
        try:
            body = await self._cluster.ask(member, TOPIC, msgspec.json.encode(way), timeout_s)
            return msgspec.json.decode(body, type=Explanation)
        except NetdError as error:
            return error.detail
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return "its answer cannot be read"

    def _ended(self, directory: Directory, named: Step, way: Way) -> Explanation:
        return conclude(
            directory,
            [named],
            asked=(way.source, way.destination),
            protocol=way.protocol,
            port=way.port,
        )


def _remotes(endpoints: Iterable[tuple[Key, RemoteEndpoint]]) -> tuple[Remote, ...]:
    """Those of `endpoints` that are containers', not hosts'."""
    return tuple(
        Remote(member=key.member, network_id=key.network_id, id=key.endpoint_id, endpoint=endpoint)
        for key, endpoint in endpoints
        if key.endpoint_id != HOST_ITSELF
    )
