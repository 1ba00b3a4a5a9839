"""Datagrams received and sent many at once: recvmmsg(2), sendmmsg(2).

A call through Python's `socket` makes a tuple of each address and takes it apart again, which
costs nearly as much as the rest of an answer. Here addresses stay bytes.
"""

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

SIZE: Final = 64  # datagrams at once
QUERY_BYTES_MAX: Final = 1024  # what is longer is cut off
REPLY_BYTES_MAX: Final = 1232

_MSG_DONTWAIT: Final = 0x40  # include/linux/socket.h
_NOTHING: Final = (errno.EAGAIN, errno.EINTR)
# Bytes of a socket address, and the place of the IP address in it: include/uapi/linux/in.h, in6.h.
_NAME4_BYTES: Final = 16
_LAYOUTS: Final = {socket.AF_INET: (_NAME4_BYTES, 4, 8), socket.AF_INET6: (28, 8, 24)}

_libc = ctypes.CDLL(None, use_errno=True)
_receive = _libc.recvmmsg
_receive.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
_send = _libc.sendmmsg
_send.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


# Its header begins with the pointer to the address.
_HEADER_WORDS: Final = ctypes.sizeof(_Mmsghdr) // ctypes.sizeof(ctypes.c_void_p)
_LENGTH_STEP: Final = ctypes.sizeof(_Mmsghdr) // 4
_LENGTH_AT: Final = _Mmsghdr.length.offset // 4

# Given a datagram, its sender's IP address in bytes, and its place in the batch: the reply, of at
# most REPLY_BYTES_MAX, or None for none.
Answerer = Callable[[bytes, bytes, int], bytes | None]
Peer = tuple[str, int] | tuple[str, int, int, int]


class Batch:
    """Room for `SIZE` datagrams of one family, in and out. Each is answered before the next.

    `unsent` is a list of one number: how many replies could not be sent. `names` are the socket
    addresses of the last batch, of `name_bytes` each.
    """

    def __init__(self, family: socket.AddressFamily, unsent: list[int]) -> None:
        self.name_bytes, self._ip_from, self._ip_to = _LAYOUTS[family]
        self.names = bytearray(SIZE * self.name_bytes)
        self._in = bytearray(SIZE * QUERY_BYTES_MAX)
        self._out = bytearray(SIZE * REPLY_BYTES_MAX)
        # As long as there are views of it, memory is neither moved nor made longer.
        self._pins = [memoryview(room) for room in (self.names, self._in, self._out)]
        names = _place(self.names)
        self._name_places = [names + at * self.name_bytes for at in range(SIZE)]
        self._received = _headers(_place(self._in), QUERY_BYTES_MAX, names, self.name_bytes)
        self._sent = _headers(_place(self._out), REPLY_BYTES_MAX, names, self.name_bytes)
        # Numbers in these structures, which change for each datagram.
        self._in_lengths = memoryview(self._received[0]).cast("B").cast("I")
        self._out_names = memoryview(self._sent[0]).cast("B").cast("L")
        self._out_lengths = memoryview(self._sent[1]).cast("B").cast("L")
        self._in_at = ctypes.addressof(self._received[0])
        self._out_at = ctypes.addressof(self._sent[0])
        self._unsent = unsent

    def answer(self, descriptor: int, answer: Answerer) -> int:
        """Answer what has come, at most `SIZE`; how many there were. Raises OSError."""
        count: int = _receive(descriptor, self._in_at, SIZE, _MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in _NOTHING:
                return 0
            raise OSError(code, os.strerror(code))
        # Copied at once, as pieces of bytes are cheaper than those of anything that can change.
        data = bytes(memoryview(self._in)[: count * QUERY_BYTES_MAX])
        names = bytes(memoryview(self.names)[: count * self.name_bytes])
        lengths, step = self._in_lengths, self.name_bytes
        out, out_names, out_lengths = self._out, self._out_names, self._out_lengths
        replies = 0
        start = 0
        ip_from, ip_to = self._ip_from, self._ip_to
        for at in range(count):
            length = lengths[at * _LENGTH_STEP + _LENGTH_AT]
            query = data[start : start + length]
            reply = answer(query, names[ip_from:ip_to], at)
            start += QUERY_BYTES_MAX
            ip_from += step
            ip_to += step
            if reply is None:
                continue
            begin = replies * REPLY_BYTES_MAX
            out[begin : begin + len(reply)] = reply
            out_lengths[2 * replies + 1] = len(reply)
            out_names[replies * _HEADER_WORDS] = self._name_places[at]
            replies += 1
        if replies:
            self._send_all(descriptor, replies)
        return count

    def peer(self, at: int) -> Peer:
        """Who has sent the datagram at this place, as `socket.sendto` takes it."""
        name = self.names[at * self.name_bytes : (at + 1) * self.name_bytes]
        port = int.from_bytes(name[2:4], "big")
        if self.name_bytes == _NAME4_BYTES:
            return socket.inet_ntop(socket.AF_INET, name[4:8]), port
        link = int.from_bytes(name[24:28], sys.byteorder)
        return socket.inet_ntop(socket.AF_INET6, name[8:24]), port, 0, link

    def _send_all(self, descriptor: int, count: int) -> None:
        done = 0
        while done < count:
            place = self._out_at + done * ctypes.sizeof(_Mmsghdr)
            sent: int = _send(descriptor, place, count - done, _MSG_DONTWAIT)
            if sent > 0:
                done += sent
            else:  # its buffer is full, or there is no way to the first: that one is lost
                self._unsent[0] += 1
                done += 1


def _headers(
    data: int, data_bytes: int, names: int, name_bytes: int
) -> tuple["ctypes.Array[Any]", "ctypes.Array[Any]"]:
    """What the kernel is given: `SIZE` headers and the pieces of memory that they point to."""
    pieces = (_Iovec * SIZE)()
    headers = (_Mmsghdr * SIZE)()
    for at in range(SIZE):
        pieces[at] = _Iovec(data + at * data_bytes, data_bytes)
        header = headers[at].header
        header.name, header.name_length = names + at * name_bytes, name_bytes
        header.iov, header.iov_length = ctypes.addressof(pieces[at]), 1
    return headers, pieces


def _place(room: bytearray) -> int:
    """Where a bytearray is in memory; it must not grow."""
    return ctypes.addressof((ctypes.c_char * len(room)).from_buffer(room))
