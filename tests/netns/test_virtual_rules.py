"""Virtual addresses judged by packets: who reaches which instance, and who is refused."""

import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Final

import pytest
from msgspec.structs import replace

from netd.model.service import Affinity, VirtualPort
from netd.plan.firewall import ruleset
from netd.plan.objects import SetElement
from netd.plan.operations import Operation
from netd.plan.virtual import elements
from netd.plan.virtual_rules import SPREADS, STICKY_SPREADS, VirtualPools, client_number, spread_set
from netd.plan.virtual_views import LINK, Backend, Bridged, Networks
from tests.netns.conftest import Container, needs_slots, run
from tests.netns.host_lab import DROPPED_S, NETWORKS, WAIT_S, Lab
from tests.netns.test_publish import SOURCES

pytestmark = needs_slots

POOLS: Final = VirtualPools("10.191.0.0/16", "fd6e:6574:6400::/112")
ADDRESS: Final = {4: "10.191.0.9", 6: "fd6e:6574:6400::9"}
UNKNOWN: Final = {4: "10.191.0.10", 6: "fd6e:6574:6400::a"}
FAMILIES: Final = (4, 6)
TYPES: Final = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
AT_ONCE_S: Final = 0.1
Make = Callable[[], Container]


def lab_of(container: Make, *, br_netfilter: bool = False, guard: bool = False) -> Lab:
    lab = Lab(container, br_netfilter=br_netfilter, guard=guard)
    lab.add(ruleset(forward_guard=guard, virtual=POOLS))
    run("ip", "link", "add", LINK, "up", "type", "bridge")
    run("ip", "route", "add", POOLS.ipv4, "dev", LINK)
    run("ip", "-6", "route", "add", POOLS.ipv6, "dev", LINK)
    return lab


@pytest.fixture
def lab(container: Make) -> Iterator[Lab]:
    made = lab_of(container)
    yield made
    made.nft.close()


def expose(
    lab: Lab, protocol: str, backends: Sequence[Backend], affinity: Affinity = "none"
) -> None:
    """Have the service's instances be these, and no others."""
    port = VirtualPort(port=80, protocol=protocol)  # type: ignore[arg-type]
    bridged = {
        each.name: Bridged(link=f"nd-{each.name}", isolated=each.isolated, internal=each.internal)
        for each in NETWORKS.values()
    }
    before = [obj for obj in lab.nft.observe().values() if obj.owner == "virtual-web"]
    gone = [Operation(verb="delete", object=obj, reason="test") for obj in before]
    assert lab.nft.apply(gone) == []
    wanted = elements(
        "virtual-web", ADDRESS.values(), [port], backends, affinity, networks=Networks(bridged)
    )
    lab.add(*wanted)


def at(lab: Lab, place: str, family: int, port: int = 8080) -> Backend:
    """An instance there that all are led to, whether they reach it or not."""
    return Backend(
        id=f"{place}-{family}-{port}", address=lab.places[place].addresses[family], port=port
    )


def known_at(lab: Lab, place: str, family: int) -> Backend:
    """An instance there that those are led to who reach it."""
    if place == "host":
        return Backend(id=place, address=lab.uplink[family], port=8080, at_host=True)
    name = place.rstrip("12")
    return replace(at(lab, place, family), network=name if name in NETWORKS else "")


def refusal(
    lab: Lab, place: str, protocol: str, address: str, port: int = 80, within_s: float = AT_ONCE_S
) -> str:
    """What a client at that place is told within that time."""
    family = 6 if ":" in address else 4
    with closing(lab.open(place, family, TYPES[protocol])) as calling:
        calling.settimeout(max(DROPPED_S, within_s))
        begun_s = time.monotonic()
        try:
            calling.connect((address, port))
            if protocol == "udp":
                calling.send(b"ask")
                calling.recv(9)
        except TimeoutError:
            return "no answer"
        except OSError as error:
            assert time.monotonic() - begun_s < within_s
            return error.strerror or ""
    return "connected"


def patience_s(protocol: str, family: int) -> float:
    """Of what was translated; see the rules' chain `forward_virtual`."""
    return 3.0 if (protocol, family) == ("tcp", 6) else AT_ONCE_S


@pytest.mark.parametrize("br_netfilter", [False, True], ids=["bridged", "br_netfilter"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_containers_of_its_network_the_instance_itself_and_the_host_reach_it(
    container: Make, protocol: str, family: int, br_netfilter: bool
) -> None:
    lab = lab_of(container, br_netfilter=br_netfilter, guard=True)
    expose(lab, protocol, [at(lab, "blue1", family)])
    gateway = lab.gateways["blue"][family]

    def source(client: str) -> str | None:
        return SOURCES[protocol](lab, client, ADDRESS[family], 80, "blue1", 8080)

    assert {client: source(client) for client in ("blue2", "blue1", "host")} == {
        "blue2": gateway,
        "blue1": gateway,
        "host": gateway,
    }
    lab.nft.close()


@pytest.mark.parametrize("br_netfilter", [False, True], ids=["bridged", "br_netfilter"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_it_opens_no_way_between_networks_that_are_apart(
    container: Make, protocol: str, family: int, br_netfilter: bool
) -> None:
    lab = lab_of(container, br_netfilter=br_netfilter)
    expose(lab, protocol, [at(lab, "blue1", family)])
    told = {
        client: refusal(
            lab, client, protocol, ADDRESS[family], within_s=patience_s(protocol, family)
        )
        for client in ("red1", "green1", "open1", "lan")
    }
    assert told == dict.fromkeys(told, "Connection refused")
    lab.nft.close()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_isolated_network_keeps_to_itself(lab: Lab, protocol: str, family: int) -> None:
    expose(lab, protocol, [at(lab, "open1", family)])
    told = refusal(lab, "blue1", protocol, ADDRESS[family], within_s=patience_s(protocol, family))
    assert told == "Connection refused"
    gateway = lab.gateways["open"][family]
    assert SOURCES[protocol](lab, "open1", ADDRESS[family], 80, "open1", 8080) == gateway


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_instance_outside_is_reached_from_containers_and_the_host(
    lab: Lab, protocol: str, family: int
) -> None:
    expose(lab, protocol, [at(lab, "far", family)])
    own = {4: "203.0.113.1", 6: "2001:db8:2::1"}[family]
    for client in ("blue1", "open1", "host"):
        assert SOURCES[protocol](lab, client, ADDRESS[family], 80, "far", 8080) == own
    assert refusal(lab, "lan", protocol, ADDRESS[family]) == "Connection refused"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("client", ["blue1", "host"])
def test_an_instance_on_the_host_is_reached(
    lab: Lab, client: str, protocol: str, family: int
) -> None:
    uplink = lab.uplink[family]
    expose(lab, protocol, [Backend(id="host", address=uplink, port=8080)])
    with (
        closing(lab.open("host", family, TYPES[protocol])) as serving,
        closing(lab.open(client, family, TYPES[protocol])) as calling,
    ):
        serving.bind((uplink, 8080))  # bound to all, UDP would be answered from another address
        if protocol == "tcp":
            serving.listen()
        calling.connect((ADDRESS[family], 80))
        calling.send(b"ask")
        if protocol == "tcp":
            accepted = stream_of(serving)
            assert accepted.recv(9) == b"ask"
            accepted.sendall(b"answer")
            accepted.close()
        else:
            data, peer = serving.recvfrom(9)
            assert data == b"ask"
            serving.sendto(b"answer", peer)
        assert calling.recv(9) == b"answer"


def stream_of(listening: socket.socket) -> socket.socket:
    accepted, _ = listening.accept()
    accepted.settimeout(WAIT_S)
    return accepted


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_where_nothing_takes_connections_a_client_is_refused_at_once(
    lab: Lab, protocol: str, family: int
) -> None:
    expose(lab, protocol, [at(lab, "blue1", family)])
    for client in ("blue2", "red1", "host"):
        told = "Connection refused"
        if (client, protocol) == ("host", "udp"):
            told = (
                "Operation not permitted"  # what is refused on its way out is an error of send(2)
            )
        for address, port in ((ADDRESS[family], 81), (UNKNOWN[family], 80)):
            assert refusal(lab, client, protocol, address, port) == told


def test_what_is_published_goes_on_being_reached(lab: Lab) -> None:
    expose(lab, "tcp", [at(lab, "blue1", 4)])
    lab.publish("tcp", 4, 8080, "blue1", 80)
    own = lab.places["red1"].addresses[4]
    assert SOURCES["tcp"](lab, "red1", lab.uplink[4], 8080, "blue1", 80) == own


@pytest.mark.parametrize("br_netfilter", [False, True], ids=["bridged", "br_netfilter"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_client_is_led_to_instances_that_it_reaches(
    container: Make, family: int, br_netfilter: bool
) -> None:
    lab = lab_of(container, br_netfilter=br_netfilter, guard=True)
    places = ("blue1", "red1", "green1", "open1", "far", "host")
    expose(lab, "udp", [known_at(lab, place, family) for place in places])
    reached = {
        "blue2": {"blue1", "far", "host"},
        "red1": {"red1", "far", "host"},
        "green1": {"green1", "host"},
        "open1": {"open1", "far", "host"},
        "host": set(places),
    }
    with ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        for place in places:
            listening = stack.enter_context(closing(lab.open(place, family, socket.SOCK_DGRAM)))
            listening.bind(("", 8080))
            waiting.register(listening, selectors.EVENT_READ, (listening, place))

        def asked(client: str) -> set[str]:
            found = set()
            for _ in range(120):
                with closing(lab.open(client, family, socket.SOCK_DGRAM)) as calling:
                    calling.sendto(b"x", (ADDRESS[family], 80))
                    ((key, _),) = waiting.select(WAIT_S)
                listening, place = key.data
                listening.recv(9)
                found.add(place)
            return found

        assert {client: asked(client) for client in reached} == reached
    lab.nft.close()


def arrivals(lab: Lab, family: int, ports: Sequence[int], sources: Sequence[str]) -> Counter[int]:
    """Which port of blue1 a datagram from each source arrives at; each source is a new flow."""
    found: Counter[int] = Counter()
    with ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        for port in ports:
            listening = lab.open("blue1", family, socket.SOCK_DGRAM)
            stack.enter_context(closing(listening))
            listening.bind(("", port))
            waiting.register(listening, selectors.EVENT_READ, (listening, port))
        for source in sources:
            with closing(lab.open("blue2", family, socket.SOCK_DGRAM)) as calling:
                if source:
                    calling.bind((source, 0))
                calling.sendto(b"x", (ADDRESS[family], 80))
            for key, _ in waiting.select(WAIT_S):
                listening, port = key.data
                assert listening.recv(9) == b"x"
                found[port] += 1
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("sticky", "slots"),
    [*((False, slots) for slots in SPREADS), *((True, slots) for slots in STICKY_SPREADS)],
)
@pytest.mark.parametrize("near", [False, True], ids=["all", "near"])
def test_every_number_that_the_kernel_makes_is_a_slot(
    lab: Lab, family: int, sticky: bool, slots: int, near: bool
) -> None:
    """Were a key not as the kernel has the number, a packet would find nothing, and be refused."""
    home = lab.places["blue1"].addresses[family]
    ports = [9000 + slot % 8 for slot in range(slots)]
    client = str(client_number("nd-blue", "udp")) if near else "udp"
    lab.add(
        *(
            SetElement(
                owner="virtual-web",
                set_name=spread_set(family, slots, sticky=sticky, near=near),
                element=(ADDRESS[family], client, "80", str(slot)),
                value=(home, str(port)),
            )
            for slot, port in enumerate(ports)
        )
    )
    found = arrivals(lab, family, sorted(set(ports)), [""] * 60)
    assert found.total() == 60
    if not sticky and slots > 1:
        assert len(found) > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_connections_are_spread_by_weight(lab: Lab, family: int) -> None:
    home = lab.places["blue1"].addresses[family]
    expose(
        lab,
        "udp",
        [
            Backend(id=f"web-{port}", address=home, port=port, weight=weight)
            for port, weight in ((9001, 1), (9002, 3))
        ],
    )
    found = arrivals(lab, family, (9001, 9002), [""] * 400)
    assert found.total() == 400
    assert 200 < found[9002] < 380  # 300 are expected; the bounds are 10 standard deviations off


@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_keeps_its_instance_by_its_address(lab: Lab, family: int) -> None:
    home = lab.places["blue1"].addresses[family]
    prefix, length = ("10.1.0.", "24") if family == 4 else ("fd00:1::", "64")
    sources = [f"{prefix}{number}" for number in range(20, 60)]
    with lab.at("blue2"):
        for source in sources:
            flags = ["nodad"] if family == 6 else []
            run("ip", "address", "add", f"{source}/{length}", "dev", "eth0", *flags)
    backends = [Backend(id=f"web-{port}", address=home, port=port) for port in (9001, 9002, 9003)]
    expose(lab, "udp", backends, "source")
    for source in sources[:4]:
        assert len(arrivals(lab, family, (9001, 9002, 9003), [source] * 10)) == 1
    assert len(arrivals(lab, family, (9001, 9002, 9003), sources)) == 3
