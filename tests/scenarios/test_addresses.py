"""No address is given twice, and hosts get more of them from each other."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.lab import Lab
from tests.lab.waiting import wait_for
from tests.scenarios.overlay import SUBNET4, Overlay, await_reach

SMALL = "10.46.0.0/27"  # of which each of three hosts owns 8 or 16 addresses
SMALL_SIZE = 32
DEATH_S = 90.0  # until hosts that are cut off are known to be: nine seconds are usual
AT_ONCE = 4  # containers on each host


class Attempt(NamedTuple):
    """What became of an attach: the address, or what was said."""

    address: str
    said: str


def attempt(host: LabHost, network: str, name: str, *flags: str) -> Attempt:
    """Attach a new container, which may be refused."""
    host.start(name)
    command = ("netctl", "endpoint", "attach", network, "--json", "--container", name)
    wrapped = host.wrap(*command, "--netns", name, *flags)
    done = subprocess.run(wrapped, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:
        return Attempt("", done.stderr)
    address: str = json.loads(done.stdout)["addresses"][0]
    return Attempt(address.partition("/")[0], "")


def test_hosts_that_attach_at_once_give_different_addresses(blue: Overlay, lab: Lab) -> None:
    def attach_all(host: LabHost) -> list[Attempt]:
        return [attempt(host, "blue", f"{host}-{number}") for number in range(AT_ONCE)]

    with ThreadPoolExecutor(len(lab.hosts)) as pool:
        done = [made for per_host in pool.map(attach_all, lab.hosts) for made in per_host]
    assert not [made.said for made in done if made.said]
    assert len({made.address for made in done}) == AT_ONCE * len(lab.hosts)


def test_of_two_who_ask_for_one_address_at_once_one_gets_it(
    blue: Overlay, one: LabHost, two: LabHost
) -> None:
    fixed = ("--address", "10.44.200.20")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(attempt, one, "blue", "first", *fixed)
        second = pool.submit(attempt, two, "blue", "second", *fixed)
        done = [first.result(), second.result()]
    assert sorted(made.address for made in done) == ["", "10.44.200.20"], done
    refused = next(made for made in done if not made.address)
    assert "10.44.200.20" in refused.said


def test_a_host_that_is_cut_off_gives_what_it_owns_and_no_more(
    lab: Lab, one: LabHost, two: LabHost
) -> None:
    small = Overlay.create(lab, "small", "--subnet", SMALL)
    first = small.container(two, "first")
    lab.part([one], lab.others(one))
    lab.await_seen("dead", lab.others(one), [one], DEATH_S)
    given = []
    for number in range(SMALL_SIZE):
        made = attempt(one, "small", f"c{number}")
        if not made.address:
            break
        given.append(made.address)
    else:
        raise AssertionError("it gave more than there are")
    assert 0 < len(given) < SMALL_SIZE - 8
    assert len(set(given)) == len(given)
    assert first.address() not in given
    assert str(two) in made.said, "who has the others"

    lab.heal()
    lab.await_whole()
    more: list[Container] = []

    def gets_one() -> bool:
        name = f"more{len(more)}"
        more.append(Container(one, name))
        return bool(attempt(one, "small", name).address)

    wait_for(gets_one, what="an address from another host", show=lambda: made.said)
    assert more[-1].address() not in {*given, first.address()}
    await_reach(more[-1], first)


def test_addresses_of_a_network_that_is_gone_can_be_used_again(
    lab: Lab, one: LabHost, two: LabHost
) -> None:
    for _ in range(2):
        blue = Overlay.create(lab, "blue", "--subnet", SUBNET4)
        a, b = blue.pair(one, two)
        for container in (a, b):
            container.end()
        lab.remove_networks()
