"""CHECK: whether an attachment is still what its ADD has told."""

from __future__ import annotations

from netd.runtimes.cni.call import RUNTIME, list_of, table_of
from netd.runtimes.cni.failure import CONFIG, DIFFERS, UNKNOWN_CONTAINER, Failure
from netd.runtimes.shim.daemon import quoted
from netd.runtimes.shim.tombstones import Tombstone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from netd.runtimes.cni.call import Call
    from netd.runtimes.shim.daemon import Daemon


def check(call: Call, daemon: Daemon) -> None:
    """Raise `Failure` for what has changed since the ADD, be it in the daemon or in the kernel."""
    if "prevResult" not in call.config:
        raise Failure(CONFIG, "CHECK needs prevResult, the result of the ADD")
    told = table_of(call.config["prevResult"], "prevResult")
    wanted = Tombstone(RUNTIME, call.container, call.name, call.asked_ifname)
    endpoint = _find(daemon.endpoints(call.container), wanted)
    if endpoint is None:
        raise Failure(
            UNKNOWN_CONTAINER,
            f"container {call.container!r} is not attached to {call.name!r} as "
            f"{call.asked_ifname!r}",
        )
    _compare(call, told, endpoint)
    # The daemon compares what is wanted with what the kernel has, here and in the container.
    missing = daemon.call("GET", f"/v1/plan?endpoint={quoted(endpoint['id'])}")
    if missing:
        steps = "; ".join(f"{step['verb']} {step['object']}" for step in missing)
        raise Failure(DIFFERS, f"the kernel differs from what netd wants: {steps}")


def _find(endpoints: list[dict[str, Any]], wanted: Tombstone) -> dict[str, Any] | None:
    for endpoint in endpoints:
        if wanted.names(endpoint["labels"]):
            return endpoint
    return None


def _compare(call: Call, told: dict[str, Any], endpoint: dict[str, Any]) -> None:
    interfaces = list_of(told.get("interfaces"), "prevResult.interfaces")
    own = [
        number
        for number, entry in enumerate(interfaces)
        if table_of(entry, f"prevResult.interfaces[{number}]").get("name") == endpoint["ifname"]
        and entry.get("sandbox") == call.netns
    ]
    if not own:
        raise Failure(DIFFERS, f"the ADD has told of no {endpoint['ifname']!r} in {call.netns}")
    for number, entry in enumerate(list_of(told.get("ips"), "prevResult.ips")):
        told_ip = table_of(entry, f"prevResult.ips[{number}]")
        address = told_ip.get("address")
        if told_ip.get("interface") in own and address not in endpoint["addresses"]:
            raise Failure(
                DIFFERS,
                f"{address} is not the endpoint's: it has "
                f"{', '.join(endpoint['addresses']) or 'none'}",
            )
