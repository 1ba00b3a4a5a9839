"""Consul's API in this process, and a daemon that takes what it is told and tells it back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from netd.model.directory import (
    EndpointEntry,
    Entry,
    NetworkEntry,
    NodeEntry,
    RegistrySettings,
    ZoneEntry,
)
from netd.model.service import (
    Check,
    CheckReports,
    CheckResult,
    CheckStatus,
    Maintenance,
    Service,
    ServiceChanges,
    ServiceSpec,
)
from netd.registry.api import Api
from netd.registry.catalog.catalog import Catalog
from netd.registry.consul.api import ConsulApi, unix_ms
from netd.registry.feed import Feed, Reader
from netd.registry.http.caller import Caller, Callers
from netd.registry.http.listeners import Wanted
from netd.registry.listening import Place
from netd.registry.names import Names

DEADLINE_S = 5.0
HOST = "127.0.0.52"
GATEWAY = "127.0.2.1"  # of the network blue
WEB = "127.0.2.7"  # where the container c-web calls from; its address on blue is WEB_ADDRESS
WEB_ADDRESS = "10.20.0.7"
_SEVERITY = ("passing", "warning", "critical")


class Containers(Callers):
    """Loopback is the host, always. Here a part of it stands for the network blue."""

    def of(self, source: str) -> Caller:
        return super().of(source.replace("127.0.2.", "10.20.0."))


class Extended(Service, frozen=True, kw_only=True):
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


class Daemon:
    """The calls about services of netd's API at a socket. What they change is with the readers
    of the feed before they are answered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[str] = []
        self.services: dict[str, Extended] = {}
        self.readers: list[Reader] = []
        self.table: dict[tuple[Any, str], Entry] = {}
        self.answers: list[int] = []  # statuses of the next calls, instead of doing them
        self._revision = 0
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._answer))
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    def put(self, kind: Any, name: str, value: Any = None) -> None:
        """Change the table, and tell those who follow it. Without a value the entry goes."""
        self._revision += 1
        entry = Entry(revision=self._revision, kind=kind, id=name)
        old = self.table.pop((kind, name), None)
        if value is not None:
            entry = msgspec.structs.replace(entry, **{kind: value})
            self.table[kind, name] = entry
        for reader in self.readers:
            reader.change(old, entry)

    def service(self, ident: str, name: str, **fields: Any) -> Extended:
        """An instance that some host has registered by netd's own API."""
        given = {"node": "host-1", "address": "10.0.0.1", **fields}
        service = Extended(id=ident, name=name, **given)
        self.put("service", ident, service)
        return service

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.calls.append(f"{request.method} {request.path}")
        if self.answers:
            problem = {"detail": "because the test wants it", "code": "x"}
            return web.json_response(problem, status=self.answers.pop(0))
        match request.method, request.path.split("/")[3:]:
            case "PUT", [ident]:
                self._register(ident, msgspec.json.decode(body, type=ServiceSpec))
                return web.Response(status=201)
            case "DELETE", [ident]:
                self.services.pop(ident, None)
                self.put("service", ident)
            case "PUT", [ident, "checks", check]:
                self.set_status(ident, check, msgspec.json.decode(body, type=CheckResult))
            case "PUT", [ident, "maintenance"]:
                self._maintain(ident, msgspec.json.decode(body, type=Maintenance))
            case "POST", []:
                return self._change(msgspec.json.decode(body, type=ServiceChanges))
            case "PUT", []:
                for report in msgspec.json.decode(body, type=CheckReports).reports:
                    if report.service in self.services:
                        self.set_status(report.service, report.check, report)
                return web.json_response([])
            case _:
                return web.json_response({"detail": "no such call"}, status=404)
        return web.Response(status=204)

    def _change(self, asked: ServiceChanges) -> web.Response:
        for ident, revision in asked.seen.items():
            entry = self.table.get(("service", ident))
            if (0 if entry is None else entry.revision) != revision:
                return web.json_response({"detail": f"{ident} has changed"}, status=409)
        for ident, spec in asked.put.items():
            self._register(ident, spec)
        for ident in asked.delete:
            self.services.pop(ident, None)
            self.put("service", ident)
        for report in asked.reports:
            self.set_status(report.service, report.check, report)
        return web.Response(status=204)

    def _register(self, ident: str, spec: ServiceSpec) -> None:
        known = self.services.get(ident)
        found = {} if known is None else {check.id: check for check in known.checks}
        checks = []
        for each in spec.checks:
            old = found.get(each.id)
            begun = Check(id=each.id, name=each.name, kind=each.kind, status=each.status, spec=each)
            checks.append(old if old is not None and old.spec == each else begun)
        if "maintenance" in found:
            checks.append(found["maintenance"])
        service = Extended(
            id=ident,
            name=spec.name,
            node="host-1",
            address=spec.address or HOST,
            port=spec.port,
            tags=spec.tags,
            meta=spec.meta,
            weights=spec.weights,
            endpoint=spec.endpoint,
            network=spec.network or ("blue" if spec.address.startswith("10.20.0.") else ""),
            extra=spec.extra,
        )
        self._show(service, tuple(checks))
        for each in spec.checks:
            self._await_word(ident, each.id, each.ttl_s)

    def set_status(self, ident: str, check_id: str, result: CheckResult) -> None:
        service = self.services[ident]
        checks = []
        for check in service.checks:
            if check.id == check_id:
                self._await_word(ident, check_id, check.spec.ttl_s if check.spec else None)
                check = msgspec.structs.replace(check, status=result.status, output=result.output)
            checks.append(check)
        self._show(service, tuple(checks))

    def _maintain(self, ident: str, maintenance: Maintenance) -> None:
        service = self.services[ident]
        checks = [check for check in service.checks if check.id != "maintenance"]
        if maintenance.enable:
            checks.append(
                Check(
                    id="maintenance",
                    name="Maintenance",
                    kind="maintenance",
                    status="critical",
                    output=maintenance.reason,
                )
            )
        self._show(service, tuple(checks))

    def _show(self, service: Extended, checks: tuple[Check, ...]) -> None:
        statuses: list[CheckStatus] = ["passing", *(check.status for check in checks)]
        worst = max(statuses, key=_SEVERITY.index)
        service = msgspec.structs.replace(service, checks=checks, status=worst)
        self.services[service.id] = service
        self.put("service", service.id, service)

    def _await_word(self, ident: str, check_id: str, ttl_s: float | None) -> None:
        timer = self._timers.pop((ident, check_id), None)
        if timer is not None:
            timer.cancel()
        if ttl_s is not None:
            loop = asyncio.get_running_loop()
            self._timers[ident, check_id] = loop.call_later(ttl_s, self._expire, ident, check_id)

    def _expire(self, ident: str, check_id: str) -> None:
        if ident in self.services:
            self.set_status(ident, check_id, CheckResult(status="critical", output="no word"))


class Lab:
    """`url` is where the host asks, `gateway` where the containers of blue do."""

    def __init__(self, daemon: Daemon, api: ConsulApi, catalog: Catalog, port: int) -> None:
        self.daemon = daemon
        self.api = api
        self.catalog = catalog
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self.gateway = f"http://{GATEWAY}:{port}"
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    def http(self, source: str = HOST) -> aiohttp.ClientSession:
        """A client at an address."""
        if source not in self._sessions:
            connector = aiohttp.TCPConnector(local_addr=(source, 0), limit=0)
            timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
            self._sessions[source] = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self._sessions[source]

    async def ask(
        self, method: str, path: str, body: Any = None, *, source: str = HOST, **more: Any
    ) -> "Answer":
        base = self.url if source == HOST else self.gateway
        data = None if body is None else body if isinstance(body, bytes) else _encoded(body)
        async with self.http(source).request(method, base + path, data=data, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **more: Any) -> Any:
        answer = await self.ask("GET", path, **more)
        assert answer.status == 200, (answer.status, answer.text)
        return answer.json

    async def put(self, path: str, body: Any = None, **more: Any) -> bytes:
        answer = await self.ask("PUT", path, body, **more)
        assert answer.status == 200, (answer.status, answer.text)
        return answer.body

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def index(self) -> int:
        return int(self.headers["X-Consul-Index"])


def _encoded(body: Any) -> bytes:
    return msgspec.json.encode(body)


@asynccontextmanager
async def consul(folder: Path, port: int, **more: Any) -> AsyncIterator[Lab]:
    """`port` is one that is free at HOST and GATEWAY."""
    daemon = Daemon(folder / "netd.sock")
    await daemon.start()
    feed = Feed(str(daemon.path))
    names = Names(feed)
    callers = Containers(names.scope_of)
    catalog = Catalog(unix_ms)
    calls = Api(str(daemon.path))
    api = ConsulApi(
        calls,
        catalog,
        callers,
        drain=feed.drain,
        changed=lambda: None,
        wanted=lambda settings: Wanted(Place(HOST, port), gateways=True),
        **more,
    )
    _fill(daemon)
    daemon.readers = [names, callers, catalog, *api.readers]
    names.begin()
    for entry in daemon.table.values():
        names.add(entry)
    for reader in daemon.readers:
        reader.replace(daemon.table)
    lab = Lab(daemon, api, catalog, port)
    try:
        yield lab
    finally:
        await lab.close()
        await api.close()
        await calls.close()
        feed.close()
        await daemon.stop()


def _fill(daemon: Daemon) -> None:
    daemon.put(
        "zone",
        "",
        ZoneEntry(
            zone="netd.internal",
            node="host-1",
            node_id="0123456789abcdef",
            settings=RegistrySettings(),
        ),
    )
    daemon.put("network", "blue", NetworkEntry(subnets=("10.20.0.0/24",), resolvers=(GATEWAY,)))
    node = NodeEntry(node_id="0123456789abcdef", addresses=(HOST,), tags={"rack": "a"})
    daemon.put("node", "host-1", node)
    other = NodeEntry(node_id="fedcba9876543210", addresses=("10.0.0.2",), tags={"rack": "b"})
    daemon.put("node", "host-2", other)
    endpoint = EndpointEntry(
        network="blue", container_id="c-web", name="web", node="host-1", addresses=(WEB_ADDRESS,)
    )
    daemon.put("endpoint", "blue-web", endpoint)
