"""How requests and replies are marked off on a stream: length, kind, body.

A frame is the body's length (4 bytes, big-endian), its kind (1 byte) and the body. The length
is checked before anything of the body is read.
"""

import asyncio
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from netd.gossip.values import REPLY_MAX_BYTES, REQUEST_MAX_BYTES

_HEADER: Final = struct.Struct("!IB")


class Request(IntEnum):
    """`CORE` is for the protocol core, `REDEEM` has the secret of a join token, `ASK` a question
    to the engine.
    """

    CORE = 0
    REDEEM = 1
    ASK = 2


class Reply(IntEnum):
    """`REFUSED` has why, in UTF-8."""

    ANSWER = 0
    REFUSED = 1


REQUEST_BOUNDS: Final[Mapping[int, int]] = {
    Request.CORE: REQUEST_MAX_BYTES,
    Request.REDEEM: 256,
    Request.ASK: (1 << 20) + 1024,
}
REPLY_BOUNDS: Final[Mapping[Request, Mapping[int, int]]] = {
    request: {Reply.ANSWER: bound, Reply.REFUSED: 1024}
    for request, bound in (
        (Request.CORE, REPLY_MAX_BYTES),
        (Request.REDEEM, 256),
        (Request.ASK, (1 << 20) + (16 << 10)),
    )
}


class WrongFrame(Exception):
    """What came is no frame, or longer than one of its kind may be."""


def frame(kind: int, body: bytes) -> bytes:
    return _HEADER.pack(len(body), kind) + body


async def read_header(reader: asyncio.StreamReader, bounds: Mapping[int, int]) -> tuple[int, int]:
    """The kind and the length of the body that follows. Raises `WrongFrame`.

    Raises EOFError when the stream ends, and OSError as reading does.
    """
    length, kind = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    bound = bounds.get(kind)
    if bound is None:
        raise WrongFrame(f"there is no kind {kind}")
    if length > bound:
        raise WrongFrame(f"{length} bytes, of at most {bound}")
    return kind, length


async def read(reader: asyncio.StreamReader, bounds: Mapping[int, int]) -> tuple[int, bytes]:
    """A whole frame: its kind and body. Raises as `read_header` does."""
    kind, length = await read_header(reader, bounds)
    return kind, await reader.readexactly(length)
