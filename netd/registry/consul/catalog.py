"""`/v1/catalog`, its reads: datacenters, nodes, services, instances."""

from typing import Any

from aiohttp import web

from netd.naming.values import Scope
from netd.registry.catalog.records import Node
from netd.registry.consul import filters
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.forms import CONSUL, Row
from netd.registry.consul.health import given, has_tags
from netd.registry.consul.options import Options
from netd.registry.consul.parts import Parts
from netd.registry.http.call import Call
from netd.registry.http.routing import Route


class Catalog:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._catalog = parts.catalog
        self._forms = parts.forms
        self._reads = parts.reads

    def routes(self) -> list[Route]:
        return [
            Route("/v1/catalog/datacenters", {"GET": self.datacenters}),
            Route("/v1/catalog/nodes", {"GET": self.nodes}),
            Route("/v1/catalog/services", {"GET": self.services}),
            Route("/v1/catalog/service/", {"GET": self.service}, bare=True),
            Route("/v1/catalog/node/", {"GET": self.node}, bare=True),
            Route("/v1/catalog/node-services/", {"GET": self.node_services}, bare=True),
            Route("/v1/catalog/connect/", {"GET": self.nothing}),
            Route("/v1/catalog/gateway-services/", {"GET": self.nothing}),
        ]

    async def datacenters(self, call: Call) -> web.StreamResponse:
        return self._reads.plain(call, [self._parts.datacenter])

    async def nodes(self, call: Call) -> web.StreamResponse:
        def make(options: Options, sight: Sight) -> list[Row]:
            if options.peer:
                return []
            seen = sight.nodes(self._catalog.all_nodes())
            found = [each for each in seen if self._wants(each, options)]
            key = self._parts.nearest(options)
            rows = [self._forms.node(each) for each in (sorted(found, key=key) if key else found)]
            return filters.filtered(rows, options.filter, filters.NODE)

        return await self._reads.answer(call, "nodes", make)

    async def services(self, call: Call) -> web.StreamResponse:
        options = self._reads.options(call)
        # They may ask for anything that there is of an instance or a node.
        exact = not options.filter and not options.node_meta

        def make(options: Options, sight: Sight) -> dict[str, list[str]]:
            if options.peer:
                return {}
            test = None
            if options.filter:
                test = filters.test_of(options.filter, filters.CATALOG)
            tags: dict[str, dict[str, None]] = {}
            wanted = self._hosts() if exact else sight.nodes(self._hosts())
            hosts = test is None and any(self._wants(node, options) for node in wanted)
            if hosts and sight.sees("service", CONSUL):
                tags[CONSUL] = {}
            for instance in self._catalog.all(call.caller.scope):
                seen = sight.sees("service", instance.name)
                if not (seen if exact else sight.sees_instance(instance)):
                    continue
                node = self._catalog.node_or_stand_in(instance)
                if not self._wants(node, options):
                    continue
                if test is None or test(self._forms.catalog_service(instance, node)):
                    tags.setdefault(instance.name, {}).update(dict.fromkeys(instance.service.tags))
            return {name: list(tags[name]) for name in sorted(tags)}

        return await self._reads.answer(call, "services" if exact else "instances", make)

    async def service(self, call: Call) -> web.StreamResponse:
        name = given(call, "service name").lower()
        tags = call.target.parameters.get("tag", ())

        def make(options: Options, sight: Sight) -> list[Row]:
            if options.peer:
                return []
            rows = self._servers(options, sight) if name == CONSUL and not tags else []
            found = sight.instances(self._catalog.of_service(name, call.caller.scope))
            key = self._parts.nearest(options)
            for instance in sorted(found, key=key) if key else found:
                node = self._catalog.node_or_stand_in(instance)
                if has_tags(instance, tags) and self._wants(node, options):
                    rows.append(self._forms.catalog_service(instance, node))
            return filters.filtered(rows, options.filter, filters.CATALOG)

        return await self._reads.answer(call, "service/" + name, make)

    async def node(self, call: Call) -> web.StreamResponse:
        name = given(call, "node name")

        def make(options: Options, sight: Sight) -> Any:
            found = self._of_node(name, call.caller.scope, options, sight)
            if found is None:
                return None
            node, services = found
            return {"Node": node, "Services": {row["ID"]: row for row in services}}

        return await self._reads.answer(call, "node/" + name.lower(), make)

    async def node_services(self, call: Call) -> web.StreamResponse:
        name = given(call, "node name")

        def make(options: Options, sight: Sight) -> Any:
            found = self._of_node(name, call.caller.scope, options, sight)
            node, services = (None, []) if found is None else found
            return {"Node": node, "Services": services}

        return await self._reads.answer(call, "node/" + name.lower(), make)

    async def nothing(self, call: Call) -> web.StreamResponse:
        """Proxies and gateways of a mesh: netd has none."""
        return await self._reads.answer(call, "none", lambda *_: [])

    # How it works

    def _of_node(
        self, name: str, scope: Scope, options: Options, sight: Sight
    ) -> tuple[Row, list[Row]] | None:
        node = self._catalog.node(name)
        if node is None or not sight.sees("node", node.name):
            return None
        rows = []
        if not node.is_foreign and sight.sees("service", CONSUL):
            rows = [self._forms.server(node)]
        rows += map(self._forms.service, sight.instances(self._catalog.of_node(name, scope)))
        return self._forms.node(node), filters.filtered(rows, options.filter, filters.SERVICE)

    def _hosts(self) -> list[Node]:
        return [node for node in self._catalog.all_nodes() if not node.is_foreign]

    def _servers(self, options: Options, sight: Sight) -> list[Row]:
        if not sight.sees("service", CONSUL):
            return []
        return [
            self._forms.catalog_server(node)
            for node in sight.nodes(self._hosts())
            if self._wants(node, options)
        ]

    def _wants(self, node: Node, options: Options) -> bool:
        return self._parts.is_wanted(node, options)
