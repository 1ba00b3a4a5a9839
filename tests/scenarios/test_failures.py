"""Daemons that are killed, hosts that die, parts that cannot hear each other."""

from functools import partial

import pytest

from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.lab import Lab
from tests.lab.waiting import wait_for
from tests.scenarios.flows import Probe, Stream
from tests.scenarios.overlay import (
    FAMILIES,
    KNOWN_S,
    Overlay,
    await_reach,
    entries,
    mac_of,
)

Pair = tuple[Container, Container]
DEATH_S = 90.0
"""Within this time the others know of a host that has died; nine seconds are usual."""
LEFT_S = 1.0
"""Within this time after that nothing is sent to the host; some milliseconds are usual."""
MOVED_S = 5.0
"""Within this time an address that has moved is right everywhere, ten times what is promised."""


def is_left(host: LabHost, other: LabHost) -> bool:
    """Whether nothing on `host` leads to the other."""
    return not entries(host, other.address)


def test_a_stream_loses_nothing_when_each_daemon_is_killed(pair: Pair, lab: Lab) -> None:
    streams = [Stream(*pair, family) for family in FAMILIES[:1]]
    streams.append(Stream(pair[1], pair[0], 6))
    for host in lab.hosts:
        host.kill_netd()
        host.start_netd()
        lab.await_whole()
    for stream in streams:
        stream.assert_whole()


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_restart_loses_no_packet(pair: Pair, lab: Lab, signal: str) -> None:
    a, b = pair
    Probe.listen(b)
    probe = Probe(a, b.address())
    for host in (a.host, b.host):
        if signal == "TERM":
            host.stop_netd()
        else:
            host.kill_netd()
        host.start_netd()
        lab.await_whole()
    probe.assert_nothing_was_lost()
    assert not a.host.plan()


def test_a_host_whose_daemon_is_away_goes_on(pair: Pair) -> None:
    a, b = pair
    a.host.stop_netd()
    b.host.stop_netd()
    assert a.pings(b.address())
    assert b.pings(a.address(6))


def test_a_host_whose_daemon_is_away_for_long_is_reached_as_before(pair: Pair, lab: Lab) -> None:
    a, b = pair
    Probe.listen(b)
    probe = Probe(a, b.address())
    b.host.stop_netd()
    lab.await_seen("dead", [b.host], lab.others(b.host), DEATH_S)
    assert a.pings(b.address(6))
    assert a.host.succeeds("ping", "-c", "1", "-W", "2", b.address())
    b.host.start_netd()
    lab.await_whole()
    probe.assert_nothing_was_lost()


def test_a_host_that_dies_is_left_out_and_is_back_at_once(
    blue: Overlay, lab: Lab, one: LabHost, two: LabHost
) -> None:
    a = blue.container(one, "a")
    b = blue.container(two, "b", "--address", "10.44.77.7")
    await_reach(a, b)
    mac = mac_of(b)
    assert entries(one, two.address)
    assert mac in one.run("ip", "neigh", "show")

    two.power_off()
    others = lab.others(two)
    lab.await_seen("dead", [two], others, DEATH_S)
    for host in others:
        # That its kernel does not answer either was found out meanwhile.
        wait_for(partial(is_left, host, two), LEFT_S * host.slowness, what=f"{host} leaves {two}")
    assert mac not in one.run("ip", "neigh", "show"), "nobody is looked for there"
    assert not a.pings("10.44.77.7", wait_s=1)

    two.power_on()
    two.clear()
    again = blue.container(two, "b", "--address", "10.44.77.7")
    await_reach(a, again)
    await_reach(again, a)


def test_a_partition_leaves_each_part_at_work_and_heals(
    blue: Overlay, lab: Lab, one: LabHost, two: LabHost
) -> None:
    a, b = blue.pair(one, two)
    lab.part([one], lab.others(one))
    assert not a.pings(b.address(), wait_s=1)
    lab.await_seen("dead", lab.others(one), [one], DEATH_S)
    lab.await_seen("dead", [one], lab.others(one), DEATH_S)

    # Both parts go on giving addresses, each its own.
    in_one = blue.container(one, "in-one")
    in_two = blue.container(two, "in-two")
    assert in_one.pings(a.address())
    assert in_two.pings(b.address(6))

    lab.heal()
    lab.await_whole()
    everybody = (a, b, in_one, in_two)
    for source in everybody:
        for target in everybody:
            await_reach(source, target)
    for family in FAMILIES:
        assert len({container.address(family) for container in everybody}) == 4


def test_a_stream_outlives_a_short_partition(pair: Pair, lab: Lab) -> None:
    stream = Stream(*pair)
    a, b = pair
    lab.cut(a.host, b.host)
    assert not a.pings(b.address(), wait_s=1)
    lab.heal()
    assert a.pings(b.address(), wait_s=5)
    stream.assert_whole()


def test_a_moved_address_is_right_everywhere_at_once(
    blue: Overlay, lab: Lab, one: LabHost, two: LabHost, three: LabHost
) -> None:
    """The container is stopped and started again on another host, with its address."""
    address = "10.44.99.9"
    observers = [blue.container(host, f"sees-{host}") for host in (one, two)]
    quiet = blue.container(one, "quiet")
    before = blue.container(two, "before", "--address", address)
    Probe.listen(before)
    for observer in (*observers, quiet):
        wait_for(partial(observer.pings, address, wait_s=1), KNOWN_S * one.slowness)
    probes = [Probe(observer, address) for observer in observers]
    before.end()
    after = three.start("after")
    Probe.listen(after)
    after.attach("blue", "--address", address)
    attached_s = three.clock_s()
    for observer in observers:
        wait_for(partial(observer.pings, address, wait_s=1), MOVED_S * one.slowness)
    assert quiet.pings(address, wait_s=1), "its first packet since the move"
    for probe in probes:
        answers = probe.finish()
        assert answers[-1][1], "nothing arrives at the new place"
        lost_s = [when_s - attached_s for when_s, answered in answers if not answered]
        assert max(lost_s, default=0) < MOVED_S * one.slowness, "lost after all knew"
