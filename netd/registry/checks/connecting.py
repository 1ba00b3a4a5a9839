"""TCP connections of checks."""

import asyncio
import errno
import os
import socket
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from netd.registry.checks.names import Names
from netd.registry.checks.probe import Failed, Run
from netd.registry.checks.targets import Target

STAGGER_S: Final = 0.25  # RFC 8305, 5: when to try the next address beside the one that hangs

Sockaddr = tuple[Any, ...]


@lru_cache(maxsize=16_384)
def _numeric(address: str, port: int) -> tuple[int, Sockaddr]:
    # Without a name to look up, this does not block. Text would go through the codec idna.
    found = socket.getaddrinfo(
        address.encode("ascii"),
        port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
    return found[0][0], found[0][4]


def sockaddr(address: str, port: int) -> tuple[int, Sockaddr]:
    """The family and socket address of a bare address, an IPv6 one with or without its link."""
    # The number of a link may be another one the next time.
    return (_numeric.__wrapped__ if "%" in address else _numeric)(address, port)


def begin(address: str, port: int) -> tuple[socket.socket, int]:
    """A socket that connects, and the error so far: 0 if it has, EALREADY if it still does.

    The kernel answers itself for whatever is on this host, containers included, and has done so
    before connect(2) is called again: no event loop has to wait for that.
    """
    family, where = sockaddr(address, port)
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        code = connection.connect_ex(where)
        if code == errno.EINPROGRESS:
            code = connection.connect_ex(where)
        if code == 0:
            code = _own_echo(connection)
    except BaseException:
        connection.close()
        raise
    return connection, code


async def finish(connection: socket.socket, address: str, port: int) -> None:
    """Wait until a socket of `begin` has connected. Raises OSError."""
    # Is connected by now, or waits for it: connect(2) may be called again.
    await asyncio.get_running_loop().sock_connect(connection, sockaddr(address, port)[1])
    if code := _own_echo(connection):
        raise OSError(code, os.strerror(code))


async def connect(run: Run, names: Names, target: Target) -> socket.socket:
    """The first connection to one of the target's addresses. Raises `Failed`."""
    run.stage = f"name {target.host!r}"
    addresses = await names.addresses(target.host)
    for address in addresses:
        run.probe.check_reach(address)
    run.stage = f"connect to {target}"
    try:
        if len(addresses) == 1:
            return await _connected(addresses[0], target.port)
        return await _first(addresses, target.port)
    except OSError as error:
        raise Failed(f"{target}: {words(error)}") from None


async def _connected(address: str, port: int) -> socket.socket:
    connection, code = begin(address, port)
    try:
        if code == errno.EALREADY:
            await finish(connection, address, port)
        elif code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        connection.close()
        raise
    return connection


async def _first(addresses: tuple[str, ...], port: int) -> socket.socket:
    """Try the addresses in turn, without waiting for one that says nothing."""
    loop = asyncio.get_running_loop()
    left = list(addresses)
    attempts: set[asyncio.Task[socket.socket]] = set()
    failure = OSError("it has no address")
    try:
        while left or attempts:
            if left:
                attempts.add(loop.create_task(_connected(left.pop(0), port), name="connect"))
            done, attempts = await asyncio.wait(
                attempts,
                timeout=STAGGER_S if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    attempts |= done - {attempt}
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                failure = error
        raise failure
    finally:
        await _abandon(attempts)


async def _abandon(attempts: "set[asyncio.Task[socket.socket]]") -> None:
    for attempt in attempts:
        attempt.cancel()
    for ended in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(ended, socket.socket):
            ended.close()


def _own_echo(connection: socket.socket) -> int:
    """ECONNREFUSED if a socket has connected to itself (RFC 9293, 3.5, simultaneous open).

    That happens where nobody listens on a port from which local connections also start.
    """
    try:
        return errno.ECONNREFUSED if connection.getsockname() == connection.getpeername() else 0
    except OSError:  # it has connected, and was reset meanwhile
        return 0


def shut_down(connection: socket.socket) -> None:
    """End a connection that a transport may have; to close it would take its number away from
    the event loop that still watches it.
    """
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def words(error: OSError) -> str:
    """What an error of the kernel's says, without what Python adds."""
    if error.errno is not None and error.errno > 0 and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno).lower()
    return error.strerror or str(error) or type(error).__name__
