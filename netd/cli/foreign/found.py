"""A network of another engine in netd's words, and what is to be done about it."""

import ipaddress
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?\Z")

# States: what --apply makes, what is there already, and what it leaves alone.
NEW: Final = "new"
SAME: Final = "same"
DIFFERS: Final = "differs"
HELD: Final = "held"
CANNOT: Final = "cannot"


class Kept(NamedTuple):
    """An address that somebody has been given, to be asked for again with `--address`."""

    address: str
    holder: str


class Found(NamedTuple):
    """`spec` is the body of POST /v1/networks, without what is to be as netd has it anyway.

    `refused` says why there can be no such network in netd. `notes` are what is different in
    netd; `link` is the bridge that holds the subnets while the old network is there, `removal`
    the command that ends it.
    """

    name: str
    spec: dict[str, Any]
    refused: str = ""
    notes: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()
    link: str = ""
    removal: str = ""


class Item(NamedTuple):
    """A network and its state; `why` is empty where that says all."""

    found: Found
    state: str
    why: str = ""


class Unfit(Exception):
    """A network that netd cannot have; the text says why."""


def read_each(
    documents: Iterable[tuple[str, Any]], read: Callable[[Any], Found | None]
) -> list[Found]:
    """What `read` makes of named documents; None is for what there is nothing to be said of."""
    networks = []
    for name, document in documents:
        try:
            if not isinstance(document, Mapping):
                raise Unfit("it is no JSON object")
            found = read(document)
        except Unfit as unfit:
            found = Found(name, {}, refused=str(unfit))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            found = Found(name, {}, refused=f"it cannot be read: {type(error).__name__}: {error}")
        if found is not None:
            networks.append(found)
    return networks


def name_in_netd(name: str) -> str:
    """The name in lower case. Raises `Unfit` for one that netd cannot have."""
    lower = name.lower()
    if not _NAME.match(lower):
        raise Unfit(
            "netd's names have 1 to 63 lower-case letters, digits, '-', '_' or '.', beginning and "
            "ending with a letter or digit"
        )
    return lower


def ranges(spec: dict[str, Any], spans: Iterable[str], notes: list[str]) -> None:
    """Put the part of a subnet that addresses were handed out of into `spec`: netd has one."""
    first, *others = [*spans, ""]
    if first:
        spec.setdefault("options", {})["range"] = first
    notes += [f"a network has one range: {span} is not taken over" for span in others if span]


def span_of(first: str, last: str) -> str:
    """The subnet that has just the addresses from `first` to `last`; "" if none has.

    Without its own first address it is the same subnet: so Podman writes what it got as a subnet.
    """
    low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    for start in (low, low - 1):
        parts = list(ipaddress.summarize_address_range(start, high))
        if len(parts) == 1:
            return str(parts[0])
    return ""


def check_families(subnets: Iterable[str]) -> None:
    """Raise `Unfit` for more than one subnet of a family."""
    families = [ipaddress.ip_network(subnet).version for subnet in subnets]
    if len(set(families)) < len(families):
        raise Unfit("it has several subnets of one family; a network of netd has one")


def judge(
    networks: Iterable[Found], there: Collection[Mapping[str, Any]], links: Collection[str]
) -> list[Item]:
    """The state of each, given netd's networks and the names of the host's links."""
    known = {network["name"]: network for network in there}
    items: list[Item] = []
    wanted: list[Found] = []
    for found in networks:
        item = _judged(found, known, wanted, links)
        if item.state in (NEW, HELD):
            wanted.append(found)
        items.append(item)
    return items


def _judged(
    found: Found,
    known: Mapping[str, Mapping[str, Any]],
    wanted: list[Found],
    links: Collection[str],
) -> Item:
    if found.refused:
        return Item(found, CANNOT, found.refused)
    name = found.spec["name"]
    if name in known:
        fields = differences(found.spec, known[name])
        if not fields:
            return Item(found, SAME)
        return Item(found, DIFFERS, f"netd's network {name} has another {', '.join(fields)}")
    if any(other.spec["name"] == name for other in wanted):
        return Item(found, CANNOT, f"another network is called {name} in netd, too")
    # Networks on a link of the host's share its segment, and may share its subnet.
    others = [] if "parent" in found.spec else [*known.values(), *(each.spec for each in wanted)]
    for other in others:
        for subnet in found.spec.get("subnets", ()):
            if not other.get("parent") and _overlaps(subnet, other.get("subnets", ())):
                return Item(found, CANNOT, f"{subnet} overlaps network {other['name']}")
    if found.link and found.link in links:
        return Item(
            found, HELD, f"its bridge {found.link} holds the subnet; the old network goes first"
        )
    return Item(found, NEW)


def differences(spec: Mapping[str, Any], network: Mapping[str, Any]) -> list[str]:
    """The fields in which a network of netd is not what `spec` asks for.

    Labels are no difference: they say nothing of where packets go.
    """
    fields = []
    for field, wanted in spec.items():
        got = network.get(field)
        if field == "gateways":
            same = set(wanted) <= set(got or ())
        elif field == "subnets":
            same = set(wanted) == set(got or ())
        elif field == "options":
            same = wanted.items() <= (got or {}).items()
        else:
            same = field == "labels" or wanted == got
        if not same:
            fields.append(field)
    for field, default in (("internal", False), ("isolated", True)):
        if field not in spec and network.get(field, default) != default:
            fields.append(field)
    return fields


def command(netctl: str, spec: Mapping[str, Any]) -> str:
    """The command that makes the network, to be pasted into a shell; it begins with `netctl`."""
    words = ["network", "create", spec["name"]]
    if spec["driver"] != "bridge":
        words += ["--driver", spec["driver"]]
    for subnet in spec.get("subnets", ()):
        words += ["--subnet", subnet]
    for gateway in spec.get("gateways", ()):
        words += ["--gateway", gateway]
    words += ["--internal"] if spec.get("internal") else []
    words += ["--no-isolation"] if spec.get("isolated") is False else []
    for field in ("mtu", "parent"):
        words += [f"--{field}", str(spec[field])] if field in spec else []
    for key, value in spec.get("labels", {}).items():
        words += ["--label", f"{key}={value}"]
    for key, value in spec.get("options", {}).items():
        typed = str(value).lower() if isinstance(value, bool) else value
        words += ["--option", f"{key}={typed}"]
    return f"{netctl} {shlex.join(words)}"


def _overlaps(subnet: str, others: Iterable[str]) -> bool:
    one = ipaddress.ip_network(subnet)
    return any(
        one.version == other.version and one.overlaps(other)
        for other in map(ipaddress.ip_network, others)
    )
