"""What one client may take, and how floods are kept out."""

import asyncio
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.directory import EndpointEntry, Entry, NetworkEntry
from netd.registry.dns import shedding
from netd.registry.dns.limits import FLOOD, Bucket, Connections, party
from netd.registry.dns.server import DnsServer
from netd.registry.dns.shedding import Shedding, program
from netd.registry.names import Names

# Buckets


def taken(bucket: Bucket, now_s: float) -> bool:
    bucket.tokens -= 1
    return bucket.tokens >= 0 or bucket.fill(now_s)


@given(
    rate=st.integers(10, 1000),
    moments=st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=2000),
)
def test_never_more_than_the_rate_and_two_buckets(rate: int, moments: list[float]) -> None:
    bucket = Bucket(rate, 0.0)
    moments.sort()
    passed = [now_s for now_s in moments if taken(bucket, now_s)]
    assert len(passed) <= rate * (moments[-1] + 2)


def test_who_asks_less_than_the_rate_is_never_refused() -> None:
    bucket = Bucket(100, 0.0)
    assert all(taken(bucket, number / 99) for number in range(10_000))


def test_who_asks_more_gets_the_rate() -> None:
    bucket = Bucket(100, 0.0)
    passed = sum(taken(bucket, number / 1000) for number in range(10_000))
    assert 1000 <= passed <= 1101


def test_a_flood_is_what_is_too_much_within_a_second() -> None:
    bucket = Bucket(100, 0.0)
    assert not any(bucket.floods(number / FLOOD * 2) for number in range(FLOOD * 3))
    assert sum(bucket.floods(100 + number / FLOOD / 4) for number in range(FLOOD * 2)) == 2


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd")), max_size=60))
def test_connections_are_counted_in_all_and_of_each(steps: list[tuple[bool, str]]) -> None:
    connections = Connections(5, 2)
    inside: list[str] = []
    for enters, client in steps:
        if enters:
            fits = len(inside) < 5 and inside.count(client) < 2
            assert connections.enter(client) == fits
            if fits:
                inside.append(client)
        elif client in inside:
            connections.leave(client)
            inside.remove(client)
        assert connections.open == len(inside)


# Floods

ADDRESSES4 = st.integers(0, 2**32 - 1).map(IPv4Address)
# Addresses of one network share words, where a wrong jump would be seen.
ADDRESSES6 = st.tuples(*[st.sampled_from((0, 1, 2**31)) for _ in range(4)]).map(
    lambda words: IPv6Address(struct.pack("!4I", *words))
)


def passes(code: bytes, source: IPv4Address | IPv6Address) -> bool:
    """What the kernel would do with a datagram of `source`."""
    header = bytearray(40)
    at = 12 if source.version == 4 else 8
    header[at : at + len(source.packed)] = source.packed
    steps = list(struct.iter_unpack("=HBBI", code))
    number = accumulator = 0
    while True:
        operation, if_equal, if_not, value = steps[number]
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("!I", header, value - 0xFFF00000)
        elif operation == 0x15:
            number += if_equal if accumulator == value else if_not
        else:
            assert operation == 0x06
            return bool(value)
        number += 1


@given(st.sets(ADDRESSES4, min_size=1, max_size=32), ADDRESSES4)
def test_the_program_drops_exactly_those_of_ipv4(
    shut: set[IPv4Address], other: IPv4Address
) -> None:
    code = program({str(address) for address in shut})
    assert not any(passes(code, address) for address in shut)
    assert passes(code, other) == (other not in shut)


@given(st.sets(ADDRESSES6, min_size=1, max_size=32), ADDRESSES6)
def test_the_program_drops_exactly_those_of_ipv6(
    shut: set[IPv6Address], other: IPv6Address
) -> None:
    code = program({str(address) for address in shut})
    assert not any(passes(code, address) for address in shut)
    assert passes(code, other) == (other not in shut)


@given(ADDRESSES6, ADDRESSES6)
def test_the_program_drops_a_prefix(shut: IPv6Address, other: IPv6Address) -> None:
    wanted = party(str(shut), known=False)
    code = program({wanted, "fd00:1::1"})
    assert not passes(code, shut)
    alike = IPv6Address(int(shut) >> 64 << 64 | int(other) % 2**64)
    for each in (alike, IPv6Address(int(shut) ^ 1 << 64), other):
        within = each in ip_network(wanted) or str(each) == "fd00:1::1"
        assert passes(code, each) != within


# Whom they count for


@pytest.mark.parametrize(
    ("source", "counts_for"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fd00::1", "fd00::/64"),
        ("::1", "::1"),
        ("fe80::1", "fe80::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7"),
    ],
)
def test_a_stranger_is_all_of_its_64(source: str, counts_for: str) -> None:
    assert party(source, known=False) == counts_for
    assert party(source, known=True) == source


class Quiet:
    """A feed that says nothing."""

    def drain(self) -> None:
        pass


def named(*endpoints: tuple[str, str]) -> Names:
    """The names of a host with the network blue and these endpoints, by id and address."""
    names = Names(Quiet())  # type: ignore[arg-type]
    network = NetworkEntry(subnets=("fd20::/64",), resolvers=("fd20::1",))
    names.change(None, Entry(revision=1, kind="network", id="blue", network=network))
    for ident, address in endpoints:
        names.change(None, attached(ident, address))
    return names


def attached(ident: str, address: str) -> Entry:
    endpoint = EndpointEntry(
        network="blue", container_id=ident, name=ident, node="host-1", addresses=(address,)
    )
    return Entry(revision=2, kind="endpoint", id=ident, endpoint=endpoint)


class Dns:
    """A server that takes ten queries in a second of each party; time stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, names: Names) -> None:
        monkeypatch.setattr("netd.registry.dns.server.time.monotonic", lambda: 100.0)
        self.server = DnsServer(names, None, rate=10)  # type: ignore[arg-type]
        names.rescope = self.server.rescope
        self._query = dns.message.make_query("web.blue.netd.internal.", "A").to_wire()

    def answers(self, source: str) -> bool:
        return self.server.answer_tcp(self._query, source) is not None


async def test_strangers_share_what_their_64_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Dns(monkeypatch, named(("c1", "fd20::7"), ("c2", "fd20::8")))
    answered = sum(made.answers(f"2001:db8::{number:x}") for number in range(1, 500))
    assert answered == 10
    assert made.server.clients == 10  # and nobody else has been pushed out by the others
    assert made.answers("2001:db8:0:1::1")
    # Containers have theirs each, whatever strangers in their network take.
    assert sum(made.answers(f"fd20::1:{number:x}") for number in range(1, 50)) == 10
    assert [sum(made.answers(f"fd20::{last}") for _ in range(20)) for last in "78"] == [10, 10]
    assert all(made.answers(f"192.0.2.{number}") for number in range(1, 100))
    assert all(made.answers(f"fe80::{number:x}%eth0") for number in range(1, 100))
    await made.server.close()


async def test_who_is_known_by_now_is_no_stranger_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = named()
    made = Dns(monkeypatch, names)
    assert sum(made.answers("fd20::7") for _ in range(20)) == 10
    names.change(None, attached("c1", "fd20::7"))
    assert made.answers("fd20::7")
    names.change(None, Entry(revision=3, kind="endpoint", id="c1"))
    assert not made.answers("fd20::7")
    await made.server.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_the_kernel_drops_a_flood_for_a_while(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "SHED_S", 0.2)
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    loop = asyncio.get_running_loop()
    with (
        socket.socket(family, socket.SOCK_DGRAM) as server,
        socket.socket(family, socket.SOCK_DGRAM) as client,
    ):
        for sock in (server, client):
            sock.bind((address, 0))
            sock.setblocking(False)
        shut = Shedding()
        other = "127.0.0.2" if family == socket.AF_INET else "::2"
        shut.shut_out(server, other)
        client.sendto(b"1", server.getsockname())
        assert server.recv(9) == b"1"
        shut.shut_out(server, address)
        shut.shut_out(server, address)
        assert shut.sources == 2
        client.sendto(b"2", server.getsockname())
        with pytest.raises(BlockingIOError):
            server.recv(9)
        await asyncio.sleep(0.25)
        client.sendto(b"3", server.getsockname())
        async with asyncio.timeout(5):
            assert await loop.sock_recv(server, 9) == b"3"


async def test_a_socket_that_is_closed_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shedding, "SHED_S", 0.05)
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        shut = Shedding()
        shut.shut_out(server, "127.0.0.1")
        shut.forget(server)
    await asyncio.sleep(0.1)  # nothing is done to the descriptor, which may be another's
