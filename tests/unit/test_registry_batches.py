"""Datagrams many at once: each gets its own answer, whatever happens to the others."""

import socket
from collections.abc import Iterator

import pytest

from netd.registry.dns.batches import QUERY_BYTES_MAX, REPLY_BYTES_MAX, SIZE, Batch

ADDRESSES = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def opened(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((ADDRESSES[family], 0))
    sock.settimeout(5)
    return sock


@pytest.fixture(params=list(ADDRESSES), ids=lambda family: family.name)
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with opened(request.param) as sock:
        sock.setblocking(False)
        yield sock


def test_each_sender_gets_the_answer_to_what_it_has_sent(server: socket.socket) -> None:
    clients = [opened(server.family) for _ in range(10)]
    unsent = [0]
    batch = Batch(server.family, unsent)
    seen = []

    def answer(data: bytes, address: bytes, at: int) -> bytes | None:
        assert address == socket.inet_pton(server.family, ADDRESSES[server.family])
        assert batch.peer(at)[:2] == clients[int(data.split()[0])].getsockname()[:2]
        seen.append(data)
        return None if data.endswith(b"no answer") else data * 2

    for turn in range(3):  # what is left of an earlier batch does no harm
        sent = [b"%d %s" % (number, b"x" * (number * (3 - turn))) for number in range(10)]
        sent[4] = b"4 no answer"
        for client, data in zip(clients, sent, strict=True):
            client.sendto(data, server.getsockname())
        assert batch.answer(server.fileno(), answer) == 10
        assert seen == sent
        seen.clear()
        for client, data in zip(clients, sent, strict=True):
            if data != sent[4]:
                assert client.recv(9999) == data * 2
        clients[4].setblocking(False)
        with pytest.raises(BlockingIOError):
            clients[4].recv(9)
    assert unsent == [0]
    assert batch.answer(server.fileno(), answer) == 0
    for client in clients:
        client.close()


def test_more_than_a_batch_comes_in_turns(server: socket.socket) -> None:
    batch = Batch(server.family, [0])
    with opened(server.family) as client:
        for number in range(SIZE + 5):
            client.sendto(b"%d" % number, server.getsockname())
        assert batch.answer(server.fileno(), lambda data, address, at: data) == SIZE
        assert batch.answer(server.fileno(), lambda data, address, at: data) == 5
        assert [client.recv(9) for _ in range(SIZE + 5)] == [
            b"%d" % number for number in range(SIZE + 5)
        ]


def test_sizes_up_to_the_bounds(server: socket.socket) -> None:
    batch = Batch(server.family, [0])
    lengths = []

    def answer(data: bytes, address: bytes, at: int) -> bytes:
        lengths.append(len(data))
        return bytes(REPLY_BYTES_MAX)

    with opened(server.family) as client:
        for size in (0, 1, QUERY_BYTES_MAX, QUERY_BYTES_MAX + 1, 9000):
            client.sendto(bytes(size), server.getsockname())
        assert batch.answer(server.fileno(), answer) == 5
        assert lengths == [0, 1, QUERY_BYTES_MAX, QUERY_BYTES_MAX, QUERY_BYTES_MAX]
        assert [len(client.recv(9999)) for _ in range(5)] == [REPLY_BYTES_MAX] * 5


def test_one_that_cannot_be_answered_takes_nothing_from_the_others(server: socket.socket) -> None:
    """Port 0 is no destination: sendmmsg(2) ends there, and the rest is sent by another call."""
    unsent = [0]
    batch = Batch(server.family, unsent)

    def answer(data: bytes, address: bytes, at: int) -> bytes:
        if data in (b"0", b"3", b"4"):
            at_port = at * batch.name_bytes + 2
            batch.names[at_port : at_port + 2] = b"\0\0"
        return data

    with opened(server.family) as client:
        for number in range(6):
            client.sendto(b"%d" % number, server.getsockname())
        assert batch.answer(server.fileno(), answer) == 6
        assert [client.recv(9) for _ in range(3)] == [b"1", b"2", b"5"]
    assert unsent == [3]


def test_a_closed_socket_is_an_error(server: socket.socket) -> None:
    descriptor = server.fileno()
    server.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        Batch(server.family, [0]).answer(descriptor, lambda data, address, at: None)
