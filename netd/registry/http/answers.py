"""Answers as bytes, packed once for however many are to get them."""

import gzip
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

PACKED_MIN: Final = 1400  # bytes; less fits into one packet as it is
PACKED_MAX: Final = 4 * 1024 * 1024  # longer ones would keep all others waiting
_LEVEL: Final = 1

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"


class Body:
    """Bytes of an answer; `packed` are the same in gzip, made when first asked for. `headers` go
    with them.
    """

    __slots__ = ("_packed", "headers", "kind", "plain")

    def __init__(self, plain: bytes, kind: str = JSON) -> None:
        self.plain = plain
        self.kind = kind
        self.headers: Mapping[str, str] = {}
        self._packed: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return len(self.plain) + len(self._packed or b"")

    def packed(self) -> bytes | None:
        """None where packing is not worth it."""
        if not PACKED_MIN <= len(self.plain) <= PACKED_MAX:
            return None
        if self._packed is None:
            self._packed = gzip.compress(self.plain, _LEVEL, mtime=0)
        return self._packed


def json_body(value: Any, *, pretty: bool = False) -> Body:
    """`value` is what msgspec can encode."""
    if pretty:
        return Body(json.dumps(msgspec.to_builtins(value), indent=4).encode() + b"\n")
    return Body(msgspec.json.encode(value))


def respond(
    body: Body, headers: Mapping[str, str], *, status: int = 200, gzip_ok: bool = False
) -> web.Response:
    data = body.packed() if gzip_ok else None
    fields = {"Content-Type": body.kind, **body.headers, **headers}
    if data is not None:
        fields["Content-Encoding"] = "gzip"
        fields["Vary"] = "Accept-Encoding"
    return web.Response(status=status, body=body.plain if data is None else data, headers=fields)


def text(status: int, line: str, headers: Mapping[str, str] | None = None) -> web.Response:
    fields = {"Content-Type": TEXT, "X-Content-Type-Options": "nosniff", **(headers or {})}
    return web.Response(status=status, body=line.encode("utf-8", "replace"), headers=fields)
