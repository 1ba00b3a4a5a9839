"""Host ports of endpoints: claimed, kept from other programs, freed of stale flows."""

from collections.abc import Sequence

from netd.engine.intent import ports_of
from netd.engine.interfaces import Kernel
from netd.engine.ports import PortTable
from netd.model.endpoint import EndpointRecord
from netd.model.errors import Conflict
from netd.model.network import Network
from netd.plan.ports import HeldPort, check_ports, describe, families


class Publishing:
    """Claims are by endpoint. A published port is bound so that no program can take it, unless
    the runtime has it bound already; a port that a host-mode endpoint declares is only looked at,
    since its program binds it.
    """

    def __init__(self, kernel: Kernel, table: PortTable) -> None:
        self._kernel = kernel
        self._table = table

    def claim(self, record: EndpointRecord, network: Network) -> None:
        """Take the endpoint's ports. Raises `Invalid` or `Conflict`, with none taken."""
        endpoint = record.endpoint
        if not endpoint.ports:
            return
        check_ports(endpoint.ports, families(endpoint.addresses))
        self._take(ports_of(record), record, network)

    def release(self, record: EndpointRecord, network: Network) -> None:
        self._drop(ports_of(record), record.endpoint.id, network)

    def claim_more(self, old: EndpointRecord, new: EndpointRecord, network: Network) -> None:
        """Take what the new version has beyond the old one. Raises like `claim`."""
        check_ports(new.endpoint.ports, families(new.endpoint.addresses))
        self._take(_beyond(old, new), new, network)

    def release_rest(self, old: EndpointRecord, new: EndpointRecord, network: Network) -> None:
        """Give back what the old version had beyond the new one, which is in force now."""
        self._drop(_beyond(new, old), old.endpoint.id, network)
        if _is_held(new, network):
            self._kernel.hold_ports(ports_of(new))  # what the old one's wildcards covered

    def restore(self, record: EndpointRecord, network: Network) -> list[HeldPort]:
        """Claim a loaded endpoint's ports; return those that a program took meanwhile."""
        ports = ports_of(record)
        self._table.claim(ports, record.endpoint.id)
        if not ports or not _is_held(record, network):
            return []
        return [port for port in ports if self._kernel.hold_ports([port])]

    async def forget_flows(self, ports: Sequence[HeldPort]) -> None:
        """Drop UDP flows to these ports that lead to where they led before."""
        udp = [port for port in ports if port.protocol == "udp"]
        if udp:
            await self._kernel.flush_conntrack(udp)

    def _take(self, ports: list[HeldPort], record: EndpointRecord, network: Network) -> None:
        if not ports:
            return
        endpoint_id = record.endpoint.id
        for port in ports:
            holder = self._table.holder(port, but=endpoint_id)
            if holder is not None:
                raise Conflict(f"{describe(port)} is taken by endpoint {holder}", field="ports")
        # What overlaps a port that the endpoint has already is kept from programs by that.
        open_ports = [port for port in ports if self._table.holder(port) is None]
        # On the event loop: nobody comes between this and the claim below, so that nothing has to
        # be locked or undone. A port takes 8 µs, the 4,096 that one request may have 35 ms.
        taken: list[HeldPort] = []
        if network.driver == "host":
            taken = self._kernel.busy_ports(open_ports)
        elif _is_held(record, network):
            taken = self._kernel.hold_ports(open_ports)
        if taken:
            raise Conflict(
                f"{describe(taken[0])} is taken by a program of the host; "
                f"`ss -lnp 'sport = :{taken[0].port}'` shows which",
                field="ports",
            )
        self._table.claim(ports, endpoint_id)

    def _drop(self, ports: list[HeldPort], endpoint_id: str, network: Network) -> None:
        self._table.release(ports, endpoint_id)
        if network.driver != "host" and ports:
            self._kernel.release_ports(ports)


def _is_held(record: EndpointRecord, network: Network) -> bool:
    """Whether netd binds the endpoint's ports."""
    return network.driver != "host" and record.request.hold_ports


def _beyond(one: EndpointRecord, other: EndpointRecord) -> list[HeldPort]:
    """The ports that `other` has and `one` has not."""
    known = set(ports_of(one))
    return [port for port in ports_of(other) if port not in known]
