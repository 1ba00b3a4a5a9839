"""All that is configured in a namespace, as lines of text that can be compared.

Left out is what differs between two equal configurations: indices, handles, counters, times,
and the MAC addresses that the kernel makes up.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from netd.kernel.tag import LINK_GROUP, RETIRED_GROUP
from tests.e2e.lab import Namespace

REMOVAL_DEADLINE_S = 2.0

_ROUTE = ("type", "dst", "gateway", "dev", "protocol", "prefsrc", "metric", "table")
_RULE = ("priority", "src", "table", "protocol")
_KERNELS_OWN = ("local", "multicast", "anycast", "broadcast")
_ENDPOINT_TABLES = range(0x4000_0000, 0x8000_0000)


def census(space: Namespace, names: Mapping[str, str]) -> frozenset[str]:
    """Links, addresses, routes, rules and shaping; each of `names` is written as its meaning."""
    return _translated(_lines(space), names)


def ruleset_of(space: Namespace, names: Mapping[str, str]) -> frozenset[str]:
    """As `census`, but of nftables."""
    (ruleset,) = _answers(space, "nft -j list ruleset")
    lines = [line for entry in ruleset["nftables"] for line in _nft_lines(entry)]
    return _translated(lines, names)


def _translated(lines: Iterable[str], names: Mapping[str, str]) -> frozenset[str]:
    text = "\n".join(lines)
    for name, meaning in names.items():
        text = text.replace(name, f"<{meaning}>")
    return frozenset(text.splitlines())


def await_removals(space: Namespace) -> None:
    """Return when the links that netd has cut off are removed."""
    deadline_s = time.monotonic() + REMOVAL_DEADLINE_S
    while left := [one["ifname"] for one in _links(space) if one["group"] == str(RETIRED_GROUP)]:
        assert time.monotonic() < deadline_s, f"still there: {left}"
        time.sleep(0.01)  # the kernel's events would need a reader of their own


def _lines(space: Namespace) -> Iterator[str]:
    for link in _links(space):
        if link["group"] != str(RETIRED_GROUP):
            yield from _link_lines(space, link)
    rules4, rules6, routes4, routes6, qdiscs = _answers(
        space,
        "ip -j -4 rule",
        "ip -j -6 rule",
        "ip -j -4 route show table all",
        "ip -j -6 route show table all",
        "tc -j qdisc",
    )
    for rule in rules4 + rules6:
        yield _line("rule", _with_table(rule), _RULE)
    for route in routes4 + routes6:
        if route.get("type") not in _KERNELS_OWN:
            yield _line("route", _with_table(route), _ROUTE)
    for qdisc in qdiscs:
        if qdisc["kind"] in ("tbf", "ingress"):
            yield _line("qdisc", qdisc, ("kind", "dev"), qdisc.get("options"))


def _link_lines(space: Namespace, link: dict[str, Any]) -> Iterator[str]:
    info = link.get("linkinfo", {})
    kind = info.get("info_kind", "")
    made_up = link["group"] == str(LINK_GROUP) and kind in ("veth", "ifb")
    keys = ("ifname", *(() if made_up else ("address",)), "mtu", "master", "ifalias", "group")
    state = "up" if "UP" in link["flags"] else "down"
    hairpin = "hairpin" if info.get("info_slave_data", {}).get("hairpin") else ""
    yield _line("link", link, keys, kind, state, hairpin)
    for address in link["addr_info"]:
        if not (made_up and address["scope"] == "link"):
            yield f"address {address['local']}/{address['prefixlen']} dev {link['ifname']}"
    if "netd:" in link.get("ifalias", ""):
        # The link may be gone by now.
        shown = f"tc -j filter show dev {link['ifname']} ingress 2>/dev/null || true"
        (filters,) = _answers(space, shown)
        for found in filters:
            for action in found.get("options", {}).get("actions", ()):
                yield f"redirect dev {link['ifname']} to {action.get('to_dev')}"


def _links(space: Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]]
    (found,) = _answers(space, "ip -j -d address")
    return found


def _nft_lines(entry: dict[str, Any]) -> Iterator[str]:
    ((kind, body),) = entry.items()
    if kind == "metainfo":
        return
    elements = body.pop("elem", ())
    body.pop("handle", None)
    yield f"nft {kind} {json.dumps(body, sort_keys=True)}"
    for element in elements:
        name = f"{body['table']} {body['name']}"
        yield f"nft element {name} {json.dumps(element, sort_keys=True)}"


def _with_table(found: dict[str, Any]) -> dict[str, Any]:
    """With the table of an endpoint, whose number is part of the endpoint's id, made equal."""
    table = str(found.get("table", ""))
    if table.isdecimal() and int(table) in _ENDPOINT_TABLES:
        return found | {"table": "<own>"}
    return found


def _line(what: str, found: dict[str, Any], keys: tuple[str, ...], *more: object) -> str:
    parts = [f"{key} {found[key]}" for key in keys if key in found]
    return " ".join([what, *parts, *(str(part) for part in more if part)])


def _answers(space: Namespace, *commands: str) -> list[Any]:
    """What the commands, run one after the other, print in JSON; nothing at all is []."""
    told = space.run("sh", "-ec", "; echo ===; ".join(commands))
    return [json.loads(answer.strip() or "[]") for answer in told.split("===\n")]
