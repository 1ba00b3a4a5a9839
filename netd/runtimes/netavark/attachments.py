"""Attachments: from what netavark tells of a container to the body of an attach, and from the
endpoint to what it wants to know: https://github.com/containers/netavark/blob/main/plugin-API.md
"""

from __future__ import annotations

from netd.runtimes.netavark import networks
from netd.runtimes.netavark.failure import Failure
from netd.runtimes.netavark.networks import check_names, flag, options_of
from netd.runtimes.shim.daemon import IFNAME_LABEL, NETWORK_LABEL, RUNTIME_LABEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RUNTIME = "netavark"  # on the labels of what it has attached
PORTS_MAX = 4096  # of one container, when ranges are written out
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - netd's word for all addresses is none
_LABEL_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class Setup:
    """`network` is the local network to make first, None where there is none to make; `name` the
    network to attach to, `body` the attach. Raises `Failure` for what cannot be had, and KeyError,
    TypeError, ValueError or AttributeError for what is not netavark's.
    """

    def __init__(self, call: dict[str, Any], netns: str) -> None:
        network = call["network"]
        labels = {
            RUNTIME_LABEL: RUNTIME,
            NETWORK_LABEL: network["name"],
            IFNAME_LABEL: call["network_options"]["interface_name"],
        }
        self.container = call["container_id"]
        self.labels = labels
        self.body = body_of(call, netns, labels)
        self.network = None if networks.joined(network) else networks.body_of(network)
        self.name = networks.name_of(network)
        self.dns = not flag(options_of(network), "no_dns")

    @property
    def publishes(self) -> bool:
        return "ports" in self.body

    def publish_once(self, endpoints: list[dict[str, Any]]) -> None:
        """Leave out the ports that the container's other endpoints have: netavark gives all of
        them to each of a container's networks.
        """
        held = [
            port
            for endpoint in endpoints
            if not self.labels.items() <= endpoint["labels"].items()
            for port in endpoint["ports"]
        ]
        self.body["ports"] = [port for port in self.body["ports"] if not _is_among(port, held)]

    def status_of(self, endpoint: dict[str, Any]) -> dict[str, Any]:
        """The status block: what the container has got."""
        subnets = []
        for address in endpoint["addresses"]:
            subnet = {"ipnet": address}
            for gateway in endpoint["gateways"]:
                if (":" in gateway) == (":" in address):
                    subnet["gateway"] = gateway
            subnets.append(subnet)
        interface = {"mac_address": endpoint["mac"], "subnets": subnets}
        names = endpoint["dns"] if self.dns else {"search": [], "nameservers": []}
        return {
            "dns_search_domains": names["search"],
            "dns_server_ips": names["nameservers"],
            "interfaces": {endpoint["ifname"]: interface},
        }


def body_of(call: dict[str, Any], netns: str, labels: dict[str, str]) -> dict[str, Any]:
    """The body of POST /v1/networks/{network}/endpoints. Raises `Failure`."""
    wanted = call["network_options"]
    check_names(call["network"])
    if unknown := ", ".join(sorted(wanted.get("options") or {})):
        raise Failure(f"a container has no options of its own on netd's networks: {unknown}")
    body: dict[str, Any] = {
        "container_id": call["container_id"],
        "netns": netns,
        "ifname": wanted["interface_name"],
        "labels": labels,
    }
    name = call.get("container_name") or ""
    if 0 < len(name) <= 63 and set(name) <= _LABEL_CHARS and "-" not in (name[0], name[-1]):
        body["name"] = name
    # To have a container's network made anew, Podman names what it has besides what was wished.
    if addresses := list(dict.fromkeys(wanted.get("static_ips") or ())):
        body["addresses"] = addresses
    if mac := wanted.get("static_mac"):
        body["mac"] = mac
    # Podman adds the short id and the name itself, each of which is once enough.
    aliases = dict.fromkeys(wanted.get("aliases") or ())
    aliases.pop(name, None)
    if aliases:
        body["aliases"] = list(aliases)
    if ports := ports_of(call):
        # Podman binds them itself, or is told by its user that nobody is to.
        body |= {"ports": ports, "hold_ports": False}
    if flag(options_of(call["network"]), "no_default_route"):
        body["default_route"] = False
    return body


def ports_of(call: dict[str, Any]) -> list[dict[str, Any]]:
    """The container's ports, one entry for each port and protocol. Raises `Failure`."""
    ports: list[dict[str, Any]] = []
    for mapping in call.get("port_mappings") or ():
        for protocol in str(mapping.get("protocol") or "tcp").split(","):
            for offset in range(max(1, int(mapping.get("range") or 1))):
                if len(ports) == PORTS_MAX:
                    raise Failure(f"more than {PORTS_MAX} ports of one container")
                port = {
                    "host_port": mapping["host_port"] + offset,
                    "container_port": mapping["container_port"] + offset,
                    "protocol": protocol.strip(),
                }
                if (address := mapping.get("host_ip") or "") not in _EVERYWHERE:
                    port["host_ip"] = address
                ports.append(port)
    return ports


def _is_among(port: dict[str, Any], held: list[dict[str, Any]]) -> bool:
    return any(
        port["protocol"] == other["protocol"]
        and port.get("host_ip", "") == other["host_ip"]
        and 0 <= port["host_port"] - other["host_port"] < other["count"]
        for other in held
    )
