"""Ports are held against other programs, and what others hold is noticed."""

import errno
import resource
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from netd.kernel.ports import PortHolder
from netd.model.endpoint import Protocol
from netd.model.errors import Exhausted, KernelFailure
from netd.plan.ports import Family, HeldPort
from tests.netns.conftest import run

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
KINDS = {"tcp": TCP, "udp": UDP}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


@pytest.fixture
def holder() -> Iterator[PortHolder]:
    made = PortHolder()
    yield made
    made.close()


def port(
    number: int = 8080, *, protocol: Protocol = "tcp", family: Family = 4, address: str = ""
) -> HeldPort:
    return HeldPort(protocol=protocol, family=family, address=address, port=number)


def program(
    kind: int, family: int, address: str, number: int = 8080, *, reuse: bool = True
) -> socket.socket:
    """What another program does that serves there."""
    made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    try:
        if reuse:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address, number))
        if kind == TCP:
            made.listen()
    except OSError:
        made.close()
        raise
    return made


def is_refused(kind: int, family: int, address: str, *, reuse: bool) -> bool:
    try:
        program(kind, family, address, reuse=reuse).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return True
    return False


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_held_port_is_closed_to_others_until_it_is_released(
    holder: PortHolder, protocol: Protocol, family: Family, reuse: bool
) -> None:
    kind = KINDS[protocol]
    assert holder.hold([port(protocol=protocol, family=family)]) == []
    for address in ("", LOOPBACK[family]):
        assert is_refused(kind, family, address, reuse=reuse)
    assert not is_refused(TCP + UDP - kind, family, "", reuse=reuse)
    holder.release([port(protocol=protocol, family=family)])
    assert not is_refused(kind, family, "", reuse=reuse)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_one_address_is_held_alone(holder: PortHolder, protocol: Protocol) -> None:
    assert holder.hold([port(protocol=protocol, address="127.0.0.1")]) == []
    assert is_refused(KINDS[protocol], 4, "127.0.0.1", reuse=True)
    assert is_refused(KINDS[protocol], 4, "", reuse=True)
    assert not is_refused(KINDS[protocol], 4, "127.0.0.2", reuse=True)
    assert holder.hold([port(protocol=protocol, address="127.0.0.2")]) == []


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_both_families_are_held_side_by_side(holder: PortHolder, protocol: Protocol) -> None:
    both = [port(protocol=protocol, family=4), port(protocol=protocol, family=6)]
    assert holder.hold(both) == []
    assert holder.busy(both) == both


@pytest.mark.parametrize("family", [4, 6])
def test_an_address_may_come_later(holder: PortHolder, family: Family) -> None:
    address = {4: "192.0.2.77", 6: "2001:db8::77"}[family]
    assert holder.hold([port(family=family, address=address)]) == []
    usable_at_once = ("nodad",) if family == 6 else ()
    run("ip", "address", "add", address, "dev", "lo", *usable_at_once)
    assert is_refused(TCP, family, address, reuse=True)


def test_a_held_port_does_not_listen(holder: PortHolder) -> None:
    assert holder.hold([port()]) == []
    with closing(socket.socket()) as calling, pytest.raises(ConnectionRefusedError):
        calling.connect(("127.0.0.1", 8080))


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize(
    ("family", "listening", "address"),
    [
        (4, "", ""),
        (4, "", "127.0.0.1"),
        (4, "127.0.0.1", ""),
        (4, "127.0.0.1", "127.0.0.1"),
        (6, "::", ""),
        (6, "::1", ""),
        (6, "::1", "::1"),
    ],
)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_another_program_serves_is_busy(
    holder: PortHolder,
    protocol: Protocol,
    family: Family,
    listening: str,
    address: str,
    reuse: bool,
) -> None:
    wanted = port(protocol=protocol, family=family, address=address)
    with closing(program(KINDS[protocol], family, listening, reuse=reuse)):
        assert holder.busy([wanted]) == [wanted]
        assert holder.hold([wanted]) == [wanted]
    assert holder.busy([wanted]) == []
    assert holder.hold([wanted]) == []


def test_a_listener_of_both_families_keeps_ipv4_busy(holder: PortHolder) -> None:
    with closing(program(TCP, 6, "::")):  # not IPV6_V6ONLY
        assert holder.busy([port(), port(address="127.0.0.1")]) == [
            port(),
            port(address="127.0.0.1"),
        ]


def test_a_socket_that_is_bound_and_no_more_is_busy(holder: PortHolder) -> None:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 8080))
        assert holder.busy([port(), port(number=8081)]) == [port()]


def test_another_holder_is_busy(holder: PortHolder) -> None:
    other = PortHolder()
    assert other.hold([port(), port(protocol="udp")]) == []
    assert holder.hold([port(), port(protocol="udp")]) == [port(), port(protocol="udp")]
    other.close()
    assert holder.hold([port(), port(protocol="udp")]) == []


def test_all_are_held_or_none(holder: PortHolder) -> None:
    wanted = [port(number=number) for number in (8081, 8080, 8082)]
    with closing(program(TCP, 4, "")):
        assert holder.hold(wanted) == [port()]
        assert holder.busy(wanted) == [port()]


def test_what_is_held_already_stays_held(holder: PortHolder) -> None:
    assert holder.hold([port()]) == []
    assert holder.hold([port(), port(number=8081)]) == []
    with closing(program(TCP, 4, "", 8082)):
        assert holder.hold([port(), port(number=8082)]) == [port(number=8082)]
    assert is_refused(TCP, 4, "", reuse=True)
    assert holder.busy([port(number=8081)]) == [port(number=8081)]


def test_releasing_what_is_not_held_is_no_error(holder: PortHolder) -> None:
    holder.release([port(), port(protocol="sctp")])


@pytest.mark.parametrize("end", ["established", "time-wait"])
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("family", [4, 6])
def test_connections_of_an_old_server_are_not_in_the_way(
    holder: PortHolder, family: Family, reuse: bool, end: str
) -> None:
    listening = program(TCP, family, LOOPBACK[family], reuse=reuse)
    calling = socket.create_connection((LOOPBACK[family], 8080))
    accepted, _ = listening.accept()
    listening.close()
    if end == "time-wait":  # is on the side that closes first
        accepted.close()
        assert calling.recv(1) == b""
        calling.close()
    assert in_state(8080) == {"established": {"01"}, "time-wait": {"06"}}[end]
    with closing(calling), closing(accepted):
        assert holder.busy([port(family=family)]) == []
        assert holder.hold([port(family=family)]) == []
        for again in (False, True):
            assert is_refused(TCP, family, "", reuse=again)


@pytest.mark.parametrize("end", ["established", "time-wait"])
@pytest.mark.parametrize("address", ["", "127.0.0.1"])
def test_a_connection_that_left_from_the_port_is_not_in_the_way(
    holder: PortHolder, address: str, end: str
) -> None:
    with closing(program(TCP, 4, "127.0.0.1", 9)) as listening:
        calling = socket.create_connection(("127.0.0.1", 9))
        accepted, _ = listening.accept()
        number = calling.getsockname()[1]
        if end == "time-wait":
            calling.close()
            assert accepted.recv(1) == b""
            accepted.close()
        wanted = port(number=number, address=address)
        with closing(calling), closing(accepted):
            with pytest.raises(OSError, match="in use"):  # so it is for everyone else
                program(TCP, 4, address, number)
            assert holder.busy([wanted]) == []
            assert holder.hold([wanted]) == []
            if end == "established":
                calling.sendall(b"on")
                assert accepted.recv(9) == b"on"
    with pytest.raises(OSError, match="in use"):
        program(TCP, 4, address, number)


def test_a_listener_beside_connections_is_busy(holder: PortHolder) -> None:
    with (
        closing(program(TCP, 4, "127.0.0.1")) as listening,
        closing(socket.create_connection(("127.0.0.1", 8080))),
    ):
        accepted, _ = listening.accept()
        with closing(accepted):
            assert holder.hold([port()]) == [port()]


def test_sctp_is_held_where_the_kernel_has_it(holder: PortHolder) -> None:
    try:
        other = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    except OSError:
        assert holder.hold([port(protocol="sctp")]) == []  # nobody can have it
        assert holder.busy([port(protocol="sctp")]) == []
        pytest.skip("this kernel has no SCTP sockets")
    with closing(other):
        other.bind(("", 8080))
        assert holder.hold([port(protocol="sctp")]) == [port(protocol="sctp")]


def test_without_descriptors_nothing_is_held(holder: PortHolder) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = [port(number=number) for number in range(9000, 9200)]
    with closing(socket.socket()) as probe:
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno() + 100, hard))
    try:
        with pytest.raises(Exhausted, match="9"):
            holder.hold(wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert holder.busy(wanted) == []
    assert holder.hold(wanted) == []


def test_what_the_kernel_refuses_is_said(holder: PortHolder) -> None:
    with pytest.raises(KernelFailure, match="fe80::1"):
        holder.hold([port(family=6, address="fe80::1")])


def in_state(number: int) -> set[str]:
    """The states of sockets that have `number` as local port, as /proc/net/tcp has them."""
    lines = run("cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()
    fields = [line.split() for line in lines]
    return {words[3] for words in fields if words[1].endswith(f":{number:04X}")}
