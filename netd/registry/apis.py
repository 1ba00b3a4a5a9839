"""What the registry has for HTTP: Consul's and Eureka's APIs, of one catalogue, and the page."""

import socket
from collections.abc import Callable, Iterator

from netd.model.directory import Count, Entry, RegistrySettings
from netd.registry.api import Api
from netd.registry.catalog.catalog import Catalog
from netd.registry.consul.acl import Acl
from netd.registry.consul.api import ConsulApi, unix_ms
from netd.registry.consul.health import Health
from netd.registry.consul.keys import Keys
from netd.registry.consul.query_dns import TOPIC, QueryDns
from netd.registry.consul.query_selection import Instances
from netd.registry.eureka.api import EurekaApi
from netd.registry.feed import Entries, Feed, Reader
from netd.registry.http.caller import Callers
from netd.registry.http.listeners import HttpListeners, Wanted
from netd.registry.names import Names
from netd.registry.page.page import Page


class Apis(Reader):
    """Of the daemon at `path`. `changed` is called when places to ask at came or went; `counts`
    are the registry's figures, of which Consul's API tells; `page` is a listening socket.
    """

    def __init__(
        self,
        path: str,
        api: Api,
        feed: Feed,
        names: Names,
        *,
        changed: Callable[[], None],
        counts: Callable[[], Iterator[Count]],
        page: socket.socket | None = None,
    ) -> None:
        self._settings = RegistrySettings()
        self._names = names
        self._catalog = Catalog(unix_ms)
        self._callers = Callers(names.scope_of, names.party_of)
        self._keys = Keys(path, guests=lambda: self._settings.consul_guests)
        self._acl = Acl(self._keys.api, self._keys.watches, lambda: self._settings)
        self._keys.queries.changed = lambda: names.forget((TOPIC,))
        self._consul = ConsulApi(
            api,
            self._catalog,
            self._callers,
            drain=feed.drain,
            changed=changed,
            wanted=_consul_places,
            more=(self._keys.routes, self._acl.routes),
            counts=counts,
            gate=self._acl.gate,
        )
        self._eureka = EurekaApi(
            api, self._callers, drain=feed.drain, changed=changed, wanted=_eureka_places
        )
        self._page = Page(path, feed, self._callers, changed=changed, sock=page)

    @property
    def readers(self) -> tuple[Reader, ...]:
        """Of the feed, in this order: who can ask is answered from what there is."""
        return (
            self._callers,
            self._catalog,
            self,
            *self._consul.readers,
            self._keys.event_feed,
            *self._eureka.readers,
            *self._page.readers,
        )

    @property
    def listening(self) -> tuple[str, ...]:
        return tuple(place for each in self._listeners() for place in each.listening)

    @property
    def problems(self) -> dict[str, str]:
        """Why it cannot listen at places where it should."""
        return {
            place: reason for each in self._listeners() for place, reason in each.problems.items()
        }

    def counts(self) -> Iterator[Count]:
        yield from self._consul.counts()
        yield from self._keys.counts()
        yield from self._acl.counts()
        yield from self._eureka.counts()
        yield from self._page.counts()

    async def close(self) -> None:
        await self._page.close()
        await self._eureka.close()
        await self._consul.close()
        await self._acl.close()
        await self._keys.close()

    def _listeners(self) -> tuple[HttpListeners, ...]:
        return (self._consul.listeners, self._eureka.listeners, self._page.listeners)

    # As a reader of the feed

    def replace(self, entries: Entries) -> None:
        entry = entries.get(("zone", ""))
        if entry is not None and entry.zone is not None:
            self._configure(entry.zone.settings)

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.zone is not None:
            self._configure(new.zone.settings)

    def _configure(self, settings: RegistrySettings) -> None:
        """The names of prepared queries are answered where Consul's API is."""
        if settings == self._settings:
            return
        self._settings = settings
        if not settings.consul_address or not settings.consul_zone:
            self._names.special = None
            return
        parts = self._consul.parts
        instances = Instances(parts, Health(parts))
        zone = settings.consul_zone.lower()
        self._names.special = QueryDns(self._names, self._keys.queries, instances, zone).look_up


def _consul_places(settings: RegistrySettings) -> Wanted:
    return Wanted.at(settings.consul_address, gateways=settings.consul_gateways)


def _eureka_places(settings: RegistrySettings) -> Wanted:
    return Wanted.at(settings.eureka_address, gateways=settings.eureka_gateways)
