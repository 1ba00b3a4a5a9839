"""Machines without netd whose programs register themselves here."""

import ipaddress

from netd.model.directory import Entry, RegistrySettings
from netd.naming.wire import IPNetwork, canonical
from netd.registry.feed import Entries, Reader
from netd.registry.http.caller import Caller


class Clients(Reader):
    """They speak for the address that they call from, and for no other.

    That is for Eureka's API only: what it registers has no check that would look at anything, so
    nobody reaches more by it than he does without.
    """

    def __init__(self) -> None:
        self._networks: tuple[IPNetwork, ...] = ()

    def may_speak(self, caller: Caller, address: str) -> bool:
        """Whether `caller` may register, change and remove what is at `address`."""
        if caller.speaks_for(address):
            return True
        text = canonical(address)
        if text is None or text != caller.address:
            return False
        found = ipaddress.ip_address(text)
        return any(found in network for network in self._networks)

    # As a reader of the feed

    def replace(self, entries: Entries) -> None:
        entry = entries.get(("zone", ""))
        if entry is not None and entry.zone is not None:
            self._configure(entry.zone.settings)

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.zone is not None:
            self._configure(new.zone.settings)

    def _configure(self, settings: RegistrySettings) -> None:
        self._networks = tuple(map(ipaddress.ip_network, settings.eureka_clients))
