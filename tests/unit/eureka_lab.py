"""Hosts of one cluster with Eureka's API, and daemons that keep their services.

Each daemon is a server of HTTP on a socket of its own, as far as registries use it. What it
changes, the registries of all hosts see before it answers.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import web
from msgspec.structs import replace
from yarl import URL

from netd.model.directory import EndpointEntry, Entry, NodeEntry, ZoneEntry
from netd.model.service import Check, CheckReports, CheckResult, Maintenance, Service, ServiceSpec
from netd.naming.values import Scope
from netd.registry.api import Api
from netd.registry.eureka.api import EurekaApi
from netd.registry.http.caller import Callers
from netd.registry.http.listeners import Wanted

DEADLINE_S = 5.0
CREATED = "2026-01-02T03:04:05.000Z"
CONTAINER = "127.0.1.2"  # its endpoint is on network blue of host-1
RED = "127.0.2.2"  # a container on network red of host-1
NEIGHBOUR = "127.0.1.3"  # another container of that network, whose endpoint nobody knows of


class Kept(Service, frozen=True, kw_only=True):
    """A service as its daemon says it."""

    extra: dict[str, Any] = msgspec.field(default_factory=dict)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def ms(self) -> int:
        return int(self.now_s * 1000)


class Cluster:
    """All services of all hosts that are alive."""

    def __init__(self) -> None:
        self.services: dict[str, Kept] = {}
        self.hosts: list[Host] = []
        self.servers: dict[str, asyncio.Server] = {}  # by host
        self.revision = 0

    def put(self, service: Kept) -> None:
        self.services[service.id] = service
        self.tell(entry_of(service, self._next()))

    def drop(self, service_id: str) -> None:
        if self.services.pop(service_id, None) is not None:
            self.tell(Entry(revision=self._next(), kind="service", id=service_id))

    def tell(self, entry: Entry) -> None:
        for host in self.hosts:
            host.callers.change(None, entry)
            host.view.change(None, entry)

    def server_of(self, host: "Host") -> asyncio.Server:
        """What accepts connections to a host's registry."""
        return self.servers[host.node]

    def register(self, name: str, ident: str, **more: Any) -> Kept:
        """What somebody registers who is no client of Eureka's."""
        fields = {"node": "host-1", "address": "192.0.2.7", "port": 80, "created_at": CREATED}
        service = Kept(**{"id": ident, "name": name, **fields, **more})
        self.put(service)
        return service

    def _next(self) -> int:
        self.revision += 1
        return self.revision


class Host:
    """A daemon, and the registry beside it at `url`."""

    def __init__(self, cluster: Cluster, node: str, path: str, clock: Clock) -> None:
        self.cluster = cluster
        self.node = node
        self.url = ""
        self.calls: list[str] = []
        self.broken = False
        self.hold: asyncio.Event | None = None  # what `DELETE` waits for
        self.callers = Callers(scope_of)
        self.api = Api(path)
        self.eureka = EurekaApi(
            self.api,
            self.callers,
            drain=lambda: None,
            changed=lambda: None,
            wanted=lambda settings: Wanted(),
            clock=clock,
            now_ms=clock.ms,
        )
        self.view = self.eureka.view
        self.path = path

    def sync(self, *entries: Entry) -> None:
        """Let the registry have a whole table, as after the daemon's start."""
        zone = ZoneEntry(zone="netd.internal", node=self.node, node_id="0" * 16)
        node = NodeEntry(node_id="0" * 16, addresses=("127.0.0.1",))
        services = [entry_of(each, 1) for each in self.cluster.services.values()]
        table = [
            Entry(revision=1, kind="zone", zone=zone),
            Entry(revision=1, kind="node", id=self.node, node=node),
            *services,
            *entries,
        ]
        known = {(entry.kind, entry.id): entry for entry in table}
        self.callers.replace(known)
        self.view.replace(known)

    def own(self) -> list[Kept]:
        return [each for each in self.cluster.services.values() if each.node == self.node]

    def app(self) -> web.Application:
        app = web.Application()
        service = "/v1/services/{id}"
        app.router.add_put(service, self._register)
        app.router.add_delete(service, self._deregister)
        app.router.add_put(service + "/checks/{check}", self._report)
        app.router.add_put(service + "/maintenance", self._maintain)
        app.router.add_put("/v1/checks", self._report_all)
        return app

    # The daemon's API

    async def _register(self, request: web.Request) -> web.Response:
        spec = msgspec.json.decode(await request.read(), type=ServiceSpec)
        ident = request.match_info["id"]
        self.calls.append(f"register {ident}")
        known = self.cluster.services.get(ident)
        if self.broken:
            return _problem(503, "the disk is full")
        if known is not None and known.node != self.node:
            return _problem(409, f"registered on {known.node}")
        before = {check.id: check for check in known.checks} if known else {}
        checks = [
            before[each.id]
            if each.id in before and before[each.id].spec == each
            else Check(id=each.id, name=each.name, kind=each.kind, status=each.status, spec=each)
            for each in spec.checks
        ]
        checks += [check for check in before.values() if check.kind == "maintenance"]
        self._show(
            Kept(
                id=ident,
                name=spec.name,
                node=self.node,
                address=spec.address,
                port=spec.port,
                meta=spec.meta,
                checks=tuple(checks),
                endpoint=spec.endpoint,
                network=_NETWORKS.get(spec.address.rpartition(".")[0], ""),
                created_at=CREATED,
                extra=spec.extra,
            )
        )
        return web.json_response({}, status=200 if known else 201)

    async def _deregister(self, request: web.Request) -> web.Response:
        ident = request.match_info["id"]
        self.calls.append(f"deregister {ident}")
        if self.hold is not None:
            await self.hold.wait()
        if self.broken:
            return _problem(503, "the disk is full")
        known = self.cluster.services.get(ident)
        if known is not None and known.node != self.node:
            return _problem(409, f"registered on {known.node}")
        self.cluster.drop(ident)
        return web.Response(status=204)

    async def _report(self, request: web.Request) -> web.Response:
        result = msgspec.json.decode(await request.read(), type=CheckResult)
        ident, check_id = request.match_info["id"], request.match_info["check"]
        self.calls.append(f"report {ident}")
        known = self.cluster.services.get(ident)
        if self.broken:
            return _problem(503, "the disk is full")
        if known is None or known.node != self.node:
            return _problem(404, "no such service")
        self._set(known, check_id, result)
        return web.Response(status=204)

    async def _report_all(self, request: web.Request) -> web.Response:
        if self.broken:
            return _problem(503, "the disk is full")
        for report in msgspec.json.decode(await request.read(), type=CheckReports).reports:
            self.calls.append(f"report {report.service}")
            known = self.cluster.services.get(report.service)
            if known is not None and known.node == self.node:
                self._set(known, report.check, report)
        return web.json_response([])

    async def _maintain(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read(), type=Maintenance)
        ident = request.match_info["id"]
        self.calls.append(f"maintain {ident} {asked.enable} {asked.reason}".strip())
        self.maintain(ident, asked)
        return web.json_response({})

    # What a daemon does by itself

    def maintain(self, ident: str, asked: Maintenance) -> None:
        known = self.cluster.services[ident]
        checks = tuple(check for check in known.checks if check.id != "maintenance")
        if asked.enable:
            out = Check(
                id="maintenance",
                name="Maintenance",
                kind="maintenance",
                status="critical",
                output=asked.reason or "in maintenance",
            )
            checks = (*checks, out)
        self._show(replace(known, checks=checks))

    def expire(self, ident: str) -> None:
        """As when nothing has been heard of an instance for the time of its lease."""
        known = self.cluster.services[ident]
        self._set(known, "eureka-lease", CheckResult(status="critical", output="no word for 90 s"))

    def _set(self, known: Kept, check_id: str, result: CheckResult) -> None:
        checks = tuple(
            replace(check, status=result.status, output=result.output)
            if check.id == check_id
            else check
            for check in known.checks
        )
        self._show(replace(known, checks=checks))

    def _show(self, service: Kept) -> None:
        critical = any(check.status == "critical" for check in service.checks)
        shown = replace(service, status="critical" if critical else "passing")
        if self.cluster.services.get(service.id) != shown:
            self.cluster.put(shown)


def entry_of(service: Kept, revision: int) -> Entry:
    """Without what checks have said, as the daemon tells of it."""
    checks = tuple(replace(check, output="", since="") for check in service.checks)
    told = replace(service, checks=checks)
    return Entry(revision=revision, kind="service", id=service.id, service=told)


def scope_of(source: str | None) -> Scope:
    """Containers have addresses of 127.0.1.0/24 and 127.0.2.0/24; all others are the host."""
    network = _NETWORKS.get((source or "").rpartition(".")[0])
    return _EVERYTHING if network is None else SCOPES[network]


_EVERYTHING = Scope(None)
_NETWORKS = {"127.0.1": "blue", "127.0.2": "red"}
SCOPES = {network: Scope(frozenset({network})) for network in _NETWORKS.values()}
RED_ENDPOINT = Entry(
    revision=1,
    kind="endpoint",
    id="e2",
    endpoint=EndpointEntry(
        network="red", container_id="c2", name="web", node="host-1", addresses=(RED,)
    ),
)
ENDPOINT = Entry(
    revision=1,
    kind="endpoint",
    id="e1",
    endpoint=EndpointEntry(
        network="blue", container_id="c1", name="web", node="host-1", addresses=(CONTAINER,)
    ),
)


class Reached(Protocol):
    @property
    def url(self) -> str: ...


class Client:
    """Speaks HTTP to a host."""

    def __init__(self, host: Reached, session: aiohttp.ClientSession) -> None:
        self._host = host
        self._session = session

    async def call(
        self, method: str, path: str, *, json: Any = None, data: bytes | None = None, **headers: str
    ) -> "Answer":
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if json is not None:
            data = msgspec.json.encode(json)
            fields.setdefault("Content-Type", "application/json")
        url = self._host.url + path
        async with asyncio.timeout(DEADLINE_S):
            async with self._session.request(
                method,
                _exact(url),
                data=data,
                headers=fields,
                skip_auto_headers=("Accept", "Accept-Encoding"),
            ) as answer:
                return Answer(answer.status, answer.headers, await answer.read())

    async def get(self, path: str) -> Any:
        """The JSON at a path that has some."""
        answer = await self.call("GET", path, Accept="application/json")
        assert answer.status == 200, answer
        return msgspec.json.decode(answer.body)

    async def register(self, **more: Any) -> int:
        instance = instance_object(**more)
        answer = await self.call(
            "POST", f"/eureka/apps/{quote(instance['app'])}", json={"instance": instance}
        )
        return answer.status


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:200]!r}"


def instance_object(**more: Any) -> dict[str, Any]:
    """As py-eureka-client and Spring write it."""
    return {
        "instanceId": "web-1:orders:8080",
        "hostName": "web-1",
        "app": "ORDERS",
        "ipAddr": "192.0.2.8",
        "status": "UP",
        "overriddenstatus": "UNKNOWN",
        "port": {"$": 8080, "@enabled": "true"},
        "securePort": {"$": 443, "@enabled": "false"},
        "countryId": 1,
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
            "name": "MyOwn",
        },
        "leaseInfo": {"renewalIntervalInSecs": 30, "durationInSecs": 90},
        "metadata": {"zone": "a", "management.port": "8080"},
        "vipAddress": "orders",
        "secureVipAddress": "orders-secure",
        "lastDirtyTimestamp": "1000",
        **more,
    }


def _exact(url: str) -> URL:

    return URL(url, encoded=True)


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)


@asynccontextmanager
async def cluster(
    folder: Path, count: int = 1, clock: Clock | None = None
) -> AsyncIterator[Cluster]:
    """Hosts called host-1, host-2, ..., each with its daemon and its registry."""
    found = Cluster()
    runners = []
    loop = asyncio.get_running_loop()
    for number in range(1, count + 1):
        path = str(folder / f"netd-{number}.sock")
        host = Host(found, f"host-{number}", path, clock or Clock())
        runner = web.AppRunner(host.app())
        await runner.setup()
        await web.UnixSite(runner, path).start()
        runners.append(runner)
        server = await loop.create_server(host.eureka.server.factory, "127.0.0.1", 0)
        found.servers[host.node] = server
        host.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        host.sync(ENDPOINT, RED_ENDPOINT)
        found.hosts.append(host)
    try:
        yield found
    finally:
        for host in found.hosts:
            if host.hold is not None:
                host.hold.set()
            await host.eureka.close()
            await host.api.close()
        for server in found.servers.values():
            server.close()
        for runner in runners:
            await runner.cleanup()


@asynccontextmanager
async def client(host: Host, source: str = "127.0.0.1") -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield Client(host, session)


async def until(condition: Any) -> None:
    """Wait until it holds; nothing tells of what daemons and registries do between them."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.005)
    assert condition()
