"""Consul's calls about keys, in this process: by real HTTP, upon the daemon's own API."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from netd.model.directory import EndpointEntry, Entry, NodeEntry, RegistrySettings, ZoneEntry
from netd.model.service import Check, Service
from netd.naming.values import Scope
from netd.registry.api import Api
from netd.registry.catalog.catalog import Catalog
from netd.registry.consul.acl import Acl
from netd.registry.consul.api import ConsulApi, unix_ms
from netd.registry.consul.keys import Keys
from netd.registry.http.caller import Callers
from netd.registry.http.listeners import Wanted
from tests.unit.memory_engine import Served, served

DEADLINE_S = 10.0
_EVERYTHING = Scope(None)
_NOTHING = Scope(frozenset())


class Answer:
    """What came back."""

    def __init__(self, answer: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.body = body
        self.text = body.decode("utf-8", "replace")
        self._answer = answer

    @property
    def index(self) -> int:
        return int(self.headers["X-Consul-Index"])

    def json(self) -> Any:
        assert self.status == 200, f"{self.status}: {self.text}"
        return self.any_json()

    def any_json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)


class Lab:
    """`call` is as any HTTP client calls. `catalog` has what a test puts there.

    `guests` are the addresses from which others than the host call, in no network; at 127.0.0.1
    that is a container of this host, until `let_container_go`.
    """

    def __init__(self, daemon: Served, patience_s: float) -> None:
        self.daemon = daemon
        self.guests: set[str] = set()
        self.are_guests_welcome = True
        self.settings = RegistrySettings()
        self.keys = Keys(str(daemon.path), lambda: self.are_guests_welcome)
        self.api = self.keys.api
        self.watches = self.keys.watches
        self.watches.patience_s = patience_s
        self.table = self.keys.queries
        self.catalog = Catalog(unix_ms)
        self.acl = Acl(self.api, self.watches, lambda: self.settings)
        self.distances: dict[str, float] = {}
        self.port = 0
        self._calls = Api(str(daemon.path))
        self.callers = Callers(lambda source: _NOTHING if source in self.guests else _EVERYTHING)
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self.consul = ConsulApi(
            self._calls,
            self.catalog,
            self.callers,
            drain=_nothing,
            changed=_nothing,
            wanted=lambda _: Wanted(),
            more=(self.keys.routes, self.acl.routes),
            gate=self.acl.gate,
            distance=self.distance,
        )
        assert self.keys.events is not None
        self.events = self.keys.events
        self.put_entries()

    def distance(self, first: str, second: str) -> float | None:
        return self.distances.get(second)

    def put_entries(
        self,
        *services: Service,
        nodes: tuple[str, ...] = ("here",),
        tags: dict[str, str] | None = None,
    ) -> None:
        """Have the catalogue be of these; `tags` are those of each node."""
        zone = ZoneEntry(zone="netd.internal", node="here", node_id="0123456789abcdef")
        entries = [Entry(revision=1, kind="zone", zone=zone)]
        for number, name in enumerate(nodes):
            node = NodeEntry(
                node_id=f"{number:016x}", addresses=(f"192.0.2.{number + 1}",), tags=tags or {}
            )
            entries.append(Entry(revision=1, kind="node", id=name, node=node))
        for service in services:
            entries.append(Entry(revision=1, kind="service", id=service.id, service=service))
        self.catalog.replace({(entry.kind, entry.id): entry for entry in entries})
        container = EndpointEntry(
            network="", container_id="c", name="c", node="here", addresses=("127.0.0.1",)
        )
        entries.append(Entry(revision=1, kind="endpoint", id="c", endpoint=container))
        self.callers.replace({(entry.kind, entry.id): entry for entry in entries})

    def let_container_go(self) -> None:
        self.callers.change(None, Entry(revision=2, kind="endpoint", id="c"))

    async def call(
        self, method: str, target: str, body: bytes | str | None = None, **headers: str
    ) -> Answer:
        """`target` is sent as it is."""
        url = URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)
        data = body.encode() if isinstance(body, str) else body
        async with asyncio.timeout(DEADLINE_S):
            async with self._http.request(method, url, data=data, headers=headers) as answer:
                return Answer(answer, await answer.read())

    async def get(self, target: str) -> Answer:
        return await self.call("GET", target)

    async def put(self, target: str, body: bytes | str | None = None) -> Any:
        return (await self.call("PUT", target, body)).json()

    async def session(self, body: str = "") -> str:
        session: str = (await self.put("/v1/session/create", body))["ID"]
        return session

    async def value(self, key: str) -> bytes | None:
        answer = await self.get(f"/v1/kv/{key}")
        if answer.status == 404:
            return None
        (row,) = answer.json()
        return base64.b64decode(row["Value"] or "")

    async def started(self, count: int) -> None:
        """Wait until so many wait."""
        await until(lambda: self.watches.waiting == count and self.watches.live)

    async def close(self) -> None:
        await self._http.close()
        await self.consul.close()
        await self.acl.close()
        await self.keys.close()
        await self._calls.close()


@asynccontextmanager
async def consul_keys(patience_s: float = 10.0) -> AsyncIterator[Lab]:
    async with served() as daemon:
        lab = Lab(daemon, patience_s)
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lab.consul.server.factory, "127.0.0.1", 0)
        lab.port = listening.sockets[0].getsockname()[1]
        try:
            yield lab
        finally:
            listening.close()
            await lab.close()


def web(instance: str, node: str = "here", status: str = "passing", **fields: Any) -> Service:
    """An instance of the service `web` with one check."""
    check = Check(id="c", name="c", kind="ttl", status=status)  # type: ignore[arg-type]
    given: dict[str, Any] = {"address": "192.0.2.9", "port": 80, "checks": (check,), **fields}
    return Service(id=instance, name="web", node=node, **given)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not done():
            await asyncio.sleep(0.005)


def _nothing() -> None:
    pass
