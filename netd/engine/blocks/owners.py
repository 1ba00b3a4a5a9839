"""What the other hosts have told of the addresses they own, and whom to ask for some."""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from netd.engine.blocks.questions import Told
from netd.engine.interfaces import Cluster, MemberChange, RecordChange
from netd.model.blocks import Epoch
from netd.model.network import Network
from netd.model.overlay import ETCD
from netd.model.views import Member
from netd.plan.addresses import IPAddress
from netd.plan.blocks import share_of
from netd.plan.space import NOWHERE, Space


class Owner(NamedTuple):
    """A host, and what it owns as far as is known."""

    member: str
    space: Space


class Owners:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._members: dict[str, Member] = {}
        self._told: defaultdict[str, dict[str, Told]] = defaultdict(dict)  # the last of each
        self._news: asyncio.Event = asyncio.Event()
        self.lives: Counter[str] = Counter()  # grows when a member is heard of alive
        self.ignored = 0  # records that could not be read

    # What changes

    def member_changed(self, change: MemberChange) -> None:
        self._members[change.member.id] = change.member
        if self.is_alive(change.member.id):
            self.lives[change.member.id] += 1
        self._wake()

    def recorded(self, change: RecordChange) -> Told | None:
        """Take a record; what is new in it. What a host has told stays known when it is away."""
        if change.value is None or change.owner == self._cluster.id:
            return None
        told = _read(change.value)
        if told is None:
            self.ignored += 1
            return None
        self._told[change.key][change.owner] = told
        self._wake()
        return told

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Return when something has changed."""
        await self._news.wait()

    # What is known

    def is_alive(self, member: str) -> bool:
        known = self._members.get(member)
        return known is not None and known.state in ("alive", "suspect")

    def name(self, member: str) -> str:
        """What people call a host."""
        known = self._members.get(member)
        return known.name if known is not None else member[:8]

    def id_of(self, ref: str, network: Network, owners: Iterable[str] = ()) -> str | None:
        """A member, or who owns addresses of a network, by id, the beginning of one, or name.

        `owners` are known from elsewhere to own some.
        """
        named = {member.id for member in self._members.values() if member.name == ref}
        known = {*self._members, *self.others(network), *owners}
        begun = {member for member in known if ref and member.startswith(ref)}
        found = named or begun
        return found.pop() if len(found) == 1 else None

    def others(self, network: Network) -> set[str]:
        """All other hosts that may own addresses of a network. Of those that have left and of
        those that were dead for so long that they are forgotten, only who was seen to own some.
        """
        members = {m.id for m in self._members.values() if m.state != "left"}
        return (members | {*network.seeds, *self._told[network.id]}) - {self._cluster.id, ETCD}

    def alive(self, network: Network) -> list[str]:
        """The other hosts that answer, those that surely own addresses of the network first."""
        told = self._told[network.id]
        found = [member for member in self.others(network) if self.is_alive(member)]
        return sorted(found, key=lambda m: (m not in told, m not in network.seeds, self._rank(m)))

    def epoch(self, network_id: str) -> Epoch:
        """The latest epoch that anybody has told of."""
        return max((told.epoch for told in self._told[network_id].values()), default=Epoch())

    def told(self, network_id: str) -> dict[str, Told]:
        return self._told[network_id]

    def owners(self, network: Network, own: Space, within: Space) -> list[Owner]:
        """Who owns what of a space that is not `own`, the largest parts first.

        Of a seed that has told nothing it is what is left of its share.
        """
        epoch = self.epoch(network.id)
        told = {
            member: Space.of(told.prefixes)
            for member, told in self._told[network.id].items()
            if told.epoch == epoch
        }
        found = dict(told)
        if epoch == Epoch():
            rest = within - own
            for space in told.values():
                rest -= space
            for seed in network.seeds:
                if seed not in told and seed not in (self._cluster.id, ETCD):
                    found[seed] = share_of(network, seed) & rest
        owners = [Owner(member, space & within) for member, space in found.items()]
        owners = [owner for owner in owners if owner.space]
        # Of about as large ones each host asks another first.
        owners.sort(key=lambda o: (-o.space.size.bit_length(), self._rank(o.member)))
        return owners

    def holder(self, network: Network, address: IPAddress) -> str | None:
        """Who owns an address."""
        place = Space.of_addresses([address])
        found = self.owners(network, NOWHERE, place)
        return found[0].member if found else None

    def _rank(self, member: str) -> bytes:
        return hashlib.sha256(f"{self._cluster.id} {member}".encode()).digest()


def _read(value: bytes) -> Told | None:
    """What a host tells; None for what no netd would write."""
    try:
        told = msgspec.json.decode(value, type=Told)
        Space.of(told.prefixes)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return told
