"""What this host tells the others of the overlays that it has open, and the MTU that follows."""

import msgspec

from netd.engine.interfaces import Cluster, Record
from netd.engine.overlay.catalogue import Catalogue
from netd.engine.overlay.peers import VTEPS, Peers
from netd.engine.overlay.ways import Ways
from netd.engine.parts import Parts
from netd.model.network import Network
from netd.model.overlay import Vtep
from netd.plan.overlay import Opening
from netd.plan.underlay import inner_mtu

_MTU_MIN = {4: 576, 6: 1280}


class Telling:
    def __init__(
        self, parts: Parts, cluster: Cluster, catalogue: Catalogue, peers: Peers, ways: Ways
    ) -> None:
        self._parts = parts
        self._ways = ways
        self._cluster = cluster
        self._catalogue = catalogue
        self._peers = peers
        self._remembered: dict[str, int] = {}  # MTUs before the start, until others were heard
        self.told: dict[str, Vtep] = {}  # by network

    def remember(self, network_id: str, mtu: int) -> None:
        """The MTU that a network had before the start: no larger one until `end_grace`."""
        self._remembered[network_id] = mtu

    def end_grace(self) -> None:
        """All hosts that are there have been heard since the start."""
        self._remembered.clear()

    def mtu(self, network: Network) -> int:
        """What all hosts of the network can carry, and no more than was asked for."""
        asked = self._catalogue.mtu_asked(network.id)
        limit = self._limit()
        limits = [limit, self._remembered.get(network.id, limit)]
        limits += [vtep.mtu for vtep in self._peers.vteps(network.id).values()]
        least = _MTU_MIN[6 if any(":" in subnet for subnet in network.subnets) else 4]
        return max(least, min(limits if asked is None else [asked, *limits]))

    def announce(self, network: Network, opening: Opening) -> None:
        """Tell the others that this host takes part, and what it can carry."""
        vtep = Vtep(addresses=opening.addresses, mac=opening.mac(network), mtu=self._limit())
        if self.told.get(network.id) != vtep:
            self.told[network.id] = vtep
            record = Record(table=VTEPS, key=network.id, value=msgspec.json.encode(vtep))
            self._cluster.publish([record])

    def withdraw(self, network_id: str) -> None:
        """This host takes part no more."""
        self.told.pop(network_id, None)
        self._cluster.publish([Record(table=VTEPS, key=network_id, value=None)])

    def _limit(self) -> int:
        """The largest packets that this host can carry in a tunnel."""
        return inner_mtu(
            self._parts.facts, self._peers.places(), self._peers.family(), self._ways.mtus
        )
