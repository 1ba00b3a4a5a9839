"""The UDP socket: batches, both families, and errors that never stop anything."""

import errno
import select
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from netd.cluster.sockets import Sockets
from netd.cluster.udp import DATAGRAM_MAX_BYTES, UdpSocket
from netd.gossip.values import Address
from netd.model.errors import Unavailable
from tests.unit.cluster_lab import has_ipv6

Received = list[tuple[bytes, Address]]

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="the host has no ::1")


@pytest.fixture
def udp() -> Iterator[UdpSocket]:
    made = UdpSocket(("127.0.0.1", 0), Counter())
    yield made
    made.close()


def drain(udp: UdpSocket, max_count: int = 1000, budget_s: float = 10.0) -> tuple[Received, bool]:
    received: Received = []
    assert select.select([udp.socket], [], [], 5)[0]
    more = udp.receive(lambda *packet: received.append(packet), max_count, budget_s)
    return received, more


def test_packets_come_with_their_source(udp: UdpSocket) -> None:
    udp.send(b"one", udp.address)
    udp.send(b"", udp.address)
    udp.send(b"two", udp.address)
    assert drain(udp) == ([(b"one", udp.address), (b"", udp.address), (b"two", udp.address)], False)
    assert udp.counters == {"udp_sent": 3, "udp_received": 3}


@needs_ipv6
def test_a_socket_on_both_families_speaks_ipv4_as_such(udp: UdpSocket) -> None:
    both = UdpSocket(("::", 0), Counter())
    udp.send(b"four", ("127.0.0.1", both.address[1]))
    assert drain(both)[0] == [(b"four", udp.address)]
    both.send(b"back", udp.address)
    assert drain(udp)[0] == [(b"back", ("127.0.0.1", both.address[1]))]
    both.send(b"six", ("::1", both.address[1]))
    assert drain(both)[0] == [(b"six", ("::1", both.address[1]))]
    both.close()


def test_a_wake_up_handles_no_more_than_its_share(udp: UdpSocket) -> None:
    for _ in range(100):
        udp.send(b"x", udp.address)
    received, more = drain(udp, max_count=64)
    assert (len(received), more) == (64, True)
    received, more = drain(udp, budget_s=0.0)
    assert 0 < len(received) < 36
    assert more
    assert drain(udp)[1] is False
    assert udp.counters["udp_received"] == 100


def test_longer_packets_than_the_protocol_has_are_refused(udp: UdpSocket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(bytes(DATAGRAM_MAX_BYTES), udp.address)
        other.sendto(bytes(DATAGRAM_MAX_BYTES + 1), udp.address)
        other.sendto(bytes(60_000), udp.address)
    assert [len(data) for data, _ in drain(udp)[0]] == [DATAGRAM_MAX_BYTES]
    assert udp.counters["udp_refused_too_long"] == 2


@pytest.mark.parametrize(
    "to",
    [
        ("localhost", 7940),  # never asks a DNS server
        ("", 7940),
        ("127.0.0.1\0", 7940),
        ("127.0.0.1", 0),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        ("::1", 7940),  # not of this socket's family
    ],
)
def test_what_is_no_address_is_counted(udp: UdpSocket, to: Address) -> None:
    for _ in range(2):
        udp.send(b"x", to)
    assert udp.counters == {"udp_send_address": 2}


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (errno.EAGAIN, "full"),
        (errno.ENOBUFS, "full"),
        (errno.EPERM, "forbidden"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.EMSGSIZE, "too_long"),
        (errno.EIO, "other"),
    ],
)
def test_what_cannot_be_sent_is_counted_by_reason(udp: UdpSocket, number: int, name: str) -> None:
    class Failing:
        def sendto(self, *_args: object) -> int:
            raise OSError(number, "no")

    real, udp.socket = udp.socket, Failing()  # type: ignore[assignment]
    udp.send(b"x", ("127.0.0.1", 1))
    udp.socket = real
    assert udp.counters == {f"udp_send_{name}": 1}


def test_a_packet_that_does_not_fit_is_not_cut_into_fragments(udp: UdpSocket) -> None:
    udp.send(bytes(65_507), udp.address)  # of loopback's 65,536 bytes
    assert udp.counters["udp_send_too_long"] == 0
    udp.send(bytes(65_508), udp.address)
    assert udp.counters["udp_send_too_long"] == 1
    discover = udp.socket.getsockopt(socket.IPPROTO_IP, 10)
    assert discover == 3  # IP_PMTUDISC_PROBE


def test_errors_of_earlier_packets_do_not_stop_receiving(udp: UdpSocket) -> None:
    class Failing:
        def recvfrom(self, _size: int) -> None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "no")

    real, udp.socket = udp.socket, Failing()  # type: ignore[assignment]
    assert udp.receive(lambda *_packet: None, 10, 1.0)
    udp.socket = real
    assert udp.counters["udp_receive_econnrefused"] == 1


def test_packets_the_kernel_has_no_room_for_are_known(udp: UdpSocket) -> None:
    udp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(100):
        udp.send(bytes(1000), udp.address)
    received, _ = drain(udp)
    assert udp.dropped() == 100 - len(received) > 0


def test_buffers_are_large(udp: UdpSocket) -> None:
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    size = udp.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert size >= min(limit, 4 << 20)


def test_one_port_for_both_and_a_clear_word_when_it_is_taken() -> None:
    first = Sockets(("127.0.0.1", 0), Counter())
    assert first.listening.getsockname()[1] == first.address[1]
    with pytest.raises(Unavailable, match=f"UDP 127.0.0.1 port {first.address[1]}: Address"):
        Sockets(first.address, Counter())
    first.udp.close()
    with pytest.raises(Unavailable, match=f"TCP 127.0.0.1 port {first.address[1]}: Address"):
        Sockets(first.address, Counter())
    first.close()
    Sockets(first.address, Counter()).close()  # nothing of the failures is left
    with pytest.raises(Unavailable, match=r"UDP 192\.0\.2\.1 port 7940: Cannot assign"):
        Sockets(("192.0.2.1", 7940), Counter())


def test_a_port_for_udp_that_tcp_has_no_more_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused: list[Address] = []
    listen = socket.socket.listen

    def once(self: socket.socket, backlog: int) -> None:
        if not refused:
            refused.append(self.getsockname())
            raise OSError(errno.EADDRINUSE, "Address already in use")
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", once)
    sockets = Sockets(("127.0.0.1", 0), Counter())
    assert refused
    assert sockets.listening.getsockname()[1] == sockets.address[1]
    sockets.close()
