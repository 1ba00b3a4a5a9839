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
        self._reserved = {subnet.network_address, gateway}
        if isinstance(subnet, IPv4Network):
            self._reserved.add(subnet.broadcast_address)
        self._cursor = 0  # offset in the span of the first address that may be unused yet

    @property
    def held(self) -> int:
        return len(self._held)

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
        if address in self._reserved:
            raise Invalid(f"{address} is the gateway's or the subnet's own address", field=field)
        holder = self._held.get(address)
        if holder is not None and holder != endpoint_id:
            raise Conflict(f"{address} is held by endpoint {holder}", field=field)
        return self._hold(address, endpoint_id)

    def give_back(self, address: IPAddress, name: str, now_s: float) -> None:
        """Start the quarantine of an address that is no longer held."""
        self._held.pop(address, None)
        self.remember(address, name, now_s)

    def remember(self, address: IPAddress, name: str, released_s: float) -> None:
        """Take note of an address that was given back earlier, oldest first."""
        self._returned.pop(address, None)
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
            offset = int(grant.address) - int(self._span.network_address)
            if 0 <= offset < self._span.num_addresses:
                self._cursor = min(self._cursor, offset)

    def remembered(self) -> list[IPAddress]:
        """The addresses that were given back and are not handed out again yet."""
        return list(self._returned)

    def _hold(self, address: IPAddress, endpoint_id: str) -> Grant:
        returned = self._returned.pop(address, None)
        if returned is not None and self._last.get(returned.name) == address:
            del self._last[returned.name]
        self._held[address] = endpoint_id
        return Grant(address, returned)

    def _sticky(self, name: str) -> IPAddress | None:
        address = self._last.get(name)
        return address if address in self._returned else None

    def _unused(self) -> IPAddress | None:
        while self._cursor < self._span.num_addresses:
            address = self._span.network_address + self._cursor
            self._cursor += 1
            if (
                address not in self._held
                and address not in self._returned
                and address not in self._reserved
            ):
                return address
        return None

    def _oldest(self, now_s: float) -> IPAddress | None:
        for address, returned in self._returned.items():
            if address not in self._span:
                continue  # it had been asked for
            # A clock that was set back must not lock an address away for good.
            age_s = now_s - returned.released_s
            return address if age_s >= self.quarantine_s or age_s < 0 else None
        return None

    def _why_exhausted(self, now_s: float) -> str:
        text = f"{self._span} has no free address: {len(self._held)} are in use"
        if self._returned:
            oldest = next(iter(self._returned.values()))
            wait_s = max(0.0, oldest.released_s + self.quarantine_s - now_s)
            text += (
                f" and {len(self._returned)} were given back less than "
                f"{self.quarantine_s:.0f} s ago; the first comes free in {wait_s:.0f} s"
            )
        return text
