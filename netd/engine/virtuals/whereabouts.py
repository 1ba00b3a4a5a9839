"""Where on this host an address is: in a network that has a bridge here, or outside of them."""

import ipaddress
from typing import Final

from netd.engine.intent import Intent
from netd.model.names import bridge_name
from netd.plan.compile import needs_routing
from netd.plan.virtual_views import Bridged, Networks

KNOWN_MAX: Final = 65_536  # addresses of which it is remembered


class Whereabouts:
    """The networks of this host that have a bridge, as they were at the last look."""

    def __init__(self, intent: Intent) -> None:
        self._intent = intent
        self._subnets: dict[tuple[int, int], dict[int, str]] = {}  # version, length -> first: name
        self._known: dict[str, str] = {}
        self.networks = Networks()

    def look(self) -> None:
        """See what there is now."""
        intent = self._intent
        # An overlay network without endpoints is being opened, or closed.
        here = [
            network
            for network in intent.networks.values()
            if needs_routing(network)
            and (network.driver != "overlay" or intent.count_on(network.id))
        ]
        self._subnets = {}
        self._known.clear()
        for network in here:
            for subnet in map(ipaddress.ip_network, network.subnets):
                of_length = self._subnets.setdefault((subnet.version, subnet.prefixlen), {})
                of_length[int(subnet.network_address)] = network.name
        self.networks = Networks(
            {
                network.name: Bridged(
                    link=bridge_name(network.name),
                    isolated=network.isolated,
                    internal=network.internal,
                )
                for network in here
            }
        )

    def network_at(self, address: str) -> str:
        """The network that a bare address is in; "" for none."""
        found = self._known.get(address)
        if found is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            found = self._known[address] = self._find(address)
        return found

    def _find(self, text: str) -> str:
        address = ipaddress.ip_address(text)
        for (version, length), subnets in self._subnets.items():
            if version == address.version:
                spare = address.max_prefixlen - length
                found = subnets.get(int(address) >> spare << spare)
                if found is not None:
                    return found
        return ""
