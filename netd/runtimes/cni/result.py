"""What ADD tells the runtime: https://www.cni.dev/docs/spec/#add-success"""

from __future__ import annotations

from netd.runtimes.cni.call import list_of, pick, table_of, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from netd.runtimes.cni.call import Call


_NOTHING: dict[str, Any] = {
    "ifname": "",
    "mac": "",
    "mtu": None,
    "host_ifname": "",
    "addresses": [],
    "gateways": [],
    "default_route": False,
    "dns": {"nameservers": [], "search": []},
}


def check(call: Call) -> None:
    """Raise `Failure` for what no result could be made of, before there is anything to undo."""
    result_of(call, _NOTHING)


def result_of(call: Call, endpoint: dict[str, Any]) -> dict[str, Any]:
    """What earlier plugins of the chain have made, and the endpoint beside it."""
    before = table_of(call.config.get("prevResult"), "prevResult")
    interfaces = list_of(before.get("interfaces"), "prevResult.interfaces")
    inside: dict[str, Any] = {"name": endpoint["ifname"], "sandbox": call.netns}
    if endpoint["mac"]:
        inside["mac"] = endpoint["mac"]
    if call.version == "1.1.0" and endpoint["mtu"]:
        inside["mtu"] = endpoint["mtu"]
    outside = [{"name": endpoint["host_ifname"]}] if endpoint["host_ifname"] else []
    ips = []
    for address in endpoint["addresses"]:
        entry = {"address": address, "interface": len(interfaces) + len(outside)}
        if gateway := _gateway(endpoint, address):
            entry["gateway"] = gateway
        if call.version == "0.4.0":
            entry["version"] = "6" if ":" in address else "4"
        ips.append(entry)
    gateways = endpoint["gateways"] if endpoint["default_route"] else []
    routes = [{"dst": "::/0" if ":" in gw else "0.0.0.0/0", "gw": gw} for gw in gateways]
    return {
        "cniVersion": call.version,
        "interfaces": [*interfaces, *outside, inside],
        "ips": [*list_of(before.get("ips"), "prevResult.ips"), *ips],
        "routes": [*list_of(before.get("routes"), "prevResult.routes"), *routes],
        "dns": _dns(call, endpoint, table_of(before.get("dns"), "prevResult.dns")),
    }


def _gateway(endpoint: dict[str, Any], address: str) -> str:
    for gateway in endpoint["gateways"]:
        if (":" in gateway) == (":" in address):
            return str(gateway)
    return ""


def _dns(call: Call, endpoint: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What the runtime or the configuration says; what they leave open, earlier plugins or netd."""
    wanted = table_of(call.config.get("runtimeConfig"), "runtimeConfig")
    asked = table_of(pick(wanted, "dns"), "runtimeConfig.dns")
    settled = table_of(call.config.get("dns"), "dns")
    own = {"nameservers": endpoint["dns"]["nameservers"], "search": endpoint["dns"]["search"]}
    dns: dict[str, Any] = {}
    for name, wish in (("nameservers", "servers"), ("search", "searches"), ("options", "options")):
        value = (
            words_of(pick(asked, wish), f"runtimeConfig.dns.{wish}")
            or words_of(settled.get(name), f"dns.{name}")
            or words_of(before.get(name), f"prevResult.dns.{name}")
            or own.get(name)
        )
        if value:
            dns[name] = value
    if domain := settled.get("domain") or before.get("domain"):
        dns["domain"] = domain
    return dns
