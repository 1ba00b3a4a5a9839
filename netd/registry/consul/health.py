"""`/v1/health`: instances with how they are, and checks by what they belong to."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from netd.naming.values import Scope
from netd.registry.catalog.records import Instance, Node
from netd.registry.consul import filters
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.forms import CONSUL, Row
from netd.registry.consul.options import Options, flag
from netd.registry.consul.parts import Parts
from netd.registry.http.call import Call, Failure
from netd.registry.http.routing import Route

_STATES = ("any", "unknown", "passing", "warning", "critical")


class Health:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._catalog = parts.catalog
        self._forms = parts.forms

    def routes(self) -> list[Route]:
        return [
            Route("/v1/health/service/", {"GET": self.service}, bare=True),
            Route("/v1/health/state/", {"GET": self.state}, bare=True),
            Route("/v1/health/checks/", {"GET": self.checks}, bare=True),
            Route("/v1/health/node/", {"GET": self.node}, bare=True),
            Route("/v1/health/connect/", {"GET": self.nothing}),
            Route("/v1/health/ingress/", {"GET": self.nothing}),
        ]

    async def service(self, call: Call) -> web.StreamResponse:
        name = given(call, "service name").lower()
        tags = call.target.parameters.get("tag", ())
        passing = flag(call.target, "passing")

        def make(options: Options, sight: Sight) -> list[Row]:
            if options.peer:
                return []
            rows = self._servers(options, sight) if name == CONSUL and not tags else []
            found = sight.instances(self._catalog.of_service(name, call.caller.scope))
            for instance in self._ordered(found, options):
                node = self._catalog.node_or_stand_in(instance)
                if has_tags(instance, tags) and self._parts.is_wanted(node, options):
                    rows.append(self._row(instance, node))
            if passing:
                rows = [row for row in rows if _is_passing(row)]
            return filters.filtered(rows, options.filter, filters.HEALTH)

        return await self._parts.reads.answer(call, "health/" + name, make)

    async def state(self, call: Call) -> web.StreamResponse:
        state = given(call, "check state")
        if state not in _STATES:
            raise Failure(400, f"Invalid health state {state[:80]!r}")

        def make(options: Options, sight: Sight) -> list[Row]:
            rows: list[Row] = []
            for node in self._ordered(sight.nodes(self._catalog.all_nodes()), options):
                if self._parts.is_wanted(node, options):
                    rows += self._of_node(node, call.caller.scope, sight)
            rows = [row for row in rows if state in ("any", row["Status"])]
            return filters.filtered(rows, options.filter, filters.CHECK)

        return await self._parts.reads.answer(call, "instances", make)

    async def checks(self, call: Call) -> web.StreamResponse:
        name = given(call, "service name").lower()

        def make(options: Options, sight: Sight) -> list[Row]:
            rows: list[Row] = []
            found = sight.instances(self._catalog.of_service(name, call.caller.scope))
            for instance in self._ordered(found, options):
                node = self._catalog.node_or_stand_in(instance)
                if self._parts.is_wanted(node, options):
                    rows += self._forms.checks(instance)
            return filters.filtered(rows, options.filter, filters.CHECK)

        return await self._parts.reads.answer(call, "health/" + name, make)

    async def node(self, call: Call) -> web.StreamResponse:
        name = given(call, "node name")

        def make(options: Options, sight: Sight) -> list[Row]:
            node = self._catalog.node(name)
            seen = node is not None and sight.sees("node", node.name)
            rows = (
                self._of_node(node, call.caller.scope, sight) if node is not None and seen else []
            )
            return filters.filtered(rows, options.filter, filters.CHECK)

        return await self._parts.reads.answer(call, "node/" + name.lower(), make)

    async def nothing(self, call: Call) -> web.StreamResponse:
        """Proxies and gateways of a mesh: netd has none."""
        return await self._parts.reads.answer(call, "none", lambda *_: [])

    # How it works

    def _of_node(self, node: Node, scope: Scope, sight: Sight) -> list[Row]:
        rows = self.of_node_itself(node)
        for instance in sight.instances(self._catalog.of_node(node.name, scope)):
            rows += self._forms.checks(instance)
        return rows

    def of_node_itself(self, node: Node) -> list[Row]:
        """The checks of a node as a whole."""
        rows = [] if node.is_foreign else [self._forms.serf(node)]
        record = self._catalog.record_of(node.name)
        return rows if record is None else rows + self._forms.checks(record)

    def _row(self, instance: Instance, node: Node) -> Row:
        known = self._catalog.node(node.name) is not None
        checks = self.of_node_itself(node) if known else []
        return {
            "Node": self._forms.node(node),
            "Service": self._forms.service(instance),
            "Checks": checks + self._forms.checks(instance),
        }

    def _servers(self, options: Options, sight: Sight) -> list[Row]:
        """The hosts, as instances of the service `consul`."""
        if not sight.sees("service", CONSUL):
            return []
        return [
            {
                "Node": self._forms.node(node),
                "Service": self._forms.server(node),
                "Checks": self.of_node_itself(node),
            }
            for node in self._ordered(sight.nodes(self._catalog.all_nodes()), options)
            if not node.is_foreign and self._parts.is_wanted(node, options)
        ]

    def _ordered(self, found: Iterable[Any], options: Options) -> Iterable[Any]:
        key = self._parts.nearest(options)
        return found if key is None else sorted(found, key=key)


def given(call: Call, what: str) -> str:
    """The end of the path. Raises `Failure` 400 where nothing is there."""
    if not call.rest:
        raise Failure(400, f"Missing {what}")
    return call.rest


def has_tags(instance: Instance, tags: tuple[str, ...]) -> bool:
    """All of them, in whatever case."""
    if not tags:
        return True
    own = {tag.lower() for tag in instance.service.tags}
    return all(tag.lower() in own for tag in tags)


def _is_passing(row: Row) -> bool:
    return all(check["Status"] == "passing" for check in row["Checks"])
