"""Docker's endpoints: a veth pair each, of which the engine moves one end into the container."""

import asyncio
import zlib

from netd.model.endpoint import Endpoint, EndpointPatch
from netd.model.errors import Conflict, NotFound
from netd.model.names import peer_name
from netd.runtimes.docker import wire
from netd.runtimes.docker.networks import Networks
from netd.runtimes.docker.translation import attach_request, bare, draw, ports_of, turns_of
from netd.runtimes.docker.use_cases import UseCases


class Endpoints:
    """Every call may come again, out of order, or never: each looks at what there is."""

    def __init__(self, cases: UseCases, networks: Networks) -> None:
        self._cases = cases
        self._networks = networks

    async def create(self, call: wire.CreateEndpoint) -> wire.EndpointMade:
        network = self._networks.network(call.network_id)
        endpoint, _ = await self._cases.attach(network.id, attach_request(call), handover=True)
        settled = call.interface or wire.Interface()
        ipv4, ipv6 = _addresses(endpoint)
        # What the engine has settled must not be in the answer, not even as it is.
        return wire.EndpointMade(
            interface=wire.Interface(
                address="" if settled.address else ipv4,
                address_ipv6="" if settled.address_ipv6 else ipv6,
                mac_address="" if settled.mac_address else endpoint.mac,
            )
        )

    async def info(self, call: wire.EndpointCall) -> wire.Info:
        endpoint = self._find(call.endpoint_id)
        if endpoint is None:
            return wire.Info(value={})
        ports = ", ".join(
            f"{port.host_ip or '*'}:{port.host_port}->{port.container_port}/{port.protocol}"
            for port in endpoint.ports
        )
        found = {
            "netd.endpoint": endpoint.id,
            "netd.network": endpoint.network,
            "netd.ports": ports,
            "netd.nameservers": ", ".join(endpoint.dns.nameservers),
        }
        return wire.Info(value={key: text for key, text in found.items() if text})

    async def join(self, call: wire.Join) -> wire.Joined:
        """The link to move and the way out. The namespace may not be there yet: nobody looks."""
        endpoint = self._find(call.endpoint_id)
        if endpoint is None:
            raise NotFound(
                f"there is no endpoint {call.endpoint_id[:12]}; start the container anew"
            )
        network = self._cases.network(endpoint.network_id)
        gateways = () if network.internal else endpoint.gateways
        return wire.Joined(
            interface_name=wire.InterfaceName(src_name=peer_name(endpoint.id), dst_prefix="eth"),
            gateway=next((text for text in gateways if ":" not in text), ""),
            gateway_ipv6=next((text for text in gateways if ":" in text), ""),
            # Else the engine attaches the container to its own docker_gwbridge as well.
            disable_gateway_service=True,
        )

    async def leave(self, call: wire.EndpointCall) -> None:
        """The engine gives the link back after this; ports may not have been revoked."""
        await self.revoke(call)

    async def delete(self, call: wire.EndpointCall | wire.CreateEndpoint) -> None:
        endpoint = self._find(call.endpoint_id)
        if endpoint is not None:
            await self._cases.detach(endpoint.id)

    async def publish(self, call: wire.Join) -> None:
        """The container is reached from outside by this endpoint from now on."""
        endpoint = self._find(call.endpoint_id)
        if endpoint is None:
            raise NotFound(
                f"there is no endpoint {call.endpoint_id[:12]}; start the container anew"
            )
        settled, dynamic = ports_of(call.options)
        if not settled and not dynamic:
            return
        if dynamic and len(endpoint.ports) == len(settled) + len(dynamic):
            return  # asked once more
        seed = zlib.crc32(call.endpoint_id.encode())
        last = turns_of(dynamic) - 1
        for turn in range(last + 1):
            ports = draw(dynamic, settled, turn, seed)
            try:
                await self._cases.update_endpoint(endpoint.id, EndpointPatch(ports=ports))
            except Conflict:
                if turn == last:
                    raise
                await asyncio.sleep(0)  # others run between the draws
            else:
                return

    async def revoke(self, call: wire.EndpointCall) -> None:
        endpoint = self._find(call.endpoint_id)
        if endpoint is None or not endpoint.ports:
            return
        try:
            await self._cases.update_endpoint(endpoint.id, EndpointPatch(ports=()))
        except NotFound:
            return  # it has ended meanwhile

    def _find(self, endpoint_id: str) -> Endpoint | None:
        found = self._cases.endpoints(container_id=endpoint_id)
        return found[0] if found else None


def _addresses(endpoint: Endpoint) -> tuple[str, str]:
    ipv4 = next((text for text in endpoint.addresses if ":" not in bare(text)), "")
    ipv6 = next((text for text in endpoint.addresses if ":" in bare(text)), "")
    return ipv4, ipv6
