"""What of Consul's API is not in the catalogue: keys, sessions, transactions, events, queries."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from aiohttp import web

from netd.model.directory import Count
from netd.model.service import Service
from netd.naming.values import Scope
from netd.registry.consul.event import EventCalls
from netd.registry.consul.event_feed import EventFeed
from netd.registry.consul.events import Event, Events
from netd.registry.consul.health import Health
from netd.registry.consul.key_reading import KeyReads
from netd.registry.consul.key_watches import KeyWatches
from netd.registry.consul.keys_api import KeysApi
from netd.registry.consul.kv import Kv
from netd.registry.consul.parts import Parts
from netd.registry.consul.query import PreparedQueries
from netd.registry.consul.query_selection import Instances
from netd.registry.consul.query_store import QueryStore, QueryTable
from netd.registry.consul.session import Sessions
from netd.registry.consul.txn import Transactions
from netd.registry.http.call import Call, Failure
from netd.registry.http.caller import Caller
from netd.registry.http.routing import Handler, Route

_EVERYTHING: Final = Scope(None)


class Keys:
    """By the daemon at `socket_path`. `guests` says whether containers of this host may call,
    too: there is one set of keys for all. Nobody else may.

    `event_feed` is a reader of the feed, after the catalogue; `queries` are for who answers DNS.
    """

    def __init__(self, socket_path: str, guests: Callable[[], bool] = lambda: True) -> None:
        self.api = KeysApi(socket_path)
        self.watches = KeyWatches(self.api)
        self.queries = QueryTable(QueryStore(self.api), self.watches)
        self.events: Events | None = None
        self.event_feed = EventFeed(self.api, self._take)
        self._guests = guests

    async def close(self) -> None:
        await self.queries.close()
        await self.watches.close()
        await self.api.close()

    def counts(self) -> Iterator[Count]:
        yield from self.watches.counts()
        if self.events is not None:
            yield Count(name="consul_events_fired_total", value=self.events.fired)
            yield Count(name="consul_events_taken_total", value=self.events.taken)

    def routes(self, parts: Parts) -> Sequence[Route]:
        """For `ConsulApi`, which has the parts."""
        catalog = parts.catalog

        def own_services() -> Iterator[Service]:
            for instance in catalog.all(_EVERYTHING):
                if instance.service.node == catalog.own_node:
                    yield instance.service

        self.events = Events(lambda: catalog.own_node, own_services, self.event_feed.spread)
        reads = KeyReads(self.watches, parts.datacenter)
        instances = Instances(parts, Health(parts))
        routes = (
            *Kv(self.api, reads).routes(),
            *Sessions(self.api, reads, catalog).routes(),
            *Transactions(self.api, reads, parts).routes(),
            *EventCalls(self.events, parts.datacenter).routes(),
            *PreparedQueries(QueryStore(self.api), reads, instances).routes(),
        )
        return [self._guarded(route) for route in routes]

    def _take(self, event: Event) -> None:
        if self.events is not None:
            self.events.take(event)

    def _guarded(self, route: Route) -> Route:
        methods = {method: self._guard(handler) for method, handler in route.methods.items()}
        return route._replace(methods=methods)

    def _guard(self, handler: Handler) -> Handler:
        async def answer(call: Call) -> web.StreamResponse:
            caller = call.caller
            self._demand(caller)
            response = await handler(call)
            if call.caller.own != caller.own:  # it is somebody else after a wait
                self._demand(call.caller)
            return response

        return answer

    def _demand(self, caller: Caller) -> None:
        """Raises `Failure` 403 for whom keys are not."""
        if not caller.is_host and not (caller.own and self._guests()):
            whose = "the host and its containers" if self._guests() else "the host itself"
            raise Failure(403, f"Permission denied: keys are for {whose}")
