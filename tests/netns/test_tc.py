"""Traffic control against the real kernel: what is set, what is left alone, what flows."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netd.kernel.netlink import NetlinkSocket
from netd.kernel.netns import Namespaces
from netd.kernel.tc import TrafficControl
from netd.model.endpoint import Bandwidth
from netd.plan.objects import HOST, Object, Redirect, Shaper, State, state_of
from netd.plan.operations import Operation, Verb
from netd.plan.shaping import shaping_objects
from tests.netns.conftest import Container, run

ENDPOINT = "0123456789abcdef"
VETH = "nv0123456789ab"
IFB = "ni0123456789ab"
HOST_ADDRESS, CONTAINER_ADDRESS = "10.77.0.1", "10.77.0.2"


@pytest.fixture
def control() -> Iterator[TrafficControl]:
    with NetlinkSocket() as rtnl:
        yield TrafficControl(rtnl)


@pytest.fixture
def veth() -> None:
    run("ip", "link", "add", VETH, "type", "veth", "peer", "name", "eth0")
    run("ip", "link", "add", IFB, "type", "ifb")


@pytest.fixture
def attached(container: Callable[[], Container]) -> Container:
    """A container reached through the veth, and an ifb, all up."""
    made = container()
    run("ip", "link", "add", VETH, "type", "veth", "peer", "name", "eth0", "netns", str(made.pid))
    run("ip", "link", "add", IFB, "up", "type", "ifb")
    run("ip", "address", "add", f"{HOST_ADDRESS}/24", "dev", VETH)
    run("ip", "link", "set", VETH, "up")
    made.run("ip", "address", "add", f"{CONTAINER_ADDRESS}/24", "dev", "eth0")
    made.run("ip", "link", "set", "eth0", "up")
    return made


def apply(control: TrafficControl, verb: Verb, *objects: Object) -> None:
    for obj in objects:
        failure = control.apply(Operation(verb=verb, object=obj, reason="test"))
        assert failure is None, failure.text()


def limits(bandwidth: Bandwidth) -> list[Object]:
    """The traffic control objects of a limit; the tests make the ifb themselves."""
    objects = shaping_objects(ENDPOINT, VETH, bandwidth, 1500)
    return [obj for obj in objects if isinstance(obj, Shaper | Redirect)]


def shaper(rate_bps: int = 20_000_000) -> Shaper:
    (only,) = limits(Bandwidth(ingress_bps=rate_bps))
    assert isinstance(only, Shaper)
    return only


REDIRECT = Redirect(owner=ENDPOINT, link=VETH, target=IFB)


def filters() -> str:
    return run("tc", "filter", "show", "dev", VETH, "ingress")


def qdiscs() -> str:
    return run("tc", "qdisc", "show", "dev", VETH)


# What flows


class Connections:
    """TCP and UDP sockets on both sides of the veth."""

    def __init__(self, container: Container) -> None:
        self._namespaces = Namespaces()
        self._path = container.path

    def __enter__(self) -> "Connections":
        return self

    def __exit__(self, *_: object) -> None:
        self._namespaces.close()

    def inside(self, kind: socket.SocketKind) -> socket.socket:
        """A bound socket of the container."""
        with Path(self._path).open("rb") as namespace, self._namespaces.entered(namespace.fileno()):
            made = socket.socket(socket.AF_INET, kind)
        made.bind((CONTAINER_ADDRESS, 0))
        made.settimeout(10)
        return made

    def tcp(self) -> tuple[socket.socket, socket.socket]:
        """The host's and the container's end of a connection."""
        with self.inside(socket.SOCK_STREAM) as listener:
            listener.listen()
            host = socket.create_connection(listener.getsockname(), timeout=10)
            inside, _ = listener.accept()
        inside.settimeout(10)
        return host, inside


def rate_bps(sender: socket.socket, receiver: socket.socket, size: int) -> float:
    """Send `size` bytes; return the rate at which they arrived."""
    thread = threading.Thread(target=sender.sendall, args=(bytes(size),))
    started = time.monotonic()
    thread.start()
    left = size
    while left:
        left -= len(receiver.recv(65536))
    elapsed_s = time.monotonic() - started
    thread.join()
    return size * 8 / elapsed_s


def test_both_directions_are_limited(attached: Container, control: TrafficControl) -> None:
    with Connections(attached) as connections:
        host, inside = connections.tcp()
        with host, inside:
            unlimited = rate_bps(host, inside, 8_000_000)
        apply(control, "add", *limits(Bandwidth(ingress_bps=20_000_000, egress_bps=10_000_000)))
        host, inside = connections.tcp()
        with host, inside:
            received = rate_bps(host, inside, 2_000_000)
            sent = rate_bps(inside, host, 1_000_000)
    assert unlimited > 60_000_000, "the path is too slow to show a limit"
    # Lower bounds are wide: one retransmission timeout is a quarter of such a short transfer.
    assert 12_000_000 < received < 22_000_000
    assert 6_000_000 < sent < 11_000_000


def test_a_limit_is_changed_and_lifted_under_a_live_connection(
    attached: Container, control: TrafficControl
) -> None:
    slow = limits(Bandwidth(ingress_bps=5_000_000, egress_bps=5_000_000))
    fast = limits(Bandwidth(ingress_bps=20_000_000, egress_bps=20_000_000))
    with Connections(attached) as connections:
        host, inside = connections.tcp()
        with host, inside:
            apply(control, "add", *slow)
            assert rate_bps(inside, host, 300_000) < 6_000_000
            apply(control, "change", *fast)
            assert 9_000_000 < rate_bps(inside, host, 1_000_000) < 22_000_000
            assert 9_000_000 < rate_bps(host, inside, 1_000_000) < 22_000_000
            apply(control, "delete", *reversed(fast))
            assert rate_bps(inside, host, 4_000_000) > 40_000_000


def test_no_queued_packet_is_lost_by_a_change(attached: Container, control: TrafficControl) -> None:
    crawl = shaper(8_000)
    apply(control, "add", crawl)
    payloads = [bytes([number]) * 1400 for number in range(18)]
    with Connections(attached) as connections:
        inside = connections.inside(socket.SOCK_DGRAM)
        with inside, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
            host.connect(inside.getsockname())
            for payload in payloads:
                host.send(payload)
            statistics = run("tc", "-s", "qdisc", "show", "dev", VETH)
            assert "dropped 0" in statistics
            assert "backlog 0b" not in statistics, "nothing was queued, the test shows nothing"
            apply(control, "change", shaper(100_000_000))
            host.send(b"last")
            assert [inside.recv(2000) for _ in payloads] == payloads
            assert inside.recv(2000) == b"last"


# What is set and seen


@pytest.mark.parametrize(
    "rate", [8_000, 12_345, 20_000_000, 1_000_000_000, 40_000_000_000, 1_000_000_000_000]
)
@pytest.mark.parametrize("mtu", [1500, 9000, 65_535])
def test_what_was_applied_is_observed_as_wanted(
    veth: None, control: TrafficControl, rate: int, mtu: int
) -> None:
    bandwidth = Bandwidth(ingress_bps=rate, egress_bps=rate)
    objects = shaping_objects(ENDPOINT, VETH, bandwidth, mtu)
    wanted = state_of(obj for obj in objects if isinstance(obj, Shaper | Redirect))
    apply(control, "add", *wanted.values())
    assert control.observe((), wanted) == wanted


def test_another_rate_than_wanted_is_seen(veth: None, control: TrafficControl) -> None:
    wanted = state_of(limits(Bandwidth(ingress_bps=20_000_000)))
    apply(control, "add", shaper(10_000_000))
    found = control.observe((), wanted)[HOST, "shaper", VETH]
    assert isinstance(found, Shaper)
    assert found.rate_bps == 10_000_000
    assert found.owner == ENDPOINT
    assert found.burst_bytes == pytest.approx(shaper(10_000_000).burst_bytes, abs=2)
    assert found.latency_us == pytest.approx(50_000, abs=10)


def test_a_limit_that_nobody_wants_is_seen_on_own_links_only(
    veth: None, control: TrafficControl
) -> None:
    apply(control, "add", shaper(), REDIRECT)
    assert control.observe((), {}) == {}
    state = control.observe((VETH, IFB), {})
    assert set(state) == {(HOST, "shaper", VETH), (HOST, "redirect", VETH)}
    assert {obj.owner for obj in state.values()} == {""}


def test_unlimited_links_show_nothing(veth: None, control: TrafficControl) -> None:
    run("tc", "qdisc", "add", "dev", VETH, "ingress")
    assert control.observe((VETH, IFB, "lo"), {}) == {}


def test_adding_again_makes_no_second_filter(veth: None, control: TrafficControl) -> None:
    apply(control, "add", shaper(), REDIRECT)
    once = qdiscs()
    apply(control, "add", shaper(), REDIRECT)
    assert qdiscs() == once
    assert filters().count("mirred") == 1


def test_deletion_leaves_the_link_as_it_was(veth: None, control: TrafficControl) -> None:
    before = qdiscs()
    apply(control, "add", shaper(), REDIRECT)
    assert qdiscs() != before
    apply(control, "delete", REDIRECT, shaper())
    assert qdiscs() == before
    apply(control, "delete", REDIRECT, shaper())


def test_deletion_on_a_link_that_is_gone_succeeds(control: TrafficControl) -> None:
    apply(control, "delete", REDIRECT, shaper())


def test_a_redirect_to_a_link_made_anew_is_repaired(veth: None, control: TrafficControl) -> None:
    wanted: State = state_of([REDIRECT])
    apply(control, "add", REDIRECT)
    run("ip", "link", "delete", IFB)
    lost = control.observe((), wanted)[REDIRECT.key]
    assert isinstance(lost, Redirect)
    assert lost.target == ""
    run("ip", "link", "add", IFB, "type", "ifb")
    apply(control, "change", REDIRECT)
    assert control.observe((), wanted) == wanted


# What is refused and left alone


@pytest.mark.parametrize("obj", [shaper(), REDIRECT], ids=["shaper", "redirect"])
def test_no_such_link_is_a_failure(control: TrafficControl, obj: Object) -> None:
    failure = control.apply(Operation(verb="add", object=obj, reason="test"))
    assert failure is not None
    assert failure.errno == errno.ENODEV
    assert VETH in failure.message


def test_a_root_qdisc_of_another_program_is_left_alone(veth: None, control: TrafficControl) -> None:
    run("tc", "qdisc", "add", "dev", VETH, "root", "handle", "1:", "pfifo", "limit", "7")
    before = qdiscs()
    failure = control.apply(Operation(verb="add", object=shaper(), reason="test"))
    assert failure is not None
    assert failure.errno == errno.EEXIST
    assert "netd did not make" in failure.message
    apply(control, "delete", shaper())
    assert qdiscs() == before
    assert control.observe((VETH,), state_of([shaper()])) == {}


def test_a_default_qdisc_gives_way(control: TrafficControl) -> None:
    # A link with several queues has mq by default, made by the kernel when it is set up.
    run("ip", "link", "add", VETH, "numtxqueues", "2", "type", "ifb")
    run("ip", "link", "set", VETH, "up")
    assert "tbf" not in qdiscs()
    apply(control, "add", shaper())
    assert "qdisc tbf 6e64: root" in qdiscs()


@pytest.mark.parametrize("kind", ["ingress", "clsact"])
def test_filters_of_another_program_stay(veth: None, control: TrafficControl, kind: str) -> None:
    run("tc", "qdisc", "add", "dev", VETH, kind)
    match = ("u32", "match", "ip", "dst", "192.0.2.1", "classid", "1:1")
    run("tc", "filter", "add", "dev", VETH, "ingress", "protocol", "ip", "pref", "7", *match)
    before = (qdiscs(), filters())
    apply(control, "add", REDIRECT)
    assert "mirred" in filters()
    assert control.observe((VETH,), state_of([REDIRECT])) == state_of([REDIRECT])
    apply(control, "delete", REDIRECT)
    assert (qdiscs(), filters()) == before


def test_a_clsact_without_filters_stays(veth: None, control: TrafficControl) -> None:
    run("tc", "qdisc", "add", "dev", VETH, "clsact")
    apply(control, "add", REDIRECT)
    apply(control, "delete", REDIRECT)
    assert "clsact" in qdiscs()


def test_other_objects_are_not_for_traffic_control(control: TrafficControl) -> None:
    ifb = shaping_objects(ENDPOINT, VETH, Bandwidth(egress_bps=8_000), 1500)[0]
    with pytest.raises(TypeError, match="Ifb"):
        control.apply(Operation(verb="add", object=ifb, reason="test"))
