"""Unary gRPC calls over a Unix socket, with messages as Protocol Buffers have them: by the numbers
of their fields.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md,
https://protobuf.dev/programming-guides/encoding/
"""

import socket
import struct
from typing import Any
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.events import TrailersReceived as Trailers

from netd.registry.checks.grpc_messages import read_varint, varint

# A field is a number, text, a message, a map of texts (`entries`), or a list of these.
Message = dict[int, Any]
Fields = dict[int, list[Any]]  # what was received: numbers and bytes, as often as they came

_PREFIX = struct.Struct(">BI")
_NUMBER, _BYTES = 0, 2  # wire types; there are no others in what is called here


class Refused(Exception):
    """The server's answer is an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"gRPC status {status}: {text}")
        self.status = status


def call(path: str, method: str, message: Message, timeout_s: float = 60) -> Fields:
    """The answer of the server at `path`, by a connection of its own. Raises `Refused`, OSError."""
    http = H2Connection(H2Configuration(header_encoding="utf-8"))
    http.initiate_connection()
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{method}",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    body = encoded(message)
    http.send_headers(1, list(headers.items()))
    http.send_data(1, _PREFIX.pack(0, len(body)) + body, end_stream=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        sock.connect(path)
        answer, trailers = _exchange(sock, http)
    if trailers.get("grpc-status") != "0":
        status = trailers.get("grpc-status", "-1")
        raise Refused(int(status), unquote(trailers.get("grpc-message", "")))
    return decoded(answer[_PREFIX.size :])


def entries(table: dict[str, str]) -> list[Message]:
    """A map, as Protocol Buffers have it."""
    return [{1: key, 2: value} for key, value in table.items()]


def texts(received: list[bytes]) -> dict[str, str]:
    """A map that was received."""
    pairs = map(decoded, received)
    return {pair[1][0].decode(): pair.get(2, [b""])[0].decode() for pair in pairs}


def encoded(message: Message) -> bytes:
    parts = []
    for number, value in message.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, int):
                parts.append(varint(number << 3 | _NUMBER) + varint(each))
            else:
                data = each.encode() if isinstance(each, str) else encoded(each)
                parts.append(varint(number << 3 | _BYTES) + varint(len(data)) + data)
    return b"".join(parts)


def decoded(data: bytes) -> Fields:
    found: Fields = {}
    offset = 0
    while offset < len(data):
        tag, offset = read_varint(data, offset)
        value: int | bytes
        value, offset = read_varint(data, offset)
        if tag & 7 == _BYTES:
            size, value = value, data[offset : offset + value]
            offset += size
        elif tag & 7 != _NUMBER:
            raise ValueError(f"wire type {tag & 7}")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _exchange(sock: socket.socket, http: H2Connection) -> tuple[bytes, dict[str, str]]:
    """What is answered to the request that is written already, and the last headers."""
    body, last = b"", {}
    while True:
        sock.sendall(http.data_to_send())
        data = sock.recv(65536)
        if not data:
            raise ConnectionResetError("the server went away before it had answered")
        for event in http.receive_data(data):
            if isinstance(event, ResponseReceived | Trailers):
                last = {str(name): str(value) for name, value in event.headers}
            elif isinstance(event, DataReceived):
                body += event.data
                http.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, StreamReset | ConnectionTerminated):
                raise ConnectionResetError(f"the server ended the call: {event.error_code}")
            elif isinstance(event, StreamEnded):
                return body, last
