"""What somebody deletes is put back, and what nobody needs is removed."""

import json
import re
from collections.abc import Callable
from functools import partial

import pytest

from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.lab import Lab
from tests.lab.waiting import wait_for
from tests.scenarios.overlay import (
    KNOWN_S,
    REPAIRED_S,
    SUBNET4,
    SUBNET6,
    Overlay,
    await_reach,
    mac_of,
    tunnel,
)

Pair = tuple[Container, Container]


def delete_forwarding(host: LabHost, other: Container) -> None:
    flags = ("self", "master")
    host.run("bridge", "fdb", "del", mac_of(other), "dev", tunnel(host), *flags)


def delete_neighbour(host: LabHost, other: Container) -> None:
    host.run("ip", "neigh", "del", other.address(), "dev", "nd-blue")


def delete_route(host: LabHost, other: Container) -> None:
    host.run("ip", "route", "del", SUBNET4, "dev", "nd-blue")


def delete_tunnel(host: LabHost, other: Container) -> None:
    host.run("ip", "link", "del", tunnel(host))


def delete_bridge(host: LabHost, other: Container) -> None:
    host.run("ip", "link", "del", "nd-blue")


@pytest.mark.parametrize(
    "delete",
    [delete_forwarding, delete_neighbour, delete_route, delete_tunnel, delete_bridge],
    ids=lambda delete: delete.__name__.removeprefix("delete_"),
)
def test_what_is_deleted_by_hand_is_back(
    pair: Pair, delete: Callable[[LabHost, Container], None]
) -> None:
    a, b = pair
    host = a.host
    before = state(host)
    delete(host, b)
    await_state(host, before, REPAIRED_S)
    await_reach(a, b)
    assert host.succeeds("ping", "-c", "1", "-W", "2", b.address())
    assert not host.plan()


def test_nothing_is_left_after_the_last_detach(lab: Lab, one: LabHost, two: LabHost) -> None:
    without = [state(host) for host in (one, two)]
    blue = Overlay.create(lab, "blue", "--subnet", SUBNET4, "--subnet", SUBNET6)
    known = [state(host) for host in (one, two)]
    assert known == without, "hosts that do not use it have nothing of it"
    for container in blue.pair(one, two):
        assert state(container.host) not in without
    for host, before in zip((one, two), without, strict=True):
        host.clear()
        await_state(host, before, KNOWN_S)
    for table in ("vtep", "endpoint"):
        await_no_records(lab, table)
    two.netctl("network", "rm", "blue")
    for host in lab.hosts:
        wait_for(partial(blue.is_gone, host), KNOWN_S * host.slowness)
    await_no_records(lab, "blocks")


def await_state(host: LabHost, expected: list[str], within_s: float) -> None:
    """Wait until all in the host's kernel is as it was."""
    wait_for(
        lambda: state(host) == expected,
        within_s * host.slowness,
        what=f"{host} as before",
        show=lambda: difference(expected, state(host)),
    )


def await_no_records(lab: Lab, table: str) -> None:
    """Wait until no host sees anything told in a table."""
    wait_for(lambda: not records(lab, table), KNOWN_S, show=lambda: records(lab, table))


def records(lab: Lab, table: str) -> list[object]:
    """What any host still sees told in a table."""
    return [
        record
        for host in lab.hosts
        for record in host.api(f"/v1/records?table={table}")
        if record["value"] is not None
    ]


def state(host: LabHost) -> list[str]:
    """All that netd could have made in the host's kernel, a line each."""
    links = [link["ifname"] for link in json.loads(host.run("ip", "-json", "link"))]
    commands = (
        ("ip", "-o", "address"),
        ("ip", "-4", "route", "show", "table", "all"),
        ("ip", "-6", "route", "show", "table", "all"),
        ("ip", "rule"),
        ("ip", "-6", "rule"),
        ("ip", "neigh", "show", "nud", "permanent"),
        ("nft", "-s", "list", "ruleset"),
    )
    lines = [line for command in commands for line in host.run(*command).splitlines()]
    lines += [line for line in host.run("bridge", "fdb").splitlines() if _is_made(line)]
    # The kernel gives link-local addresses after a while.
    lines = [_steady(line) for line in lines if "fe80::" not in line]
    return sorted([f"link {name}" for name in links] + lines)


def _is_made(entry: str) -> bool:
    """Whether a forwarding entry was not learned from a packet."""
    return bool({"permanent", "static", "extern_learn"} & set(entry.split()))


def _steady(line: str) -> str:
    """Without what is another number each time, and what the kernel does meanwhile."""
    return re.sub(r"^\d+: |@if\d+|expires \S+|valid_lft.*|(?<= )(dynamic|tentative) ", "", line)


def difference(before: list[str], after: list[str]) -> str:
    gone = [f"- {line}" for line in before if line not in after]
    new = [f"+ {line}" for line in after if line not in before]
    return "\n".join(["", *gone, *new])
