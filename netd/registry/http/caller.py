"""Who calls: what they may see, and for which addresses they may speak."""

from collections.abc import Callable
from typing import Final, NamedTuple

from netd.indexes import remove
from netd.model.directory import EndpointEntry, Entry, ZoneEntry
from netd.naming.addresses import addresses_of
from netd.naming.values import Scope
from netd.naming.wire import canonical
from netd.registry.feed import Entries, Reader
from netd.registry.http.rights import ALL, Rights

_REMEMBERED: Final = 65_536  # callers that need not be found again


class Caller(NamedTuple):
    """`address` is where the call comes from. `own` are the addresses that it may register
    services at, the caller's own first; None: any, which only the host may. `rights` are those
    by what comes with the call: what it asks for needs both. Limits count for its `party`.
    """

    address: str
    scope: Scope
    own: tuple[str, ...] | None
    rights: Rights = ALL
    party: str = ""

    @property
    def is_host(self) -> bool:
        return self.own is None

    def speaks_for(self, address: str) -> bool:
        """Whether it may register, change and remove what is at `address`."""
        return self.own is None or canonical(address) in self.own


class Callers(Reader):
    """Finds callers by the address they come from.

    `scope_of` is naming's: who sees all is the host. A container of this host speaks for all of
    its addresses, anybody else for none. To be told of the feed after whoever has the scopes and
    knows the parties.
    """

    def __init__(
        self,
        scope_of: Callable[[str | None], Scope],
        party_of: Callable[[str], str] = lambda source: source,
    ) -> None:
        self.zone: ZoneEntry | None = None  # None until the feed has told of it
        self._scope_of = scope_of
        self._party_of = party_of
        self._endpoints: dict[str, EndpointEntry] = {}
        self._holders: dict[str, dict[str, EndpointEntry]] = {}  # address -> by endpoint's id
        self._containers: dict[str, dict[str, EndpointEntry]] = {}  # this host's, by their ids
        self._known: dict[str, Caller] = {}

    def of(self, source: str) -> Caller:
        """`source` as the socket says it."""
        caller = self._known.get(source)
        if caller is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            caller = self._known[source] = self._find(source)
        return caller

    def endpoint_at(self, address: str) -> str:
        """The id of this host's one endpoint that has an address; "" for none.

        The host's own addresses are no endpoint's: those on `host` networks have them, too.
        """
        text = canonical(address)
        if text is None or self._scope_of(text).networks is None:
            return ""
        holders = self._holders.get(text, {})
        return next(iter(holders)) if len(holders) == 1 else ""

    def network_of(self, endpoint_id: str) -> str:
        """The network of an endpoint of this host; "" for none."""
        endpoint = self._endpoints.get(endpoint_id)
        return "" if endpoint is None else endpoint.network

    def _find(self, source: str) -> Caller:
        address = canonical(source.partition("%")[0]) or source
        scope = self._scope_of(address)
        party = self._party_of(source)
        if scope.networks is None:
            return Caller(address, scope, None, party=party)
        own = [address] if address in self._holders else []
        for endpoint in self._holders.get(address, {}).values():
            for other in self._containers.get(endpoint.container_id, {}).values():
                own += [each.text for each in addresses_of(other.addresses)]
        return Caller(address, scope, tuple(dict.fromkeys(own)), party=party)

    # As a reader of the feed

    def replace(self, entries: Entries) -> None:
        self._endpoints = {}
        self._holders = {}
        self._containers = {}
        zone = entries.get(("zone", ""))
        if zone is not None and zone.zone is not None:
            self.zone = zone.zone
        for entry in entries.values():
            if entry.endpoint is not None:
                self._put(entry.id, entry.endpoint)
        self._known.clear()

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.zone is not None:
            self.zone = new.zone
        if new.kind == "endpoint":
            self._remove(new.id)
            if new.endpoint is not None:
                self._put(new.id, new.endpoint)
        if new.kind not in ("service", "virtual"):
            self._known.clear()

    def _put(self, endpoint_id: str, endpoint: EndpointEntry) -> None:
        if endpoint.node != (self.zone.node if self.zone is not None else ""):
            return
        self._endpoints[endpoint_id] = endpoint
        self._containers.setdefault(endpoint.container_id, {})[endpoint_id] = endpoint
        for address in addresses_of(endpoint.addresses):
            self._holders.setdefault(address.text, {})[endpoint_id] = endpoint

    def _remove(self, endpoint_id: str) -> None:
        endpoint = self._endpoints.pop(endpoint_id, None)
        if endpoint is None:
            return
        remove(self._containers, endpoint.container_id, endpoint_id)
        for address in addresses_of(endpoint.addresses):
            remove(self._holders, address.text, endpoint_id)
