"""Consul's API as a part of the registry: what it consists of, and who tells whom."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from aiohttp import web

from netd.model.directory import Count, RegistrySettings
from netd.naming.zones import DATACENTER
from netd.registry.api import Api
from netd.registry.catalog.catalog import Catalog as Table
from netd.registry.catalog.daemon import Daemon
from netd.registry.catalog.kept import Kept
from netd.registry.consul.acl_gate import Gate
from netd.registry.consul.agent import Agent
from netd.registry.consul.agent_host import Host
from netd.registry.consul.catalog import Catalog
from netd.registry.consul.catalog_writes import CatalogWrites
from netd.registry.consul.cluster import Cluster
from netd.registry.consul.coordinates import Coordinates
from netd.registry.consul.forms import Forms
from netd.registry.consul.health import Health
from netd.registry.consul.parts import Distance, Parts
from netd.registry.consul.reads import Reads
from netd.registry.consul.registrar import Registrar
from netd.registry.consul.writing import Writing
from netd.registry.feed import Reader
from netd.registry.http.call import Call
from netd.registry.http.caller import Callers
from netd.registry.http.listeners import HttpListeners, Wanted
from netd.registry.http.routing import Route, Routes
from netd.registry.http.server import HttpServer

More = Callable[[Parts], Sequence[Route]]


class ConsulApi:
    """`table` and `callers` are told of the feed by whoever owns them, before `readers`.

    `more` makes the routes of what is not in the catalogue: keys, sessions, events, queries. With
    a `gate`, each call passes it first.
    `counts` are the registry's figures, of which the API tells.
    """

    def __init__(
        self,
        api: Api,
        table: Table,
        callers: Callers,
        *,
        drain: Callable[[], None],
        changed: Callable[[], None],
        wanted: Callable[[RegistrySettings], Wanted],
        more: Sequence[More] = (),
        counts: Callable[[], Iterator[Count]] = lambda: iter(()),
        distance: Distance | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._table = table
        self._gate = gate
        self._kept = Kept()
        coordinates = Coordinates(table)
        daemon = Daemon(api, drain)
        registrar = Registrar(table, daemon, callers)
        self.parts = Parts(
            catalog=table,
            reads=Reads(table, self._kept, DATACENTER),
            forms=Forms(DATACENTER),
            daemon=daemon,
            registrar=registrar,
            writing=Writing(table, daemon, callers, registrar),
            callers=callers,
            datacenter=DATACENTER,
            coordinates=coordinates,
            distance=distance or coordinates.distance_s,
        )
        found = chain(_routes(self.parts, counts), *(each(self.parts) for each in more))
        routes = Routes(found if gate is None else map(gate.guarded, found))
        self.server = HttpServer("consul", routes, callers, drain=drain, decorate=self._decorate)
        self.listeners = HttpListeners(self.server, wanted, changed)

    @property
    def readers(self) -> tuple[Reader, ...]:
        """Of the feed, in this order."""
        return (self.listeners,)

    async def close(self) -> None:
        await self.listeners.close()
        await self.server.close()
        await self.parts.daemon.close()

    def counts(self) -> Iterator[Count]:
        yield from self.server.counts()
        yield Count(name="consul_waiting", value=self._table.indexes.waiting)
        yield Count(name="consul_kept_answers", value=len(self._kept))
        yield Count(name="consul_kept_bytes", value=self._kept.size)
        yield Count(name="consul_made_answers_total", value=self._kept.made)
        yield from self.parts.daemon.renewals.counts("consul")

    def _decorate(self, call: Call, response: web.StreamResponse) -> None:
        policy = "allow" if self._gate is None else self._gate.default_policy
        response.headers["X-Consul-Default-ACL-Policy"] = policy


def unix_ms() -> int:
    """Now, as `Indexes` begins and goes on with it."""
    return time.time_ns() // 1_000_000


def _routes(parts: Parts, counts: Callable[[], Iterator[Count]]) -> Iterator[Route]:
    health = Health(parts)
    yield from Agent(parts, health).routes()
    yield from Host(parts, counts).routes()
    yield from Catalog(parts).routes()
    yield from CatalogWrites(parts).routes()
    yield from health.routes()
    yield from Cluster(parts).routes()
