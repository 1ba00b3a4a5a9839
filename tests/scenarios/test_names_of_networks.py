"""The same network is created on two hosts: at once, and where they cannot hear each other."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

from tests.lab.host import LabHost
from tests.lab.lab import Lab
from tests.lab.waiting import wait_for
from tests.scenarios.overlay import FAMILIES, KNOWN_S, SUBNET4, SUBNET6, Overlay, await_reach

SAME = ("--subnet", SUBNET4, "--subnet", SUBNET6)
OTHER = ("--subnet", "10.55.0.0/16")
SETTLED_S = 30.0
"""After a partition, all know what holds within this time."""


def create(host: LabHost, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = ("netctl", "network", "create", "blue", "--driver", "overlay", *flags)
    return subprocess.run(host.wrap(*command), capture_output=True, text=True, check=False)


def ids(blue: Overlay, lab: Lab) -> set[str]:
    return {network["id"] if (network := blue.on(host)) else "" for host in lab.hosts}


def await_one(blue: Overlay, lab: Lab) -> None:
    """Wait until all hosts have the same network of that name."""
    wait_for(
        lambda: len(found := ids(blue, lab)) == 1 and "" not in found,
        SETTLED_S * lab.hosts[0].slowness,
        what="one network everywhere",
        show=lambda: ids(blue, lab),
    )


def create_at_once(
    first: tuple[str, ...], second: tuple[str, ...], one: LabHost, two: LabHost
) -> list["subprocess.CompletedProcess[str]"]:
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(create, one, *first), pool.submit(create, two, *second)]
        return [future.result() for future in done]


def test_the_same_network_made_twice_at_once_is_one(lab: Lab, one: LabHost, two: LabHost) -> None:
    done = create_at_once(SAME, SAME, one, two)
    assert [process.returncode for process in done] == [0, 0], done
    blue = Overlay(lab, "blue")
    await_one(blue, lab)
    blue.pair(one, two)
    assert not blue.codes(one)
    assert not blue.codes(two)


def test_two_networks_of_one_name_made_at_once_leave_one(
    lab: Lab, one: LabHost, two: LabHost
) -> None:
    done = create_at_once(SAME, OTHER, one, two)
    assert 0 in {process.returncode for process in done}, done
    blue = Overlay(lab, "blue")
    await_one(blue, lab)
    for process in done:
        assert process.returncode == 0 or "exists in the cluster" in process.stderr, done
    a, b = blue.container(one, "a"), blue.container(two, "b")
    wait_for(lambda: a.pings(b.address(), wait_s=1), KNOWN_S * one.slowness)


def test_another_network_of_a_known_name_is_refused(
    blue: Overlay, one: LabHost, two: LabHost
) -> None:
    assert create(two, *SAME).returncode == 0, "it is the same"
    refused = create(two, *OTHER)
    assert refused.returncode == 4, refused
    assert "subnets" in refused.stderr


def test_the_same_network_made_in_both_parts_is_one_after_healing(
    lab: Lab, one: LabHost, two: LabHost
) -> None:
    lab.part([one], lab.others(one))
    for host in (one, two):
        assert create(host, *SAME).returncode == 0
    blue = Overlay(lab, "blue")
    a, b = blue.container(one, "a"), blue.container(two, "b")
    for family in FAMILIES:
        assert a.address(family) != b.address(family)
    lab.heal()
    lab.await_whole()
    await_one(blue, lab)
    await_reach(a, b, SETTLED_S)
    await_reach(b, a, SETTLED_S)
    assert not blue.codes(one)
    assert not blue.codes(two)


def test_of_two_networks_made_in_parts_the_later_has_a_conflict(
    lab: Lab, one: LabHost, two: LabHost
) -> None:
    lab.part([one], lab.others(one))
    assert create(one, *SAME).returncode == 0
    assert create(two, *OTHER).returncode == 0
    blue = Overlay(lab, "blue")
    a, b = blue.container(one, "a"), blue.container(two, "b")
    lab.heal()
    lab.await_whole()
    wait_for(
        lambda: "overlay-conflict" in blue.codes(two),
        SETTLED_S * two.slowness,
        what="the conflict is told",
    )
    assert "overlay-conflict" not in blue.codes(one)
    own = b.endpoint()["network_id"]
    assert "overlay-conflict" in two.netctl("network", "inspect", own)
    # What is there goes on as it is; the later one goes with its last endpoint.
    assert not a.pings(b.address(), wait_s=1)
    b.end()
    await_one(blue, lab)
    again = blue.container(two, "again")
    await_reach(a, again)
