"""The two messages of grpc.health.v1 (grpc/health/v1/health.proto), as Protocol Buffers.

    message HealthCheckRequest { string service = 1; }
    message HealthCheckResponse { ServingStatus status = 1; }

Before each message are a byte that tells of compression and four with its length.
"""

import struct
from typing import Final

SERVING: Final = 1
STATUSES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")

_PREFIX: Final = struct.Struct(">BI")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_VARINT_BYTES_MAX: Final = 10


def request(service: str) -> bytes:
    """The framed HealthCheckRequest for `service`; "" is the server as a whole."""
    name = service.encode()
    message = b"\x0a" + varint(len(name)) + name if name else b""
    return _PREFIX.pack(0, len(message)) + message


def status_of(data: bytes) -> int:
    """The status in a framed HealthCheckResponse. Raises ValueError."""
    if len(data) < _PREFIX.size:
        raise ValueError("there is no message")
    compressed, length = _PREFIX.unpack_from(data)
    message = data[_PREFIX.size :]
    if compressed:
        raise ValueError("the message is compressed, which was not offered")
    if len(message) != length:
        raise ValueError(f"a message of {length} bytes has {len(message)}")
    status, offset = 0, 0
    while offset < length:
        tag, offset = read_varint(message, offset)
        if tag == 1 << 3 | _VARINT:
            status, offset = read_varint(message, offset)
        else:
            offset = _skip(message, offset, tag & 7)
    return status


def _skip(message: bytes, offset: int, wire_type: int) -> int:
    """The offset after a field that this netd does not know."""
    if wire_type == _VARINT:
        _, offset = read_varint(message, offset)
    elif wire_type == _FIXED64:
        offset += 8
    elif wire_type == _FIXED32:
        offset += 4
    elif wire_type == _BYTES:
        size, offset = read_varint(message, offset)
        offset += size
    else:
        raise ValueError(f"wire type {wire_type}")
    if offset > len(message):
        raise ValueError("the message ends within a field")
    return offset


def read_varint(message: bytes, offset: int) -> tuple[int, int]:
    """The number at `offset`, and the offset after it. Raises ValueError."""
    value = 0
    for place in range(_VARINT_BYTES_MAX):
        if offset >= len(message):
            raise ValueError("the message ends within a number")
        byte = message[offset]
        offset += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, offset
    raise ValueError("a number is too long")


def varint(value: int) -> bytes:
    """A number of at least 0, as Protocol Buffers have it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
