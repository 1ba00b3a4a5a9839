"""What is asked of the daemon: the body of an attach, and the local network it is for.

A wish comes from `runtimeConfig` (capabilities), `args.cni` or CNI_ARGS; where several have it, in
this order: https://www.cni.dev/docs/conventions/
"""

from __future__ import annotations

from netd.runtimes.cni.call import RUNTIME, list_of, pick, table_of, unsupported, words_of
from netd.runtimes.cni.failure import CONFIG, ENVIRONMENT, Failure
from netd.runtimes.shim.daemon import IFNAME_LABEL, NETWORK_LABEL, RUNTIME_LABEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from netd.runtimes.cni.call import Call

_POD_LABELS = {
    "K8S_POD_NAMESPACE": "io.kubernetes.pod.namespace",
    "K8S_POD_NAME": "io.kubernetes.pod.name",
    "K8S_POD_UID": "io.kubernetes.pod.uid",
}
_KNOWN_ARGS = frozenset({"IgnoreUnknown", "IP", "MAC", "K8S_POD_INFRA_CONTAINER_ID", *_POD_LABELS})
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # as Go's strconv.ParseBool
_DEFAULT_ROUTES = ("0.0.0.0/0", "::/0")
_LABEL_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_RATE_BPS_MAX = 1_000_000_000_000  # more is no limit to anybody

KNOWN_KEYS = frozenset(
    {
        *("cniVersion", "cniVersions", "name", "type", "capabilities", "args", "runtimeConfig"),
        *("prevResult", "disableCheck", "disableGC", "socket", "network", "ifname", "dns"),
        *("defaultRoute", "ipam", "subnet", "subnets", "gateways", "range", "mtu", "internal"),
        *("isolated", "ipMasq", "hairpinMode"),
    }
)
_LOCAL_KEYS = (
    "subnet",
    "subnets",
    "gateways",
    "range",
    "mtu",
    "internal",
    "isolated",
    "ipMasq",
    "hairpinMode",
)


def check_keys(config: dict[str, Any]) -> None:
    """Raise `Failure` for what this plugin does not know, before something else is made of it."""
    for key, value in config.items():
        if key not in KNOWN_KEYS and not key.startswith("cni.dev/"):
            raise unsupported(key, value, "netd-cni has no such key")


def attach_body(call: Call) -> dict[str, Any]:
    """The body of POST /v1/networks/{network}/endpoints. Raises `Failure`."""
    wanted = table_of(call.config.get("runtimeConfig"), "runtimeConfig")
    given = table_of(pick(table_of(call.config.get("args"), "args"), "cni"), "args.cni")
    args = _known_args(call)
    body: dict[str, Any] = {
        "container_id": call.container,
        "netns": call.netns,
        "ifname": call.ifname,
        "labels": _labels(call, given, args),
    }
    if _is_label(name := args.get("K8S_POD_NAME", "")):
        body["name"] = name
    if addresses := _addresses(wanted, given, args):
        body["addresses"] = addresses
    if mac := pick(wanted, "mac") or pick(given, "mac") or args.get("MAC"):
        body["mac"] = mac
    if aliases := _aliases(pick(wanted, "aliases"), call.name):
        body["aliases"] = aliases
    if ports := _ports(list_of(pick(wanted, "portMappings"), "runtimeConfig.portMappings")):
        body["ports"] = ports
    if limits := _limits(table_of(pick(wanted, "bandwidth"), "runtimeConfig.bandwidth")):
        body["bandwidth"] = limits
    if not _may_lead_outside(call.config):
        body["default_route"] = False
    return body


def network_body(call: Call) -> dict[str, Any] | None:
    """The body of POST /v1/networks for a bridge network of this host; None where the
    configuration names a network that is there. Raises `Failure`.
    """
    config = call.config
    ipam = table_of(config.get("ipam"), "ipam")
    if config.get("network"):
        if ipam or any(key in config for key in _LOCAL_KEYS):
            raise Failure(
                CONFIG, f"network {config['network']!r} has its addresses and options already"
            )
        return None
    if ipam.get("type", "") not in ("", "host-local", "netd-cni"):
        raise unsupported("ipam.type", ipam["type"], "netd gives addresses itself")
    subnets, gateways = _ranges(config, ipam)
    body: dict[str, Any] = {"name": call.name.lower(), "driver": "bridge"}
    options: dict[str, Any] = {}
    if subnets:
        body["subnets"] = subnets
    if gateways:
        body["gateways"] = gateways
    for key in ("mtu", "internal", "isolated"):
        if config.get(key) is not None:
            body[key] = config[key]
    if config.get("ipMasq") is False:
        options["masquerade"] = False
    if config.get("hairpinMode"):
        options["hairpin"] = True
    if config.get("range"):
        options["range"] = config["range"]
    if options:
        body["options"] = options
    return body


def _ranges(config: dict[str, Any], ipam: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Subnets and gateways, from all the places where configurations have them."""
    subnets = words_of(config.get("subnets"), "subnets")
    if config.get("subnet"):
        subnets = [*subnets, str(config["subnet"])]
    gateways = words_of(config.get("gateways"), "gateways")
    wanted = table_of(config.get("runtimeConfig"), "runtimeConfig")
    sets = list_of(pick(wanted, "ipRanges") or ipam.get("ranges"), "ipam.ranges")
    if ipam.get("subnet"):
        sets = [[ipam], *sets]
    for number, ranges in enumerate(sets):
        place = f"ipam.ranges[{number}]"
        if len(list_of(ranges, place)) != 1:
            raise unsupported(place, ranges, "a network has one subnet of each family")
        span = table_of(ranges[0], f"{place}[0]")
        for key in ("rangeStart", "rangeEnd"):
            if pick(span, key):
                raise unsupported(
                    f"{place}[0].{key}", pick(span, key), "write the part to give as range, a CIDR"
                )
        subnets.append(str(pick(span, "subnet") or ""))
        if gateway := pick(span, "gateway"):
            gateways.append(str(gateway))
    return subnets, gateways


def _may_lead_outside(config: dict[str, Any]) -> bool:
    """Whether the container may get its default route here: not if an earlier plugin has made
    one, nor if the configuration has routes without one.
    """
    if config.get("defaultRoute") is False:
        return False
    before = table_of(config.get("prevResult"), "prevResult")
    if any(_destination(route) in _DEFAULT_ROUTES for route in before.get("routes") or ()):
        return False
    ipam = table_of(config.get("ipam"), "ipam")
    routes = list_of(ipam.get("routes"), "ipam.routes")
    for number, route in enumerate(routes):
        if _destination(route) not in _DEFAULT_ROUTES or table_of(route, "route").get("gw"):
            raise unsupported(
                f"ipam.routes[{number}]", route, "netd makes the default route by its gateway only"
            )
    return bool(routes) or "routes" not in ipam


def _destination(route: Any) -> Any:
    return route.get("dst") if isinstance(route, dict) else None


def _known_args(call: Call) -> dict[str, str]:
    args = call.args()
    if args.get("IgnoreUnknown") not in _TRUE:
        for key in args:
            if key not in _KNOWN_ARGS:
                raise Failure(ENVIRONMENT, f"CNI_ARGS: {key} is not known, and IgnoreUnknown not 1")
    return args


def _labels(call: Call, given: dict[str, Any], args: dict[str, str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    asked = pick(given, "labels")
    if isinstance(asked, dict):
        pairs = list(asked.items())
    else:  # as the conventions have it: [{"key": ..., "value": ...}]
        tables = [table_of(pair, "args.cni.labels") for pair in list_of(asked, "args.cni.labels")]
        pairs = [(pick(pair, "key"), pick(pair, "value")) for pair in tables]
    for key, value in pairs:
        if not isinstance(key, str) or not isinstance(value, str):
            raise Failure(CONFIG, "args.cni.labels has a label that is no text")
        labels[key] = value
    for arg, label in _POD_LABELS.items():
        if args.get(arg):
            labels[label] = args[arg]
    labels[RUNTIME_LABEL] = RUNTIME
    labels[NETWORK_LABEL] = call.name
    labels[IFNAME_LABEL] = call.asked_ifname
    return labels


def _addresses(wanted: dict[str, Any], given: dict[str, Any], args: dict[str, str]) -> list[str]:
    for value, place in (
        (pick(wanted, "ips"), "runtimeConfig.ips"),
        (pick(given, "ips"), "args.cni.ips"),
    ):
        if value:
            return words_of(value, place)
    return [text.strip() for text in args.get("IP", "").split(",") if text.strip()]


def _aliases(value: Any, network: str) -> list[str]:
    """A list, or for some runtimes a list for each network."""
    if isinstance(value, dict):
        value = value.get(network)
    return words_of(value, "runtimeConfig.aliases")


def _ports(mappings: list[Any]) -> list[dict[str, Any]]:
    ports = []
    for number, mapping in enumerate(mappings):
        place = f"runtimeConfig.portMappings[{number}]"
        table = table_of(mapping, place)
        protocol = pick(table, "protocol") or "tcp"
        if not isinstance(protocol, str):
            raise Failure(CONFIG, f"{place}.protocol is no text")
        if pick(table, "hostPort") == 0:
            continue  # a port that a pod only tells of
        port = {
            "host_port": pick(table, "hostPort"),
            "container_port": pick(table, "containerPort"),
            "protocol": protocol.lower(),
        }
        address = pick(table, "hostIP")
        if address and address not in ("0.0.0.0", "::"):  # noqa: S104 - netd's word for all is ""
            port["host_ip"] = address
        if port not in ports:
            ports.append(port)
    return ports


def _limits(asked: dict[str, Any]) -> dict[str, int]:
    """Bursts are netd's own affair: runtimes send the largest number there is."""
    limits = {}
    for name, key in (("ingressRate", "ingress_bps"), ("egressRate", "egress_bps")):
        rate = pick(asked, name) or 0
        if not isinstance(rate, int) or isinstance(rate, bool) or rate < 0:
            raise Failure(CONFIG, f"runtimeConfig.bandwidth.{name} is no number of bits a second")
        if 0 < rate < _RATE_BPS_MAX:
            limits[key] = rate
    return limits


def _is_label(text: str) -> bool:
    """Whether it is one DNS label; a pod's name may be several."""
    return 0 < len(text) <= 63 and set(text) <= _LABEL_CHARS and "-" not in (text[0], text[-1])
