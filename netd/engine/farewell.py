"""The end of an endpoint: what is removed with it, and who takes over its default route."""

from msgspec.structs import replace

from netd.engine.composing import default_families, leads_outside
from netd.engine.intent import Intent
from netd.model.endpoint import EndpointRecord
from netd.plan.diff import diff, removal
from netd.plan.objects import Ifb, Route, Veth, state_of
from netd.plan.operations import Operation
from netd.plan.ports import families


def heirs_of(intent: Intent, record: EndpointRecord) -> tuple[EndpointRecord, ...]:
    """Who takes over the default route: of the container's other endpoints the oldest that
    leaves it to netd whether it has one; nobody if there is none.
    """
    endpoint = record.endpoint
    if not endpoint.default_route or record.sandbox is None:
        return ()
    others = [
        other for other in intent.of_sandbox(record.sandbox.key) if other.endpoint.id != endpoint.id
    ]
    kept = frozenset().union(*(default_families(other.endpoint) for other in others))
    for other in others:
        if (
            other.endpoint.container_id == endpoint.container_id  # whose lock is held
            and other.request.default_route is None
            and not other.endpoint.default_route
            and leads_outside(intent.network(other.endpoint.network_id))
            and not families(other.endpoint.gateways) & kept
        ):
            return (replace(other, endpoint=replace(other.endpoint, default_route=True)),)
    return ()


def farewell(
    intent: Intent, record: EndpointRecord, reason: str, heirs: tuple[EndpointRecord, ...]
) -> list[Operation]:
    """What removes the endpoint's objects, and makes its heirs' as they have to be now.

    The heirs are in intent from here on.
    """
    objects = intent.desired.of(record.endpoint.id)
    operations = [_retiring(op) for op in removal(objects, reason)]
    for heir in heirs:
        # A retired link stays for a moment, and so would its default route, in the way.
        first = [obj for obj in objects if isinstance(obj, Route) and obj.ns]
        operations[:0] = [Operation(verb="delete", object=obj, reason=reason) for obj in first]
        before = state_of(intent.desired.of(heir.endpoint.id))
        intent.add_endpoint(heir)
        operations += diff(state_of(intent.desired.of(heir.endpoint.id)), before)
    return operations


def _retiring(operation: Operation) -> Operation:
    """Removing a link is slow, so detach cuts it off and leaves the removal to the reaper."""
    if operation.verb == "delete" and isinstance(operation.object, Veth | Ifb):
        return replace(operation, verb="retire")
    return operation
