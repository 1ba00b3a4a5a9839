"""Each call of the plugin protocol: what it is asked with, and who answers."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from netd.model.errors import Invalid
from netd.runtimes.docker import wire
from netd.runtimes.docker.endpoints import Endpoints
from netd.runtimes.docker.ipam import ADDRESS_SPACE, Ipam
from netd.runtimes.docker.networks import Networks

ACTIVATE: Final = "Plugin.Activate"  # an engine makes it once, when it begins to use netd

Answer = msgspec.Struct | None
Handler = Callable[[Any], Awaitable[Answer]]


class Call(msgspec.Struct, frozen=True):
    """`body` is the type of the request; None for a call that has nothing to say. `undo` takes
    back what came of a request that the engine has given up, as the engine itself does not.
    """

    body: type[msgspec.Struct] | None
    handler: Handler
    undo: Handler | None = None

    def decode(self, text: bytes) -> msgspec.Struct | None:
        """Raises `Invalid`. An engine that tries again sends an empty body at times."""
        if self.body is None:
            return None
        if not text.strip():
            raise Invalid("the request is empty; nothing was done")
        try:
            return msgspec.json.decode(text, type=self.body)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise Invalid(f"the request cannot be read: {error}") from None


def table(networks: Networks, endpoints: Endpoints, ipam: Ipam) -> dict[str, Call]:
    """The calls by name, which is the path they are made to."""
    driver = {
        "GetCapabilities": Call(
            None, _answer(wire.DriverCapabilities(scope="local", connectivity_scope="local"))
        ),
        "AllocateNetwork": Call(wire.NetworkCall, _answer(wire.Allocated(options={}))),
        "FreeNetwork": Call(wire.NetworkCall, _nothing),
        "CreateNetwork": Call(wire.CreateNetwork, networks.create, undo=networks.delete),
        "DeleteNetwork": Call(wire.NetworkCall, networks.delete),
        "CreateEndpoint": Call(wire.CreateEndpoint, endpoints.create, undo=endpoints.delete),
        "EndpointOperInfo": Call(wire.EndpointCall, endpoints.info),
        "DeleteEndpoint": Call(wire.EndpointCall, endpoints.delete),
        "Join": Call(wire.Join, endpoints.join),
        "Leave": Call(wire.EndpointCall, endpoints.leave),
        "ProgramExternalConnectivity": Call(wire.Join, endpoints.publish),
        "RevokeExternalConnectivity": Call(wire.EndpointCall, endpoints.revoke),
        "DiscoverNew": Call(None, _nothing),
        "DiscoverDelete": Call(None, _nothing),
    }
    spaces = wire.AddressSpaces(
        local_default_address_space=ADDRESS_SPACE, global_default_address_space=ADDRESS_SPACE
    )
    addresses = {
        "GetCapabilities": Call(None, _nothing),
        "GetDefaultAddressSpaces": Call(None, _answer(spaces)),
        "RequestPool": Call(wire.RequestPool, ipam.request_pool),
        "ReleasePool": Call(wire.PoolCall, ipam.release_pool),
        "RequestAddress": Call(wire.AddressCall, ipam.request_address),
        "ReleaseAddress": Call(wire.AddressCall, ipam.release_address),
    }
    implements = wire.Activated(implements=("NetworkDriver", "IpamDriver"))
    return {
        ACTIVATE: Call(None, _answer(implements)),
        **{f"NetworkDriver.{name}": call for name, call in driver.items()},
        **{f"IpamDriver.{name}": call for name, call in addresses.items()},
    }


async def _nothing(_body: object) -> None:
    return None


def _answer(answer: msgspec.Struct) -> Handler:
    async def give(_body: object) -> Answer:
        return answer

    return give
