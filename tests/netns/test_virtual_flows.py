"""Flows to virtual addresses are forgotten by their target, or all of them."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

import pytest

from netd.kernel.conntrack import forget_flows
from netd.plan.operations import Operation
from netd.plan.virtual import Flows, flows_of
from tests.netns.conftest import Container, needs_slots
from tests.netns.host_lab import Lab
from tests.netns.test_conntrack import flows, send
from tests.netns.test_virtual_rules import ADDRESS, FAMILIES, at, expose, lab_of

pytestmark = needs_slots

Make = Callable[[], Container]
UNKNOWN: Final = {4: "10.191.0.10", 6: "fd6e:6574:6400::a"}


@pytest.fixture
def lab(container: Make) -> Iterator[Lab]:
    made = lab_of(container)
    yield made
    made.nft.close()


def led_to(lab: Lab, protocol: str, family: int, place: str) -> Flows:
    return Flows(
        protocol="udp" if protocol == "udp" else "tcp",
        address=ADDRESS[family],
        port=80,
        target=lab.places[place].addresses[family],
        target_port=8080,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_that_goes_on_sending_gets_another_instance(lab: Lab, family: int) -> None:
    with (
        closing(lab.open("blue1", family, socket.SOCK_DGRAM)) as first,
        closing(lab.open("blue2", family, socket.SOCK_DGRAM)) as second,
        closing(lab.open("blue2", family, socket.SOCK_DGRAM)) as client,
    ):
        first.bind(("", 8080))
        second.bind(("", 8080))
        expose(lab, "udp", [at(lab, "blue1", family)])
        client.sendto(b"1", (ADDRESS[family], 80))
        assert first.recv(9) == b"1"
        expose(lab, "udp", [at(lab, "blue2", family)])
        client.sendto(b"2", (ADDRESS[family], 80))
        assert first.recv(9) == b"2"  # the old flow lives on
        assert forget_flows([led_to(lab, "udp", family, "blue2")]) == 0
        assert forget_flows([led_to(lab, "udp", family, "blue1")]) == 1
        client.sendto(b"3", (ADDRESS[family], 80))
        assert second.recv(9) == b"3"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_connection_whose_flow_is_forgotten_is_reset(lab: Lab, family: int) -> None:
    expose(lab, "tcp", [at(lab, "blue1", family)])
    with (
        closing(lab.open("blue1", family, socket.SOCK_STREAM)) as listening,
        closing(lab.open("blue2", family, socket.SOCK_STREAM)) as client,
    ):
        listening.bind(("", 8080))
        listening.listen()
        client.connect((ADDRESS[family], 80))
        accepted, _ = listening.accept()
        with closing(accepted):
            # It is no instance any more; another one takes what comes.
            expose(lab, "tcp", [at(lab, "blue2", family)])
            client.send(b"ask")
            assert accepted.recv(9) == b"ask"
            assert forget_flows([led_to(lab, "udp", family, "blue1")]) == 0
            assert forget_flows([led_to(lab, "tcp", family, "blue1")]) == 1
            client.send(b"ask")
            with pytest.raises(ConnectionResetError):
                client.recv(9)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_flows_to_an_address_and_port_go(lab: Lab, family: int) -> None:
    home = at(lab, "blue1", family)
    expose(lab, "udp", [home])
    for port in (80, 81):
        send(lab, "far", lab.uplink[family], port)
        send(lab, "blue2", ADDRESS[family], port)
    before = flows(family)
    assert ("udp", ADDRESS[family], "80") in before
    every = Flows(protocol="udp", address=ADDRESS[family], port=80)
    other = Flows(protocol="udp", address=UNKNOWN[family], port=80)
    assert forget_flows([every, other]) == 1
    assert before - flows(family) == {("udp", ADDRESS[family], "80")}
    assert forget_flows([]) == 0


def test_elements_say_which_flows_they_led(lab: Lab) -> None:
    expose(lab, "udp", [at(lab, "blue1", 4), at(lab, "blue2", 4)])
    observed = [obj for key, obj in lab.nft.observe().items() if key[2].startswith("spread")]
    assert flows_of(observed) == {  # type: ignore[arg-type]
        led_to(lab, "udp", 4, "blue1"),
        led_to(lab, "udp", 4, "blue2"),
    }
    operations = [Operation(verb="delete", object=obj, reason="test") for obj in observed]
    assert lab.nft.apply(operations) == []
