"""The container that an attach is for: its namespace, and what netd knows of it already."""

from netd.engine.parts import Parts
from netd.model.endpoint import AttachRequest, EndpointRecord, Sandbox
from netd.model.errors import Conflict, Invalid
from netd.model.network import Network
from netd.plan.addresses import parse_address, parse_mac


class Containers:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def enter(
        self, network: Network, request: AttachRequest
    ) -> tuple[Sandbox | None, frozenset[str]]:
        """The namespace asked for, checked against what the driver needs, and its links."""
        if request.netns is None and request.pid is None:
            return None, frozenset()
        kernel = self._parts.kernel
        sandbox, links = await kernel.enter(path=request.netns, pid=request.pid)
        field = "netns" if request.pid is None else "pid"
        is_host = sandbox.inode == kernel.own_sandbox_inode()
        if network.driver == "host":
            if not is_host:
                raise Invalid(
                    f"{sandbox.path} is not the host's network namespace, which a host network "
                    "needs",
                    field=field,
                )
            return sandbox, frozenset()
        if is_host:
            raise Invalid(
                f"{sandbox.path} is the host's own network namespace; only a host network takes it",
                field=field,
            )
        return sandbox, links if network.driver != "none" else frozenset()

    async def free_ifname(self, network: Network, request: AttachRequest) -> None:
        """Make sure that the interface name is free: it may be on a link being removed."""
        await self._parts.reaper.remove_now()
        _, links = await self.enter(network, request)
        if request.ifname in links:
            raise Conflict(
                f"the container has an interface {request.ifname!r} already; choose another ifname",
                field="ifname",
            )

    async def is_stale(self, record: EndpointRecord, sandbox: Sandbox | None) -> bool:
        """Whether the endpoint of this key belongs to an earlier life of the container."""
        if record.sandbox is None or sandbox is None:
            return False
        if (record.sandbox.inode, record.sandbox.cookie) == (sandbox.inode, sandbox.cookie):
            return False
        return not await self._parts.kernel.alive(record.sandbox)


def check_same(record: EndpointRecord, request: AttachRequest, sandbox: Sandbox | None) -> None:
    """Raise `Conflict` unless the request asks for what the endpoint of its key is.

    What was changed since may be asked for as it was at first, or as it is now.
    """
    known = record.sandbox
    if sandbox and known and (sandbox.inode, sandbox.cookie) != (known.inode, known.cookie):
        raise Conflict(
            f"container {request.container_id!r} is attached to network "
            f"{record.endpoint.network!r} in another namespace, {known.path} "
            f"(endpoint {record.endpoint.id}); detach it first",
            field="netns" if request.pid is None else "pid",
        )
    first = _comparable(record.request)
    asked = _comparable(request)
    for field, value in asked.items():
        if value not in (first[field], _now(record, field, first[field])):
            raise Conflict(
                f"container {request.container_id!r} is attached to network "
                f"{record.endpoint.network!r} as {request.ifname!r} with another {field} "
                f"(endpoint {record.endpoint.id}); detach it first, or update it",
                field=field,
            )


def _comparable(request: AttachRequest) -> dict[str, object]:
    """What a request asks for, without the ways to write it and to name its namespace."""
    asked: dict[str, object] = {
        name: getattr(request, name)
        for name in request.__struct_fields__
        if name not in ("netns", "pid")
    }
    asked["addresses"] = frozenset(parse_address(text, "addresses") for text in request.addresses)
    asked["mac"] = None if request.mac is None else parse_mac(request.mac, "mac")
    asked["ports"] = frozenset(request.ports)
    asked["aliases"] = frozenset(request.aliases)
    return asked


def _now(record: EndpointRecord, field: str, first: object) -> object:
    """A field as an update may have made it; `first` where none can."""
    endpoint = record.endpoint
    match field:
        case "name":
            return endpoint.name
        case "ports":
            return frozenset(endpoint.ports)
        case "aliases":
            return frozenset(endpoint.aliases)
        case "labels":
            return endpoint.labels
        case "bandwidth":
            return endpoint.bandwidth
        case _:
            return first
