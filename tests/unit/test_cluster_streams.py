"""Requests over TLS: who may ask what, and what no peer can do to a server."""

import asyncio
import socket
import ssl
import struct
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.cluster import admission, client, frames, room, server, tls
from netd.cluster.client import CallFailed
from netd.gossip.values import REPLY_MAX_BYTES, REQUEST_MAX_BYTES
from netd.model.errors import Forbidden
from tests.unit.cluster_lab import (
    Serving,
    client_of,
    has_ipv6,
    joiner_of,
    new_key,
    new_secret,
    serving,
)


async def raw(
    lab: Serving, context: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TLS connection that a test writes to itself, by default a stranger's."""
    return await asyncio.open_connection(
        *lab.address, ssl=context or tls.joiner_context(), server_hostname=""
    )


async def at_end(reader: asyncio.StreamReader) -> bytes:
    """All that still comes until the server has ended the connection."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except OSError:
            return b""


REPLIES = frames.REPLY_BOUNDS[frames.Request.CORE]


def end(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


# Members


async def test_a_member_is_answered_and_known_by_its_certificate() -> None:
    key = new_key()
    async with serving() as lab:
        assert await lab.client(key).call(lab.address, None, b"one", 5) == b"re:one"
        assert await lab.client(key).call(lab.address, lab.key.id, b"two", 5) == b"re:two"
    assert lab.asked == [(b"one", key.id), (b"two", key.id)]


@pytest.mark.skipif(not has_ipv6(), reason="the host has no ::1")
async def test_a_member_is_answered_over_ipv6() -> None:
    async with serving(host="::1") as lab:
        assert await lab.client().call(lab.address, lab.key.id, b"", 5) == b"re:"


async def test_one_connection_carries_many_requests() -> None:
    async with serving() as lab:
        reader, writer = await raw(lab, tls.client_context(lab.secret, new_key()))
        for number in range(20):
            writer.write(frames.frame(frames.Request.CORE, b"%d" % number))
            assert await frames.read(reader, REPLIES) == (0, b"re:%d" % number)
        end(writer)


async def test_the_largest_request_and_reply_pass_and_no_larger_reply() -> None:
    async with serving() as lab:
        lab.answer = lambda request: bytes(len(request))
        largest = bytes(REQUEST_MAX_BYTES)
        assert len(await lab.client().call(lab.address, None, largest, 10)) == REQUEST_MAX_BYTES
        lab.answer = lambda _: bytes(REPLY_MAX_BYTES)
        assert len(await lab.client().call(lab.address, None, b"", 10)) == REPLY_MAX_BYTES
        lab.answer = lambda _: bytes(REPLY_MAX_BYTES + 1)
        with pytest.raises(CallFailed, match="does not speak"):
            await lab.client().call(lab.address, None, b"", 10)


async def test_another_node_than_the_one_asked_for_is_not_told_anything() -> None:
    async with serving() as lab:
        with pytest.raises(CallFailed, match=f"node {lab.key.id.hex()} answers there"):
            await lab.client().call(lab.address, new_key().id, b"secret", 5)
    assert lab.asked == []


async def test_a_node_of_another_cluster_is_not_told_anything_nor_answered() -> None:
    async with serving() as lab:
        stranger = client_of(new_secret(), new_key())
        with pytest.raises(CallFailed, match="not a member of this cluster"):
            await stranger.call(lab.address, None, b"secret", 5)
        # Nor does its certificate help with the server, when it believes any.
        context = tls.joiner_context()
        other = new_secret()
        tls._identify(context, other, new_key())
        reader, writer = await raw(lab, context)
        writer.write(frames.frame(frames.Request.CORE, b"x"))
        assert await at_end(reader) == b""
        await lab.counted("stream_refused_handshake")
        end(writer)
    assert lab.asked == []


async def test_a_certificate_for_another_id_than_its_key_has_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as lab:
        key, victim = new_key(), new_key()
        with monkeypatch.context() as patched:
            patched.setattr(key, "id", victim.id)
            context = tls.client_context(lab.secret, key)
        reader, writer = await raw(lab, context)
        writer.write(frames.frame(frames.Request.CORE, b"x"))
        assert await at_end(reader) == b""
        await lab.counted("stream_refused_certificate")
        end(writer)
    assert lab.asked == []


async def test_older_tls_is_refused() -> None:
    async with serving() as lab:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError, match=r"(?i)^$|protocol|version|reset"):
            await raw(lab, context)
        await lab.counted("stream_refused_handshake")


# Questions to the engine


async def test_a_question_is_answered_and_keeps_no_request_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "ANSWERING_MAX", 1)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def ask(body: bytes, _node: bytes) -> bytes:
        asked.set()
        await answer.wait()
        return b"at last:" + body

    async with serving() as lab:
        lab.ask = ask
        member = lab.client()
        slow = asyncio.create_task(
            member.call(lab.address, lab.key.id, b"why", 10, frames.Request.ASK)
        )
        await asked.wait()
        assert await member.call(lab.address, lab.key.id, b"one", 10) == b"re:one"
        answer.set()
        assert await slow == b"at last:why"


async def test_the_largest_question_passes_and_a_larger_answer_is_none() -> None:
    async def much(body: bytes, _node: bytes) -> bytes:
        return bytes(len(body) * 2)

    async with serving() as lab:
        most = frames.REQUEST_BOUNDS[frames.Request.ASK]
        member = lab.client()
        answer = await member.call(lab.address, None, bytes(most), 5, frames.Request.ASK)
        assert len(answer) > most
        lab.ask = much
        with pytest.raises(CallFailed, match="of at most"):
            await member.call(lab.address, None, bytes(most), 5, frames.Request.ASK)
        with pytest.raises(CallFailed):
            await member.call(lab.address, None, bytes(most + 1), 5, frames.Request.ASK)
        assert lab.counters["stream_refused_frame"] == 1


async def test_questions_that_never_end_take_no_more_room_than_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "ROOM_BYTES", 4_000)
    monkeypatch.setattr(room, "ROOM_OF_MEMBER_BYTES", 2_000)
    async with serving() as lab:
        greedy = tls.client_context(lab.secret, new_key())
        begun = [await raw(lab, greedy) for _ in range(3)]
        for _, writer in begun:
            writer.write(struct.pack("!IB", 900, frames.Request.ASK) + bytes(899))
            await writer.drain()
        async with asyncio.timeout(10):
            while lab.server._room.used_bytes < 1_800:  # nothing tells that it was taken
                await asyncio.sleep(0.005)
        other = lab.client()  # has room of its own
        answer = await other.call(lab.address, None, bytes(2_000), 10, frames.Request.ASK)
        assert answer == b"to you:" + bytes(2_000)
        assert lab.server._room.used_bytes == 1_800  # the third one waits
        for reader, writer in begun:
            writer.write(b"!")
            _, answer = await frames.read(reader, frames.REPLY_BOUNDS[frames.Request.ASK])
            assert answer == b"to you:" + bytes(899) + b"!"
            end(writer)
        async with asyncio.timeout(10):
            while lab.server._room.used_bytes:  # nothing tells that it was left
                await asyncio.sleep(0.005)


async def test_a_question_for_which_there_is_never_room_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.1)
    monkeypatch.setattr(room, "ROOM_OF_MEMBER_BYTES", 1_000)
    async with serving() as lab:
        with pytest.raises(CallFailed):
            await lab.client().call(lab.address, None, bytes(1_001), 10, frames.Request.ASK)
        await lab.counted("stream_refused_deadline")
        assert lab.server._room.used_bytes == 0
    assert lab.asked == []


async def test_an_answer_that_does_not_come_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "ASK_S", 0.1)

    async def never(_body: bytes, _node: bytes) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving() as lab:
        lab.ask = never
        with pytest.raises(CallFailed, match="ended"):
            await lab.client().call(lab.address, None, b"x", 10, frames.Request.ASK)
        assert lab.counters["stream_refused_deadline"] == 1


# Strangers


async def test_a_stranger_asks_nothing() -> None:
    async with serving() as lab:
        stranger = joiner_of(lab.secret.authority_public_key)
        with pytest.raises(CallFailed, match=r"certificate is needed|connection"):
            await stranger.call(lab.address, None, b"x" * 60_000, 5, frames.Request.ASK)
        await lab.counted("stream_refused_stranger")
    assert lab.asked == []


async def test_without_a_certificate_a_token_is_redeemed_and_nothing_else() -> None:
    async with serving() as lab:
        stranger = joiner_of(lab.secret.authority_public_key)
        with pytest.raises(CallFailed, match=r"certificate is needed|connection"):
            await stranger.call(lab.address, None, b"x" * 100_000, 5)
        answer = await stranger.call(lab.address, None, b"s" * 32, 5, frames.Request.REDEEM)
        assert answer == b"key"
    assert lab.asked == []
    assert lab.redeemed == [b"s" * 32]
    assert lab.counters["stream_refused_stranger"] == 1


async def test_a_refused_token_is_answered_with_why() -> None:
    async def refuse(_secret: bytes) -> bytes:
        raise Forbidden("the token has expired")

    async with serving() as lab:
        lab.redeem = refuse
        stranger = joiner_of(lab.secret.authority_public_key)
        with pytest.raises(CallFailed, match="the token has expired") as failed:
            await stranger.call(lab.address, None, b"s" * 32, 5, frames.Request.REDEEM)
        assert failed.value.refused


async def test_a_token_is_shown_to_its_own_cluster_only() -> None:
    async with serving() as lab:
        stranger = joiner_of(new_secret().authority_public_key)
        with pytest.raises(CallFailed, match="another cluster"):
            await stranger.call(lab.address, None, b"s" * 32, 5, frames.Request.REDEEM)
    assert lab.redeemed == []


# What is no request


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!IB", REQUEST_MAX_BYTES + 1, 0),
        struct.pack("!IB", 0xFFFFFFFF, 0),
        struct.pack("!IB", 257, 1),
        struct.pack("!IB", 0, 3),
        struct.pack("!IB", (1 << 20) + 1025, 2),
        struct.pack("!IB", 10, 255),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_a_wrong_frame_ends_the_connection_at_its_header(data: bytes) -> None:
    async with serving() as lab:
        reader, writer = await raw(lab, tls.client_context(lab.secret, new_key()))
        writer.write(data)
        assert await at_end(reader) == b""
        assert lab.counters["stream_refused_frame"] == 1
        end(writer)
    assert lab.asked == []


async def test_a_request_that_is_cut_off_is_none() -> None:
    async with serving() as lab:
        whole = frames.frame(frames.Request.CORE, b"request")
        for length in range(len(whole)):
            _, writer = await raw(lab, tls.client_context(lab.secret, new_key()))
            writer.write(whole[:length])
            writer.write_eof() if writer.can_write_eof() else writer.close()
            end(writer)
        assert await lab.client().call(lab.address, None, b"still", 5) == b"re:still"
    assert [request for request, _ in lab.asked] == [b"still"]


@settings(max_examples=50)
@given(st.binary(max_size=200), st.sampled_from([frames.REQUEST_BOUNDS, REPLIES]))
async def test_bytes_are_a_frame_or_refused(data: bytes, bounds: dict[int, int]) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    try:
        kind, body = await frames.read(reader, bounds)
    except (frames.WrongFrame, EOFError):
        return
    assert data.startswith(frames.frame(kind, body))
    assert len(body) <= bounds[kind]


async def test_what_is_no_tls_ends_at_the_handshake() -> None:
    async with serving() as lab:
        reader, writer = await asyncio.open_connection(*lab.address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await at_end(reader)
        await lab.counted("stream_refused_handshake")
        end(writer)


# Slow and many


async def test_who_says_nothing_is_gone_after_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_S", 0.2)
    monkeypatch.setattr(server, "IDLE_S", 0.2)
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    async with serving() as lab:
        silent, writer_1 = await asyncio.open_connection(*lab.address)
        greeted, writer_2 = await raw(lab)
        begun, writer_3 = await raw(lab, tls.client_context(lab.secret, new_key()))
        writer_3.write(frames.frame(frames.Request.CORE, b"request")[:-1])
        for reader in (silent, greeted, begun):
            assert await at_end(reader) == b""
        for writer in (writer_1, writer_2, writer_3):
            end(writer)
        await lab.counted("stream_refused_deadline", 3)
        assert lab.server.admission.strangers == lab.server.admission.members == 0


async def test_a_drop_at_a_time_does_not_keep_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "CONNECTION_S", 0.5)
    async with serving() as lab:
        reader, writer = await raw(lab, tls.client_context(lab.secret, new_key()))
        begun_s = time.monotonic()
        with suppress(OSError, EOFError):
            while time.monotonic() - begun_s < 10:
                writer.write(frames.frame(frames.Request.CORE, b""))
                await frames.read(reader, REPLIES)
                await asyncio.sleep(0.01)  # a peer that takes its time
        assert time.monotonic() - begun_s < 5
        end(writer)


async def test_who_does_not_read_its_reply_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.3)
    async with serving() as lab:
        lab.answer = lambda _: bytes(REPLY_MAX_BYTES)
        context = tls.client_context(lab.secret, new_key())
        _, writer = await raw(lab, context)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(10):  # the kernel's buffers hold a few replies
            writer.write(frames.frame(frames.Request.CORE, b""))
        await lab.counted("stream_refused_deadline")
        assert len(lab.asked) < 10
        end(writer)


async def test_silent_strangers_do_not_keep_members_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "STRANGERS_MAX", 8)
    monkeypatch.setattr(admission, "STRANGERS_OF_ADDRESS_MAX", 1000)
    async with serving() as lab:
        silent = [await asyncio.open_connection(*lab.address) for _ in range(40)]
        assert await lab.client().call(lab.address, None, b"x", 5) == b"re:x"
        assert lab.server.admission.strangers <= 8
        assert lab.counters["stream_refused_evicted"] >= 32
        for _, writer in silent:
            end(writer)


async def test_strangers_that_begin_a_request_keep_no_member_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "ANSWERING_MAX", 1)
    async with serving() as lab:
        begun = [await raw(lab) for _ in range(3)]
        for _, writer in begun:
            writer.write(frames.frame(frames.Request.REDEEM, b"secret")[:-1])
            await writer.drain()
        joiner = joiner_of(lab.secret.authority_public_key)
        secret = b"s" * 32
        assert await joiner.call(lab.address, None, secret, 5, frames.Request.REDEEM) == b"key"
        assert await lab.client().call(lab.address, None, b"x", 5) == b"re:x"
        assert lab.server.admission.strangers == len(begun)
        for _, writer in begun:
            end(writer)


async def test_one_address_has_so_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "STRANGERS_OF_ADDRESS_MAX", 4)
    async with serving() as lab:
        silent = [await asyncio.open_connection(*lab.address) for _ in range(10)]
        await lab.counted("stream_refused_address", 6)
        assert lab.server.admission.strangers == 4
        elsewhere = socket.create_connection(lab.address, source_address=("127.0.0.2", 0))
        await lab.counted("stream_connections", 11)
        assert lab.counters["stream_refused_address"] == 6
        elsewhere.close()
        for _, writer in silent:
            end(writer)


async def test_one_member_has_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "CONNECTIONS_OF_MEMBER_MAX", 3)
    async with serving() as lab:
        context = tls.client_context(lab.secret, new_key())
        held = [await raw(lab, context) for _ in range(3)]
        for reader, writer in held:
            writer.write(frames.frame(frames.Request.CORE, b""))
            await frames.read(reader, REPLIES)
        reader, writer = await raw(lab, context)
        assert await at_end(reader) == b""
        assert lab.counters["stream_refused_member"] == 1
        assert await lab.client().call(lab.address, None, b"x", 5) == b"re:x"
        for _, other in [*held, (reader, writer)]:
            end(other)


async def test_all_places_are_given_back() -> None:
    async with serving() as lab:
        member = lab.client()
        for _ in range(5):
            await asyncio.gather(*(member.call(lab.address, None, b"", 5) for _ in range(10)))
        async with asyncio.timeout(5):
            while lab.server.admission.strangers or lab.server.admission.members:
                await asyncio.sleep(0.005)
        assert not lab.server.admission._of_host
        assert not lab.server.admission._of_node


# The calling side


async def test_who_is_not_there_is_told_apart() -> None:
    async with serving() as lab:
        member = lab.client()
    with pytest.raises(CallFailed, match="Connect"):
        await member.call(lab.address, None, b"", 5)
    with pytest.raises(CallFailed, match="not an IP address"):
        await member.call(("localhost", 7940), None, b"", 5)
    with pytest.raises(CallFailed, match="no port"):
        await member.call(("127.0.0.1", 0), None, b"", 5)


async def test_a_call_ends_at_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        member = client_of(new_secret(), new_key())
        begun_s = time.monotonic()
        with pytest.raises(CallFailed, match=r"no answer within 0\.2 s"):
            await member.call(mute.getsockname(), None, b"", 0.2)
        assert time.monotonic() - begun_s < 5


async def test_a_server_that_accepts_and_says_nothing_is_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        member = client_of(new_secret(), new_key())
        with pytest.raises(CallFailed, match=r"no connection within 0\.2 s"):
            await member.call(mute.getsockname(), None, b"", 30)


# Handshakes that are given up


@pytest.mark.parametrize("is_server", [True, False])
@pytest.mark.parametrize("steps", range(8))
async def test_a_handshake_that_is_given_up_at_any_step_leaves_no_socket(
    is_server: bool, steps: int
) -> None:
    secret = new_secret()
    make = tls.server_context if is_server else tls.client_context
    here, there = socket.socketpair()
    here.setblocking(False)
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    shaking = asyncio.ensure_future(
        tls.shake_hands(here, protocol, make(secret, new_key()), server=is_server, timeout_s=30)
    )
    await asyncio.sleep(0)  # it has begun
    for _ in range(steps):
        await asyncio.sleep(0)
    shaking.cancel()
    with suppress(asyncio.CancelledError):
        await shaking
    async with asyncio.timeout(5):
        while here.fileno() != -1:
            await asyncio.sleep(0)
    there.close()


async def test_a_server_that_is_closed_leaves_no_connection() -> None:
    async with serving() as lab:
        held = [await raw(lab, tls.client_context(lab.secret, new_key())) for _ in range(3)]
        begun = socket.create_connection(lab.address)
        await lab.counted("stream_connections", 4)
    for reader, writer in held:
        assert await at_end(reader) == b""
        end(writer)
    begun.settimeout(5)
    with suppress(ConnectionResetError):
        assert begun.recv(1) == b""
    begun.close()
    assert lab.server.admission.strangers == lab.server.admission.members == 0


async def test_without_descriptors_connections_wait_until_there_are_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as lab:
        accept = socket.socket.accept
        failures = 3

        def short(self: socket.socket) -> tuple[socket.socket, object]:
            nonlocal failures
            if failures:
                failures -= 1
                raise OSError(24, "Too many open files")
            return accept(self)

        monkeypatch.setattr(socket.socket, "accept", short)
        monkeypatch.setattr(server, "_OUT_OF_DESCRIPTORS_S", 0.01)
        assert await lab.client().call(lab.address, None, b"x", 5) == b"re:x"
        assert lab.counters["stream_refused_descriptors"] == 3


async def test_connections_beyond_the_rate_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BURST_OF_ADDRESS", 5.0)
    monkeypatch.setattr(admission, "RATE_OF_ADDRESS_PER_S", 0.0)
    async with serving() as lab:
        member = lab.client()
        for _ in range(5):
            assert await member.call(lab.address, None, b"x", 5) == b"re:x"
        with pytest.raises(CallFailed):
            await member.call(lab.address, None, b"x", 5)
        assert lab.counters["stream_refused_rate"] == 1
