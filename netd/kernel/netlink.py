"""A netlink socket: many messages in one system call, and dumps.

rtnetlink works within sendmsg(2): when it returns, the answers are in the receive queue. So
nothing here waits for the kernel, save for its locks inside sendmsg itself.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Generic, NamedTuple, TypeVar

from netd.kernel.uapi import (
    I32,
    NETLINK_CAP_ACK,
    NETLINK_EXT_ACK,
    NETLINK_GET_STRICT_CHK,
    NETLINK_ROUTE,
    NLA_TYPE_MASK,
    NLATTR,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSGERR_ATTR_MSG,
    NLMSGHDR,
    SO_NETNS_COOKIE,
    SO_RCVBUFFORCE,
    SO_SNDBUFFORCE,
    SOL_NETLINK,
)

DUMP_RETRIES = 5
RECEIVE_BYTES = 65536  # the kernel never builds dump messages of more than 32 KiB
BUFFER_BYTES = 4 << 20
BATCH_BYTES = 256 << 10
BATCH_MESSAGES = 1024  # each may be answered by an error, which must fit the receive buffer
ANSWER_TIMEOUT_S = 5

T = TypeVar("T")


class NetlinkError(OSError):
    """The kernel's refusal: `errno`, and `strerror` with the kernel's own words if it gave any."""

    def __init__(self, code: int, words: str = "") -> None:
        text = os.strerror(code)
        super().__init__(code, f"{text}: {words}" if words else text)


class Message(NamedTuple):
    """A request without its netlink header. `payload` is padded to 4 bytes."""

    type: int
    flags: int
    payload: bytes


class Query(NamedTuple, Generic[T]):
    """A question and how to read its answers, which have message type `answer`.

    `decode` gets the received bytes, where the payload of one message begins and where it ends.
    """

    type: int
    payload: bytes
    answer: int
    decode: Callable[[bytes, int, int], T]


class NetlinkSocket:
    """A socket of the network namespace that the calling thread was in when it was made.

    Not for use by several threads at once. A socket keeps its namespace alive: close it soon.
    """

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._sequence = count(1)
        options = (
            (SOL_NETLINK, NETLINK_EXT_ACK, 1),
            (SOL_NETLINK, NETLINK_CAP_ACK, 1),
            (SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1),
            (socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES),
            (socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES),
        )
        for level, name, value in options:
            self._socket.setsockopt(level, name, value)
        # Not settimeout(): that costs a poll(2) before each call. The answer is there already;
        # the limit only turns one that was lost into an error.
        timeout = struct.pack("@ll", ANSWER_TIMEOUT_S, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

    def fileno(self) -> int:
        return self._socket.fileno()

    def namespace_cookie(self) -> int:
        """A number of the socket's namespace that is unique for one boot; 0 before Linux 5.14."""
        try:
            cookie = self._socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
            return 0
        return int.from_bytes(cookie, sys.byteorder)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, messages: Sequence[Message]) -> dict[int, NetlinkError]:
        """Have the kernel run `messages` in order; it goes on after one that it refuses.

        Returns the refusals by the position of their message, {} when there was none.
        """
        refused: dict[int, NetlinkError] = {}
        for first, batch in _batches(messages):
            refused.update(self._send_batch(first, batch))
        return refused

    def get(self, query: Query[T]) -> T:
        """Ask for one object. Raises NetlinkError, ENODEV or ENOENT when it does not exist."""
        sequence = next(self._sequence)
        self._socket.send(_packed(query.type, NLM_F_REQUEST, sequence, query.payload))
        while True:
            data = self._receive()
            for kind, flags, number, start, end in _messages(data):
                if number != sequence:
                    continue  # the answer to a call that gave up
                if kind == NLMSG_ERROR:
                    raise _refusal(kind, flags, data, start, end) or NetlinkError(errno.ENODATA)
                if kind == query.answer:
                    return query.decode(data, start, end)

    def dump(self, query: Query[T]) -> list[T]:
        """All objects of a kind. One that was changed underneath is taken again.

        Raises NetlinkError, EINTR when changes never left time for a whole dump.
        """
        for _ in range(1 + DUMP_RETRIES):
            found = self._dump_once(query)
            if found is not None:
                return found
        raise NetlinkError(errno.EINTR, "the kernel's tables change too fast to be read")

    def _send_batch(self, first: int, batch: Sequence[Message]) -> dict[int, NetlinkError]:
        sequences = [next(self._sequence) for _ in batch]
        last = sequences[-1]
        # Errors are always answered; the one acknowledgement says that all has been done.
        self._socket.send(
            b"".join(
                _packed(
                    message.type,
                    message.flags | NLM_F_REQUEST | (NLM_F_ACK if sequence == last else 0),
                    sequence,
                    message.payload,
                )
                for message, sequence in zip(batch, sequences, strict=True)
            )
        )
        refused = {}
        while True:
            data = self._receive()
            for kind, flags, sequence, start, end in _messages(data):
                if kind != NLMSG_ERROR or not sequences[0] <= sequence <= last:
                    continue
                if error := _refusal(kind, flags, data, start, end):
                    refused[first + sequence - sequences[0]] = error
                if sequence == last:
                    return refused

    def _dump_once(self, query: Query[T]) -> list[T] | None:
        sequence = next(self._sequence)
        self._socket.send(_packed(query.type, NLM_F_REQUEST | NLM_F_DUMP, sequence, query.payload))
        found: list[T] = []
        decode, answer = query.decode, query.answer
        whole = True
        while True:
            data = self._receive()
            for kind, flags, number, start, end in _messages(data):
                if number != sequence:
                    continue
                if flags & NLM_F_DUMP_INTR:
                    whole = False
                if kind == answer:
                    found.append(decode(data, start, end))
                elif kind in (NLMSG_DONE, NLMSG_ERROR):
                    if error := _refusal(kind, flags, data, start, end):
                        raise error
                    return found if whole else None

    def _receive(self) -> bytes:
        return self._socket.recv(RECEIVE_BYTES)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """One datagram's messages: type, flags, sequence number, and payload's start and end."""
    offset, size = 0, len(data)
    while offset < size:
        length, kind, flags, sequence, _ = NLMSGHDR.unpack_from(data, offset)
        end = offset + length
        if length < NLMSGHDR.size or end > size:
            raise NetlinkError(errno.EMSGSIZE, "a netlink message was cut short")
        yield kind, flags, sequence, offset + NLMSGHDR.size, end
        offset = (end + 3) & ~3


def _packed(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    return NLMSGHDR.pack(NLMSGHDR.size + len(payload), kind, flags, sequence, 0) + payload


def _batches(messages: Sequence[Message]) -> Iterator[tuple[int, Sequence[Message]]]:
    """`messages` in pieces that fit the send buffer, each with its first one's position."""
    first = size = 0
    for position, message in enumerate(messages):
        length = NLMSGHDR.size + len(message.payload)
        if size + length > BATCH_BYTES or position - first == BATCH_MESSAGES:
            yield first, messages[first:position]
            first, size = position, 0
        size += length
    if first < len(messages):
        yield first, messages[first:]


def _refusal(kind: int, flags: int, data: bytes, start: int, end: int) -> NetlinkError | None:
    """The error in an NLMSG_ERROR or NLMSG_DONE; None when it says that all went well."""
    if end - start < I32.size:
        return None
    (code,) = I32.unpack_from(data, start)
    if code >= 0:
        return None
    words = ""
    if flags & NLM_F_ACK_TLVS:
        # An error repeats the request's header (NETLINK_CAP_ACK: no more of it).
        offset = start + I32.size + (NLMSGHDR.size if kind == NLMSG_ERROR else 0)
        while offset + NLATTR.size <= end:
            length, attribute = NLATTR.unpack_from(data, offset)
            if length < NLATTR.size:
                break
            if attribute & NLA_TYPE_MASK == NLMSGERR_ATTR_MSG:
                words = data[offset + NLATTR.size : offset + length].rstrip(b"\0").decode()
            offset += (length + 3) & ~3
    return NetlinkError(-code, words)
