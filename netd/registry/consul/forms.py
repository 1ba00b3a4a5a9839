"""The forms that Consul's answers have: nodes, instances and checks as JSON objects."""

from typing import Any, Final

from netd.model.service import Check
from netd.registry.catalog.records import MAINTENANCE, Instance, Node

SERF: Final = "serfHealth"  # the check that says whether a host is in the cluster
SERVER_PORT: Final = 8300  # where Consul's servers talk; clients show it, nobody listens there
CONSUL: Final = "consul"  # the service that every host is an instance of

Row = dict[str, Any]


class Forms:
    def __init__(self, datacenter: str) -> None:
        self._datacenter = datacenter

    def node(self, node: Node) -> Row:
        return {
            **self._identity(node),
            "Meta": node.meta,
            "CreateIndex": node.created,
            "ModifyIndex": node.modified,
        }

    def _identity(self, node: Node) -> Row:
        """What each row about a node begins with."""
        return {
            "ID": node.node_id,
            "Node": node.name,
            "Address": node.address,
            "Datacenter": self._datacenter,
            "TaggedAddresses": node.tagged,
        }

    def service(self, instance: Instance) -> Row:
        """As a part of answers about health."""
        row = self._common(instance)
        row["TaggedAddresses"] = _tagged(instance)
        row["Proxy"] = _object(instance, "Proxy") or _NO_PROXY
        row["Connect"] = _object(instance, "Connect")
        row["PeerName"] = ""
        row["CreateIndex"] = instance.created
        row["ModifyIndex"] = instance.modified
        return row

    def agent_service(self, instance: Instance) -> Row:
        """As the agent shows it: what is not set is left out, for some compare it as a whole."""
        row = self._common(instance)
        row["Datacenter"] = self._datacenter
        tagged = _tagged(instance)
        if tagged:
            row["TaggedAddresses"] = tagged
        for name in ("Proxy", "Connect"):
            value = _object(instance, name)
            if value:
                row[name] = value
        return row

    def catalog_service(self, instance: Instance, node: Node) -> Row:
        """One row of `catalog/service/NAME`."""
        service = self._common(instance)
        return {
            **self._identity(node),
            "NodeMeta": node.meta,
            "ServiceKind": service.get("Kind", ""),
            "ServiceID": service["ID"],
            "ServiceName": service["Service"],
            "ServiceTags": service["Tags"],
            "ServiceAddress": service["Address"],
            "ServiceTaggedAddresses": _tagged(instance),
            "ServiceWeights": service["Weights"],
            "ServiceMeta": service["Meta"],
            "ServicePort": service["Port"],
            "ServiceSocketPath": service.get("SocketPath", ""),
            "ServiceEnableTagOverride": service["EnableTagOverride"],
            "ServiceProxy": _object(instance, "Proxy") or _NO_PROXY,
            "ServiceConnect": _object(instance, "Connect"),
            "ServicePeerName": "",
            "CreateIndex": instance.created,
            "ModifyIndex": instance.modified,
        }

    def checks(self, instance: Instance) -> list[Row]:
        """All checks of an instance; those of a node, for the instance that stands for it."""
        return [self.check(instance, check) for check in instance.service.checks]

    def check(self, instance: Instance, check: Check) -> Row:
        extra = instance.check_extra(check)
        service = instance.service
        name = check.name
        notes = check.notes
        if check.kind == MAINTENANCE:
            name = "Node Maintenance Mode" if instance.is_node else "Service Maintenance Mode"
            notes = check.output
        of_node = instance.is_node
        return {
            "Node": instance.node,
            "CheckID": instance.check_ident(check),
            "Name": name,
            "Status": check.status,
            "Notes": notes,
            "Output": "" if check.kind == MAINTENANCE else check.output,
            "ServiceID": "" if of_node else instance.ident,
            "ServiceName": "" if of_node else instance.name,
            "ServiceTags": [] if of_node else service.tags,
            "Type": extra.get("Type", check.kind),
            "Interval": extra.get("Interval", ""),
            "Timeout": extra.get("Timeout", ""),
            "ExposedPort": 0,
            "PeerName": "",
            "Definition": extra.get("Definition", {}),
            "CreateIndex": instance.created,
            "ModifyIndex": instance.modified,
        }

    def serf(self, node: Node) -> Row:
        """The check of every host: that it is in the cluster. One that is not is not shown."""
        return {
            "Node": node.name,
            "CheckID": SERF,
            "Name": "Serf Health Status",
            "Status": "passing",
            "Notes": "",
            "Output": "Agent alive and reachable",
            "ServiceID": "",
            "ServiceName": "",
            "ServiceTags": [],
            "Type": "",
            "Interval": "",
            "Timeout": "",
            "ExposedPort": 0,
            "PeerName": "",
            "Definition": {},
            "CreateIndex": node.created,
            "ModifyIndex": node.modified,
        }

    def server(self, node: Node) -> Row:
        """A host as an instance of the service `consul`."""
        return {
            "ID": CONSUL,
            "Service": CONSUL,
            "Tags": [],
            "Address": "",
            "Meta": {},
            "Port": SERVER_PORT,
            "Weights": {"Passing": 1, "Warning": 1},
            "EnableTagOverride": False,
            "TaggedAddresses": {},
            "Proxy": _NO_PROXY,
            "Connect": {},
            "PeerName": "",
            "CreateIndex": node.created,
            "ModifyIndex": node.created,
        }

    def catalog_server(self, node: Node) -> Row:
        """The same, as a row of `catalog/service/consul`."""
        return {
            **self._identity(node),
            "NodeMeta": node.meta,
            "ServiceKind": "",
            "ServiceID": CONSUL,
            "ServiceName": CONSUL,
            "ServiceTags": [],
            "ServiceAddress": "",
            "ServiceTaggedAddresses": {},
            "ServiceWeights": {"Passing": 1, "Warning": 1},
            "ServiceMeta": {},
            "ServicePort": SERVER_PORT,
            "ServiceSocketPath": "",
            "ServiceEnableTagOverride": False,
            "ServiceProxy": _NO_PROXY,
            "ServiceConnect": {},
            "ServicePeerName": "",
            "CreateIndex": node.created,
            "ModifyIndex": node.created,
        }

    def _common(self, instance: Instance) -> Row:
        service = instance.service
        extra = instance.extra
        weights = service.weights
        row: Row = {
            "ID": instance.ident,
            "Service": instance.name,
            "Tags": service.tags,
            "Meta": service.meta,
            "Port": service.port,
            "Address": extra.get("address", service.address),
            "Weights": {"Passing": weights.passing, "Warning": weights.warning},
            "EnableTagOverride": extra.get("EnableTagOverride") is True,
        }
        for name in ("Kind", "SocketPath", "Locality"):
            if extra.get(name):
                row[name] = extra[name]
        return row


_NO_PROXY: Final[Row] = {"Mode": "", "MeshGateway": {}, "Expose": {}}


def _tagged(instance: Instance) -> Row:
    """What a client has said; and for one at two addresses, the one of each family."""
    service, found = instance.service, {}
    for address in service.addresses if service.other_addresses else ():
        tag = "lan_ipv6" if ":" in address else "lan_ipv4"
        found[tag] = {"Address": address, "Port": service.port}
    return found | _object(instance, "TaggedAddresses")


def _object(instance: Instance, name: str) -> Row:
    found = instance.extra.get(name)
    return found if isinstance(found, dict) else {}
