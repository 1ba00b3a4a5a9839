"""Addresses of one subnet: who holds which, and which is handed out next.

The next address is the one not used for the longest time: first those never used, in order,
then those given back, oldest first. An address that was given back is not handed to another
name for `quarantine_s`, because peers may still have it in caches; its last name gets it
back at once.
"""

from collections import OrderedDict
from ipaddress import IPv4Network

import msgspec

from netd.model.errors import Conflict, Exhausted, Invalid
from netd.plan.addresses import IPAddress, IPNetwork
from netd.plan.space import NOWHERE, Space, address_at, number_of

# Remembered names are bounded: beyond this many returned addresses the oldest is handed out
# before one that was never used.
REMEMBERED_MAX = 4096


class Returned(msgspec.Struct, frozen=True):
    """An address that was given back: by whom and when, in Unix time."""

    name: str
    released_s: float


class Grant(msgspec.Struct, frozen=True):
    """An address that was handed out, and what was remembered of it before."""

    address: IPAddress
    before: Returned | None


class AddressPool:
    """The addresses of one subnet. `gateway` and the subnet's own addresses are never given.

    Without being asked for, only addresses of `span` are given: all of the subnet by default.
    Where other hosts give addresses of the same subnet, only those are given that this host
    owns (`own`), asked for or not.
    """

    def __init__(
        self,
        subnet: IPNetwork,
        gateway: IPAddress | None,
        quarantine_s: float,
        span: IPNetwork | None = None,
    ) -> None:
        self.subnet = subnet
        self._span = span or subnet
        self.quarantine_s = quarantine_s
        self._held: dict[IPAddress, str] = {}
        self._returned: OrderedDict[IPAddress, Returned] = OrderedDict()
        self._last: dict[str, IPAddress] = {}
        self.reserved = reserved_of(subnet, gateway)
        self.own(Space.of_network(subnet))

    @property
    def held(self) -> int:
        return len(self._held)

    @property
    def size(self) -> int:
        """How many addresses there are to be given, unasked, taken or not."""
        return self._given.size

    def own(self, owned: Space, frozen: Space = NOWHERE) -> list[IPAddress]:
        """Only addresses of `owned` are given from now on, and of those not the `frozen` ones.

        Returns those that had been given back and are no longer owned: they are forgotten.
        Held addresses stay held, wherever they are.
        """
        self._owned = owned & Space.of_network(self.subnet)
        self._given = (self._owned & Space.of_network(self._span)) - frozen - self.reserved
        self._frozen = frozen
        self._cursor = 0  # number of the first address that may be unused yet
        lost = [address for address in self._returned if address not in self._owned]
        for address in lost:
            self._forget(address)
        return lost

    def available(self, now_s: float) -> int:
        """How many addresses anybody could take now, without asking for one."""
        young = [a for a in self._young(now_s) if a in self._given]
        held = sum(address in self._given for address in self._held)
        return self._given.size - held - len(young)

    def has_more_than(self, number: int, now_s: float) -> bool:
        """Whether more than `number` are available; cheap where there are many."""
        if self._given.size - len(self._held) - len(self._returned) > number:
            return True
        return self.available(now_s) > number

    def remembers(self, name: str) -> bool:
        """Whether the name can have back the address that it had."""
        return self._sticky(name) is not None

    def held_space(self) -> Space:
        """The addresses that are held."""
        return Space.of_addresses(self._held)

    def used_space(self, now_s: float) -> Space:
        """The addresses that are held, or may still be in others' caches."""
        return Space.of_addresses((*self._held, *self._young(now_s)))

    def take(self, name: str, endpoint_id: str, now_s: float) -> Grant:
        """Hand out an address. Raises `Exhausted`, telling when one comes free if one does."""
        address = self._sticky(name)
        if address is None and len(self._returned) >= REMEMBERED_MAX:
            address = self._oldest(now_s)
        if address is None:
            address = self._unused()
        if address is None:
            address = self._oldest(now_s)
        if address is None:
            raise Exhausted(self._why_exhausted(now_s))
        return self._hold(address, endpoint_id)

    def take_static(self, address: IPAddress, endpoint_id: str, field: str) -> Grant:
        """Hold the address that was asked for. Raises `Invalid` or `Conflict`."""
        if address not in self.subnet:
            raise Invalid(f"{address} is not in {self.subnet}", field=field)
        if address in self.reserved:
            raise Invalid(f"{address} is the gateway's or the subnet's own address", field=field)
        holder = self._held.get(address)
        if holder is not None and holder != endpoint_id:
            raise Conflict(f"{address} is held by endpoint {holder}", field=field)
        if holder is None and address not in self._owned:
            raise Conflict(f"{address} is another host's to give", field=field)
        if holder is None and address in self._frozen:
            raise Conflict(f"{address} is claimed by another host, too", field=field)
        return self._hold(address, endpoint_id)

    def restore(self, address: IPAddress, endpoint_id: str) -> None:
        """Hold an address of an endpoint that is there already, whoever owns it by now."""
        self._hold(address, endpoint_id)

    def give_back(self, address: IPAddress, name: str, now_s: float) -> None:
        """Start the quarantine of an address that is no longer held."""
        self._held.pop(address, None)
        self.remember(address, name, now_s)

    def remember(self, address: IPAddress, name: str, released_s: float) -> None:
        """Take note of an address that was given back earlier, oldest first."""
        self._returned.pop(address, None)
        if address not in self._owned:
            return
        self._returned[address] = Returned(name, released_s)
        if name:
            self._last[name] = address

    def cancel(self, grant: Grant) -> None:
        """Undo a `take` that led to nothing."""
        self._held.pop(grant.address, None)
        if grant.before is not None:
            returned = {grant.address: grant.before, **self._returned}
            oldest_first = sorted(returned.items(), key=lambda item: item[1].released_s)
            self._returned = OrderedDict(oldest_first)
            self._last.setdefault(grant.before.name, grant.address)
        else:
            self._cursor = min(self._cursor, number_of(grant.address))

    def remembered(self) -> list[IPAddress]:
        """The addresses that were given back and are not handed out again yet."""
        return list(self._returned)

    def _hold(self, address: IPAddress, endpoint_id: str) -> Grant:
        returned = self._forget(address)
        self._held[address] = endpoint_id
        return Grant(address, returned)

    def _forget(self, address: IPAddress) -> Returned | None:
        returned = self._returned.pop(address, None)
        if returned is not None and self._last.get(returned.name) == address:
            del self._last[returned.name]
        return returned

    def _young(self, now_s: float) -> list[IPAddress]:
        """The addresses in quarantine."""
        young = []
        for address, returned in reversed(self._returned.items()):
            if not 0 <= now_s - returned.released_s < self.quarantine_s:
                break  # those before were given back earlier
            young.append(address)
        return young

    def _sticky(self, name: str) -> IPAddress | None:
        address = self._last.get(name)
        if address is None or address not in self._returned or address in self._frozen:
            return None
        return address

    def _unused(self) -> IPAddress | None:
        for number in self._given.numbers(self._cursor):
            address = address_at(number)
            if address not in self._held and address not in self._returned:
                self._cursor = number + 1
                return address
        self._cursor = self._given.end
        return None

    def _oldest(self, now_s: float) -> IPAddress | None:
        for address, returned in self._returned.items():
            if address not in self._given:
                continue  # it had been asked for
            # A clock that was set back must not lock an address away for good.
            age_s = now_s - returned.released_s
            return address if age_s >= self.quarantine_s or age_s < 0 else None
        return None

    def _why_exhausted(self, now_s: float) -> str:
        text = f"{self._span} has no free address: {len(self._held)} are in use"
        if self._owned.size < self.subnet.num_addresses:
            text = (
                f"this host owns {self._owned.size} addresses of {self.subnet}, and none is free: "
                f"{len(self._held)} are in use"
            )
        if self._returned:
            oldest = next(iter(self._returned.values()))
            wait_s = max(0.0, oldest.released_s + self.quarantine_s - now_s)
            text += (
                f" and {len(self._returned)} were given back less than "
                f"{self.quarantine_s:.0f} s ago; the first comes free in {wait_s:.0f} s"
            )
        return text


def reserved_of(subnet: IPNetwork, gateway: IPAddress | None) -> Space:
    """The addresses of a subnet that nobody is ever given."""
    reserved = [subnet.network_address]
    if gateway is not None:
        reserved.append(gateway)
    if isinstance(subnet, IPv4Network):
        reserved.append(subnet.broadcast_address)
    return Space.of_addresses(reserved)
