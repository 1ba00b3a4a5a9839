"""The page of a daemon that says what a test wants it to, and values to show on it."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from netd.model.condition import Condition
from netd.model.directory import (
    EndpointEntry,
    Entry,
    NetworkEntry,
    RegistrySettings,
    ZoneEntry,
)
from netd.model.network import Network
from netd.model.service import Check, Service, Virtual, VirtualPort
from netd.model.views import Finding, Member, PlannedOperation, Status
from netd.naming.values import Scope
from netd.registry.feed import Feed
from netd.registry.http.caller import Callers
from netd.registry.names import Names
from netd.registry.page.facts import Facts, OwnEndpoint, OwnService
from netd.registry.page.history import History
from netd.registry.page.holdings import Holdings
from netd.registry.page.page import Page
from netd.registry.page.view import Query, View

DEADLINE_S = 5.0
AT = "2026-11-29T04:04:33.860Z"
GUEST = "127.0.1.2"  # somebody who is not the host, unlike all others on the loopback
NOBODY = Scope(frozenset())
VOID = frozenset({"meta", "link", "input"})

STATUS = Status(
    node="host-1",
    version="1.2.3",
    ready=True,
    members=1,
    networks=1,
    endpoints=1,
    drift=0,
    capabilities=(),
    kernel="6.1.0",
    started_at=AT,
)
WRONG = Condition(code="mtu-small", severity="warning", detail="1400", remedy="raise it", since=AT)


def member(name: str = "host-1", **more: Any) -> Member:
    fields = {"id": f"id-{name}", "address": "192.0.2.10:7940", "state": "alive", "rtt_ms": 0.5}
    return Member(**{"name": name, "version": "1.2.3", "since": AT, **fields, **more})


def network(name: str = "blue", **more: Any) -> Network:
    fields = {"id": f"id-{name}", "driver": "bridge", "subnets": ("10.20.0.0/24",)}
    return Network(**{"name": name, "mtu": 1500, "gateways": ("10.20.0.1",), **fields, **more})


def endpoint(name: str, address: str = "10.20.0.2", **more: Any) -> EndpointEntry:
    fields = {"network": "blue", "container_id": f"c-{name}", "node": "host-1"}
    return EndpointEntry(**{"name": name, "addresses": (address,), **fields, **more})


def service(ident: str, status: str = "passing", **more: Any) -> Service:
    checks = (Check(id="tcp", name="tcp", kind="tcp", status=status),)  # type: ignore[arg-type]
    fields = {"name": "web", "node": "host-1", "address": "10.20.0.2", "port": 80}
    return Service(**{"id": ident, "checks": checks, "status": status, **fields, **more})


def facts(**more: Any) -> Facts:
    """Of a host that is well."""
    whole = Facts(
        status=STATUS,
        members=(member(),),
        networks=(network(),),
        endpoints={},
        services=(),
        plan=(),
        findings=(Finding(check="kernel", level="ok", detail="6.1"),),
    )
    return msgspec.structs.replace(whole, **more)


def entry(kind: str, ident: str, value: Any) -> Entry:
    fields: dict[str, Any] = {"revision": 1, "kind": kind, "id": ident}
    return Entry(**fields, **({} if value is None else {kind: value}))


def zone(**settings: Any) -> ZoneEntry:
    given = RegistrySettings(**settings)
    return ZoneEntry(zone="netd.internal", node="host-1", node_id="0" * 16, settings=given)


def view(*entries: Entry, query: Query | None = None, **more: Any) -> View:
    """What the feed has told, and facts of a host that is well but for what is given."""
    holdings, history = Holdings(lambda _: None), History(lambda: AT)
    table = {(each.kind, each.id): each for each in (entry("zone", "", zone()), *entries)}
    for reader in (holdings, history):
        reader.replace(table)
    connected = more.pop("connected", True)
    return View(facts(**more), holdings, history, connected, query or Query())


class Shown(HTMLParser):
    """What a browser makes of HTML: elements by name, with attributes and words. An element that
    is not closed, or closed twice, is an error.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        assert len(attrs) == len({name for name, _ in attrs}), attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data.strip())

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def count(self, tag: str) -> int:
        return sum(1 for name, _ in self.tags if name == tag)


class Daemon:
    """Answers what the page asks for with `answers`, by path. What it was asked, `asked` counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Any] = {
            "/v1/status": STATUS,
            "/v1/members": (member(),),
            "/v1/networks": (network(),),
            "/v1/endpoints": (),
            "/v1/services": (),
            "/v1/plan": (),
            "/v1/doctor": (Finding(check="kernel", level="ok", detail="6.1"),),
        }
        self.asked: Counter[str] = Counter()
        self.table: dict[tuple[str, str], Entry] = {}
        self.hold = asyncio.Event()  # what answers wait for, but for streams
        self.hold.set()
        self._streams: dict[str, list[web.StreamResponse]] = {"directory": [], "events": []}
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(
            web.Server(self._serve, handler_cancellation=True), shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for streams in self._streams.values():
            streams.clear()
        self.path.unlink(missing_ok=True)

    async def put(self, kind: str, ident: str, value: Any = None) -> None:
        """Change the table, and tell those who read it. Without a value the entry goes."""
        new = entry(kind, ident, value)
        if value is None:
            self.table.pop((kind, ident), None)
        else:
            self.table[kind, ident] = new
        await self._tell("directory", new)

    async def happen(self, kind: str) -> None:
        """Tell of an event."""
        fields = {"revision": 1, "at": AT, "type": kind, "object": "x", "name": "x"}
        await self._tell("events", fields)

    @property
    def followers(self) -> int:
        """Of events."""
        return len(self._streams["events"])

    async def _tell(self, stream: str, value: Any) -> None:
        for response in self._streams[stream]:
            await response.write(msgspec.json.encode(value) + b"\n")

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked[request.path] += 1
        assert request.method == "GET"
        if request.path in ("/v1/directory", "/v1/events"):
            return await self._stream(request)
        await self.hold.wait()
        answer = self.answers[request.path]
        if isinstance(answer, web.Response):
            return web.Response(status=answer.status, body=answer.body)
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        name = request.path.rpartition("/")[2]
        if name == "directory":
            sync = Entry(revision=1, kind="sync")
            for each in (*self.table.values(), sync):
                await response.write(msgspec.json.encode(each) + b"\n")
        self._streams[name].append(response)
        try:
            await asyncio.Event().wait()
        finally:
            if response in self._streams[name]:
                self._streams[name].remove(response)
        return response


class Lab:
    """The page of `daemon` at `url`, and `http` as a browser of the host."""

    def __init__(self, daemon: Daemon, page: Page, url: str, http: aiohttp.ClientSession) -> None:
        self.daemon = daemon
        self.page = page
        self.url = url
        self.http = http
        self.watching: list[aiohttp.ClientResponse] = []

    async def get(self, path: str = "/", **headers: str) -> tuple[int, str]:
        async with self.http.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.text()

    def count(self, name: str) -> float:
        return sum(count.value for count in self.page.counts() if count.name == name)


@asynccontextmanager
async def page_lab(folder: Path, **settings: Any) -> AsyncIterator[Lab]:
    """A page by TCP on the loopback, of a daemon that is there."""
    daemon = Daemon(folder / "netd.sock")
    await daemon.put("zone", "", zone(page_address="127.0.0.1:1", **settings))
    blue = NetworkEntry(subnets=("127.0.1.0/24",), resolvers=("127.0.1.1",))
    await daemon.put("network", "blue", blue)
    await daemon.start()
    feed = Feed(str(daemon.path))
    names = Names(feed)
    callers = Callers(lambda source: NOBODY if source == GUEST else names.scope_of(source))
    page = Page(str(daemon.path), feed, callers, changed=lambda: None)
    feed.readers += [names, callers, *page.readers]
    feed.readers.remove(page.listeners)  # the port is chosen here
    listening = await asyncio.get_running_loop().create_server(page.factory, "127.0.0.1", 0)
    # Little of what is not read has room in the kernel.
    listening.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    feed.start()
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(30):
            lab = Lab(daemon, page, url, http)
            yield lab
            for answer in lab.watching:
                answer.close()
    finally:
        listening.close()
        feed.close()
        await page.close()
        await daemon.stop()


def drifted(*operations: PlannedOperation) -> dict[str, Any]:
    status = msgspec.structs.replace(STATUS, drift=max(1, len(operations)))
    return {"status": status, "plan": operations}


def virtual(name: str) -> Virtual:
    ports = (VirtualPort(port=80, target_port=8080),)
    return Virtual(id=name, addresses=("10.191.0.1",), ports=ports, instances=2)


def own_endpoint(ident: str, *conditions: Condition) -> OwnEndpoint:
    return OwnEndpoint(id=ident, name=ident, conditions=conditions)


def own_service(ident: str, *conditions: Condition) -> OwnService:
    return OwnService(id=ident, conditions=conditions)
