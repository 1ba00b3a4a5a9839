"""Calls about who is connected with whom, and by which way."""

from typing import Annotated, Final

import msgspec

from netd.api.call import Call, Nothing, Reply
from netd.api.routing import AnyRoute, Route
from netd.model.endpoint import PortNumber, Protocol
from netd.model.errors import KernelFailure
from netd.model.explanation import Explanation
from netd.model.topology import Topology

_Ref = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Ends(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two ends: endpoints by id, name or `name.network`, containers, hosts, or addresses."""

    source: _Ref = msgspec.field(name="from")
    destination: _Ref = msgspec.field(name="to")
    protocol: Protocol = "tcp"
    port: PortNumber | None = None


async def explain(call: Call[Ends, Nothing]) -> Reply:
    asked = call.query
    return Reply(
        200,
        await call.cases.explain(asked.source, asked.destination, asked.protocol, asked.port),
    )


async def topology(call: Call[Nothing, Nothing]) -> Reply:
    return Reply(200, call.cases.topology())


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/explain",
        handler=explain,
        summary="Explain the way between two ends, step by step",
        query=Ends,
        answer=Explanation,
        statuses={200: "The steps; that one fails is an answer too"},
        errors=(KernelFailure,),
    ),
    Route(
        method="GET",
        path="/v1/topology",
        handler=topology,
        summary="Hosts, networks and endpoints, as far as this host knows",
        answer=Topology,
        statuses={200: "All three"},
    ),
)
