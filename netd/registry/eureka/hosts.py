"""Whose addresses are."""

from netd.model.directory import EndpointEntry, NodeEntry
from netd.naming.addresses import addresses_of
from netd.naming.wire import canonical


class Hosts:
    """Whose an address is: hosts' own ones, and those of endpoints."""

    def __init__(self) -> None:
        self._nodes: dict[str, frozenset[str]] = {}
        self._endpoints: dict[str, EndpointEntry] = {}
        self._holders: dict[str, set[str]] = {}  # address -> ids of endpoints

    def endpoint_at(self, address: str, node: str) -> str:
        text = canonical(address)
        if text is None or text in self._nodes.get(node, ()):
            return ""
        found = [
            endpoint_id
            for endpoint_id in self._holders.get(text, ())
            if self._endpoints[endpoint_id].node == node
        ]
        return found[0] if len(found) == 1 else ""

    def network_of(self, endpoint_id: str) -> str:
        endpoint = self._endpoints.get(endpoint_id)
        return "" if endpoint is None else endpoint.network

    def put_node(self, name: str, node: NodeEntry | None) -> None:
        if node is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = frozenset(each.text for each in addresses_of(node.addresses))

    def put_endpoint(self, endpoint_id: str, endpoint: EndpointEntry | None) -> None:
        old = self._endpoints.pop(endpoint_id, None)
        if old is not None:
            for address in addresses_of(old.addresses):
                holders = self._holders[address.text]
                holders.discard(endpoint_id)
                if not holders:
                    del self._holders[address.text]
        if endpoint is not None:
            self._endpoints[endpoint_id] = endpoint
            for address in addresses_of(endpoint.addresses):
                self._holders.setdefault(address.text, set()).add(endpoint_id)
