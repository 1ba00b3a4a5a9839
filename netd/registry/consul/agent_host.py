"""`/v1/agent`, the host itself: what it is, who else is there, its log and its figures."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from netd import __version__
from netd.model.directory import Count
from netd.registry.catalog.records import Node
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.forms import SERVER_PORT, Row
from netd.registry.consul.parts import Parts
from netd.registry.consul.registrar import demand_host
from netd.registry.http.answers import TEXT
from netd.registry.http.call import Call, Failure
from netd.registry.http.rights import Access
from netd.registry.http.routing import Handler, Route

API_VERSION: Final = "1.20.0"  # of Consul, whose answers these are like
GOSSIP_PORT: Final = 8301  # as Consul's members show; netd's is another
MONITORS_MAX: Final = 16
_MONITOR_LINES: Final = 512
_QUIET_S: Final = 15.0
_ALIVE: Final = 1
_LEVELS: Final = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "err": logging.ERROR,
    "error": logging.ERROR,
}


class Host:
    """`counts` are the registry's figures."""

    def __init__(self, parts: Parts, counts: Callable[[], Iterator[Count]]) -> None:
        self._parts = parts
        self._catalog = parts.catalog
        self._counts = counts
        self._monitors = 0

    def routes(self) -> list[Route]:
        def put(handler: Handler) -> dict[str, Handler]:
            return {"PUT": handler}

        return [
            Route("/v1/agent/self", {"GET": self.self}),
            Route("/v1/agent/version", {"GET": self.version}),
            Route("/v1/agent/host", {"GET": self.host}),
            Route("/v1/agent/members", {"GET": self.members}),
            Route("/v1/agent/metrics", {"GET": self.metrics}),
            Route("/v1/agent/monitor", {"GET": self.monitor}),
            Route("/v1/agent/reload", put(self.reload)),
            Route("/v1/agent/leave", put(self.leave)),
            Route("/v1/agent/join/", put(self.join)),
            Route("/v1/agent/force-leave/", put(self.force_leave)),
        ]

    async def self(self, call: Call) -> web.StreamResponse:
        self._demand(call, "read")
        own = self._catalog.node(self._catalog.own_node)
        node = own or Node(self._catalog.own_node, "", "", {}, {}, 1, 1)
        config = {
            "Datacenter": self._parts.datacenter,
            "PrimaryDatacenter": self._parts.datacenter,
            "NodeName": node.name,
            "NodeID": node.node_id,
            "Revision": "netd",
            "Server": True,
            "Version": API_VERSION,
            "BuildDate": "1970-01-01T00:00:00Z",
        }
        value = {
            "Config": config,
            "DebugConfig": {},
            "Coord": (self._parts.coordinates.of(node.name) or {}).get("Coord"),
            "Member": self._member(node, wan=False),
            "Stats": self._stats(node),
            "Meta": node.meta,
            "xDS": {"SupportedProxies": {}, "Port": -1, "Ports": {"Plaintext": -1, "TLS": -1}},
        }
        return self._parts.reads.plain(call, value)

    async def version(self, call: Call) -> web.StreamResponse:
        self._demand(call, "read")
        value = {
            "SHA": "",
            "BuildDate": "1970-01-01T00:00:00Z",
            "HumanVersion": f"{API_VERSION} (netd {__version__})",
            "FIPS": "",
        }
        return self._parts.reads.plain(call, value)

    async def host(self, call: Call) -> web.StreamResponse:
        """Nothing is told of the machine: netd's own API has what there is to know."""
        demand_host(call.caller)
        call.caller.rights.demand("operator", "", "read")
        value = {"Memory": {}, "CPU": [], "Host": {}, "Disk": {}, "CollectionTime": 0}
        return self._parts.reads.plain(call, value)

    async def members(self, call: Call) -> web.StreamResponse:
        wan = call.target.first("wan") not in ("", "0", "false")
        hosts = [node for node in self._catalog.all_nodes() if not node.is_foreign]
        sight = Sight(call.caller.rights)
        rows = [self._member(node, wan=wan) for node in sight.nodes(hosts)]
        index = self._catalog.indexes.of("nodes")
        return self._parts.reads.plain(call, rows, index, sight)

    async def metrics(self, call: Call) -> web.StreamResponse:
        self._demand(call, "read")
        if call.target.first("format") == "prometheus":
            lines = [
                f"netd_registry_{_labelled(count)} {count.value:g}" for count in self._counts()
            ]
            return web.Response(text="\n".join(lines) + "\n")
        gauges, counters = [], []
        for count in self._counts():
            name = f"netd.registry.{count.name}"
            if count.name.endswith("_total"):
                counters.append(_counter(name, count))
            else:
                gauges.append({"Name": name, "Value": count.value, "Labels": count.labels})
        now = datetime.now(UTC)
        value = {
            "Timestamp": now.strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
            "Gauges": gauges,
            "Points": [],
            "Counters": counters,
            "Samples": [],
        }
        return self._parts.reads.plain(call, value)

    async def monitor(self, call: Call) -> web.StreamResponse:
        """The registry's log, from now on, until the caller leaves."""
        demand_host(call.caller)
        self._demand(call, "read")
        name = call.target.first("loglevel", "info").lower()
        if name not in _LEVELS:
            raise Failure(400, f"Unknown log level: {name[:80]}")
        if self._monitors >= MONITORS_MAX:
            raise Failure(429, f"{MONITORS_MAX} callers follow the log already")
        self._monitors += 1
        handler = _Lines(_LEVELS[name])
        logging.getLogger().addHandler(handler)
        try:
            response = web.StreamResponse(headers={"Content-Type": TEXT})
            await response.prepare(call.request)
            while True:
                await response.write(await handler.next())
        finally:
            logging.getLogger().removeHandler(handler)
            self._monitors -= 1

    async def reload(self, call: Call) -> web.StreamResponse:
        """Nothing is left to do: netd tells its registry of what is configured."""
        demand_host(call.caller)
        self._demand(call, "write")
        return web.Response()

    async def leave(self, call: Call) -> web.StreamResponse:
        self._demand(call, "write")
        raise Failure(
            403, "Permission denied: a host leaves the cluster with `netctl member leave`"
        )

    async def join(self, call: Call) -> web.StreamResponse:
        """Done, where it is so already; a host that is not in the cluster needs the key."""
        demand_host(call.caller)
        self._demand(call, "write")
        address = call.rest.rpartition(":")[0] if call.rest.count(":") == 1 else call.rest
        known = {each for node in self._catalog.all_nodes() for each in (node.address, node.name)}
        if address not in known:
            raise Failure(500, f"{call.rest} is no host of the cluster: hosts join by their key")
        return web.Response()

    async def force_leave(self, call: Call) -> web.StreamResponse:
        """A host that is not alive is not shown: it has left by then."""
        demand_host(call.caller)
        call.caller.rights.demand("operator", "", "write")
        return web.Response()

    # How it works

    def _demand(self, call: Call, access: Access) -> None:
        """Raise `Failure` unless the caller may have this of the host itself."""
        call.caller.rights.demand("agent", self._catalog.own_node, access)

    def _member(self, node: Node, *, wan: bool) -> Row:
        return {
            "Name": f"{node.name}.{self._parts.datacenter}" if wan else node.name,
            "Addr": node.address,
            "Port": GOSSIP_PORT + wan,
            "Tags": {
                "role": "consul",
                "dc": self._parts.datacenter,
                "id": node.node_id,
                "port": str(SERVER_PORT),
                "build": f"{API_VERSION}:netd",
                "vsn": "2",
            },
            "Status": _ALIVE,
            "ProtocolMin": 1,
            "ProtocolMax": 5,
            "ProtocolCur": 2,
            "DelegateMin": 2,
            "DelegateMax": 5,
            "DelegateCur": 4,
        }

    def _stats(self, node: Node) -> Row:
        leader = leader_of(self._catalog.all_nodes())
        is_leader = bool(leader) and leader == place_of(node)
        return {
            "agent": {"checks": "", "services": str(len(self._catalog))},
            "build": {"version": API_VERSION, "revision": "netd", "prerelease": ""},
            "consul": {
                "leader": "true" if is_leader else "false",
                "leader_addr": leader,
                "server": "true",
                "known_datacenters": "1",
                "bootstrap": "false",
            },
        }


class _Lines(logging.Handler):
    """Lines of the log as they come; those that nobody takes in time are left out."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.setFormatter(logging.Formatter("%(asctime)s [%(levelname)s] %(name)s: %(message)s"))
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_MONITOR_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode("utf-8", "replace") + b"\n"
        self._loop.call_soon_threadsafe(self._put, line)

    def _put(self, line: bytes) -> None:
        with suppress(asyncio.QueueFull):
            self._queue.put_nowait(line)

    async def next(self) -> bytes:
        """An empty line after a while without any: so one that has left is found out."""
        try:
            async with asyncio.timeout(_QUIET_S):
                return await self._queue.get()
        except TimeoutError:
            return b"\n"


def place_of(node: Node) -> str:
    """Where a host would be as a server of Consul's."""
    shown = f"[{node.address}]" if ":" in node.address else node.address
    return f"{shown}:{SERVER_PORT}"


def leader_of(nodes: list[Node]) -> str:
    """There is none in netd; but clients wait until one is told, and it should be the same
    whichever host they ask. "" while no host is known.
    """
    hosts = [node for node in nodes if not node.is_foreign and node.address]
    return place_of(hosts[0]) if hosts else ""


def _labelled(count: Count) -> str:
    labels = ",".join(f'{key}="{value}"' for key, value in sorted(count.labels.items()))
    return f"{count.name}{{{labels}}}" if labels else count.name


def _counter(name: str, count: Count) -> dict[str, Any]:
    value = count.value
    return {
        "Name": name,
        "Count": 1,
        "Rate": 0,
        "Sum": value,
        "Min": value,
        "Max": value,
        "Mean": value,
        "Stddev": 0,
        "Labels": count.labels,
    }
