"""Where this host gets addresses of a network: of the hosts that own them, or in etcd."""

from collections.abc import Sequence
from typing import Protocol

from netd.engine.blocks.fencing import Fencing
from netd.engine.blocks.getting import Getting
from netd.model.blocks import Epoch
from netd.model.errors import NetdError
from netd.model.network import Network
from netd.plan.addresses import IPAddress
from netd.plan.space import Space


class Source(Protocol):
    def has_heard(self, network_id: str) -> bool:
        """Whether what this host owns is known to be its own still, as far as that can be."""
        ...

    async def hear(self, network: Network) -> Epoch:
        """See to it, and that it owns no more than that; the epoch. Raises `Unavailable`."""
        ...

    async def block(self, network: Network, subnet: str) -> bool:
        """Get a block of a subnet; whether there is one now. Raises `Unavailable` when this
        host's store cannot be written.
        """
        ...

    async def address(self, network: Network, subnet: str, address: IPAddress) -> None:
        """Get one address. Raises `Conflict` (in use elsewhere), `Unavailable`."""
        ...

    def lack(self, network: Network, subnet: str) -> NetdError:
        """Why there is no address, and what would help."""
        ...

    async def reclaim(self, network: Network, members: Sequence[str]) -> Space:
        """Take over what members own that are dead for good.

        Raises `Conflict` (one of them is alive), `Unavailable`, and nothing has changed.
        """
        ...


class FromHosts:
    """All addresses are some host's."""

    def __init__(self, getting: Getting, fencing: Fencing) -> None:
        self._getting = getting
        self._fencing = fencing

    def has_heard(self, network_id: str) -> bool:
        return self._fencing.has_heard(network_id)

    async def hear(self, network: Network) -> Epoch:
        return await self._fencing.hear(network)

    async def block(self, network: Network, subnet: str) -> bool:
        return await self._getting.block(network, subnet)

    async def address(self, network: Network, subnet: str, address: IPAddress) -> None:
        await self._getting.address(network, subnet, address)

    def lack(self, network: Network, subnet: str) -> NetdError:
        return self._getting.exhausted(network, subnet)

    async def reclaim(self, network: Network, members: Sequence[str]) -> Space:
        return await self._fencing.reclaim(network, members)
