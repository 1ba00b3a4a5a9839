"""Real daemons on the kernel in memory, and APIs of the registry that follow them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from netd.api.auth import Authority
from netd.api.server import ApiServer
from netd.registry.api import Api
from netd.registry.consul.api import ConsulApi
from netd.registry.eureka.api import EurekaApi
from netd.registry.feed import Feed, Reader
from netd.registry.http.caller import Callers
from netd.registry.names import Names
from tests.unit.engine_fixture import Host
from tests.unit.memory_cluster import Mesh


class Daemon(NamedTuple):
    """A host that answers at `socket`, and what a registry has of it before any API."""

    host: Host
    socket: str
    feed: Feed
    calls: Api
    names: Names
    callers: Callers


@asynccontextmanager
async def daemon(folder: Path, mesh: Mesh, number: int) -> AsyncIterator[Daemon]:
    """The daemon of the host `node-<number>`, in a folder of its own below `folder`."""
    folder = folder / str(number)
    folder.mkdir()
    host = Host(folder, mesh, node=f"node-{number}", node_id=str(number) * 32)
    server = ApiServer(await host.start(), authority=Authority())
    socket = str(folder / "netd.sock")
    await server.start(socket)
    feed, calls = Feed(socket), Api(socket)
    names = Names(feed)
    try:
        yield Daemon(host, socket, feed, calls, names, Callers(names.scope_of))
    finally:
        await calls.close()
        await server.stop()
        await host.stop()


@asynccontextmanager
async def answering(of: Daemon, api: ConsulApi | EurekaApi, *readers: Reader) -> AsyncIterator[str]:
    """The URL of an API, which follows the daemon after `readers`, and is closed at the end."""
    of.feed.readers += [of.names, of.callers, *readers, *api.readers]
    of.feed.start()
    loop = asyncio.get_running_loop()
    accepting = await loop.create_server(api.server.factory, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{accepting.sockets[0].getsockname()[1]}"
    finally:
        accepting.close()
        of.feed.close()
        await api.close()
