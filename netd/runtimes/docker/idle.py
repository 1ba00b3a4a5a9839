"""A connection to the engine by which nothing comes but its end.

An engine that ends closes such a connection at once, and waits for those that are in use: newer
ones (26.1 does, 20.10 does not) for 5 s, in which nothing else happens.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

MANAGER: Final = 1  # the process that opens sockets for services, and starts them for a caller
ANSWER_S: Final = 15.0
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
# A connection that nobody has used counts as one in use at first (net/http's Server.Shutdown).
_PING: Final = b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"


class Idle:
    """`is_managers`: the socket is not the engine's own, and leads to it even before it runs."""

    def __init__(self, reader: asyncio.StreamReader, *, is_managers: bool) -> None:
        self._reader = reader
        self.is_managers = is_managers

    async def closed(self) -> None:
        """Wait until the engine has closed it. Raises `OSError` when it did not part in peace."""
        while await self._reader.read(4096):
            pass


@asynccontextmanager
async def idle(api: str) -> AsyncIterator[Idle]:
    """Connect to the engine's socket. Raises `OSError`, of which `TimeoutError` is one."""
    reader, writer = await asyncio.open_unix_connection(api)
    try:
        writer.write(_PING)
        async with asyncio.timeout(ANSWER_S):
            await reader.readline()
        yield Idle(reader, is_managers=_opened_by(writer) == MANAGER)
    finally:
        writer.close()


def _opened_by(writer: asyncio.StreamWriter) -> int:
    """The process that listened first on what this is connected to (unix(7), SO_PEERCRED)."""
    sock: socket.socket = writer.get_extra_info("socket")
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(found)[0]
    return pid
