"""Messages to bytes and back."""

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from netd.gossip.messages import Introduce, Message
from netd.gossip.requests import Reply, Request
from netd.gossip.values import Address

MESSAGES_MAX: Final = 128  # in one packet
ARRAY_BYTES: Final = 3

_encode = msgspec.msgpack.Encoder().encode
_packets: msgspec.msgpack.Decoder[list[Message]] = msgspec.msgpack.Decoder(
    Annotated[list[Message], Meta(max_length=MESSAGES_MAX)]
)
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)

encode: Callable[[msgspec.Struct], bytes] = _encode


class Malformed(ValueError):
    """Bytes that are no message. Nothing was changed."""


def join_parts(parts: Iterable[bytes]) -> bytes:
    """Make the payload of a packet of messages that are encoded already."""
    parts = list(parts)
    return b"\xdc" + len(parts).to_bytes(2, "big") + b"".join(parts)


def decode_packet(payload: bytes) -> list[Message]:
    """Raises `Malformed`."""
    try:
        return _packets.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None


def decode_request(data: bytes) -> Request:
    """Raises `Malformed`."""
    try:
        return _requests.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None


def decode_reply(data: bytes) -> Reply:
    """Raises `Malformed`."""
    try:
        return _replies.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None


def pack_host(host: str) -> bytes:
    """An IP address in 4 or 16 bytes. Raises ValueError."""
    return ip_address(host).packed


def address_of(host: bytes, port: int) -> Address:
    """Raises `Malformed`."""
    if len(host) not in (4, 16):
        raise Malformed(f"an address of {len(host)} bytes")
    return str(ip_address(host)), port


def place_of(said: Introduce) -> str:
    """Where somebody says that he is, in words."""
    try:
        host, port = address_of(said.host, said.port)
    except Malformed:
        return "an impossible address"
    return f"{host} port {port}"
