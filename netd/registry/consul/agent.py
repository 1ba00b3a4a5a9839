"""`/v1/agent`, what is registered with this host: services and their checks."""

import asyncio
import hashlib
from typing import Any, Final

import msgspec
from aiohttp import web

from netd.model.service import CheckResult, CheckStatus, Maintenance
from netd.registry.catalog.records import MAINTENANCE, Instance
from netd.registry.consul import filters
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.check_bodies import status_of
from netd.registry.consul.fields import decoded
from netd.registry.consul.forms import Row
from netd.registry.consul.health import Health
from netd.registry.consul.options import boolean_of, check_datacenter, flag
from netd.registry.consul.parts import Parts
from netd.registry.consul.reads import headers_of
from netd.registry.consul.registrar import demand_host, demand_own, demand_write
from netd.registry.http.answers import json_body, respond, text
from netd.registry.http.call import Call, Failure
from netd.registry.http.routing import Handler, Route

OUTPUT_MAX: Final = 4096  # characters that are kept
_CODES: Final = {"passing": 200, "warning": 429, "critical": 503, "maintenance": 503}


class Agent:
    def __init__(self, parts: Parts, health: Health) -> None:
        self._parts = parts
        self._catalog = parts.catalog
        self._forms = parts.forms
        self._registrar = parts.registrar
        self._health = health

    def routes(self) -> list[Route]:
        def put(handler: Handler) -> dict[str, Handler]:
            return {"PUT": handler}

        return [
            Route("/v1/agent/services", {"GET": self.services}),
            Route("/v1/agent/service/", {"GET": self.service}),
            Route("/v1/agent/service/register", put(self.register)),
            Route("/v1/agent/service/deregister/", put(self.deregister)),
            Route("/v1/agent/service/maintenance/", put(self.maintain)),
            Route("/v1/agent/maintenance", put(self.maintain_node)),
            Route("/v1/agent/checks", {"GET": self.checks}),
            Route("/v1/agent/check/register", put(self.add_check)),
            Route("/v1/agent/check/deregister/", put(self.remove_check)),
            Route("/v1/agent/check/pass/", put(self._reporter("passing"))),
            Route("/v1/agent/check/warn/", put(self._reporter("warning"))),
            Route("/v1/agent/check/fail/", put(self._reporter("critical"))),
            Route("/v1/agent/check/update/", put(self.update_check)),
            Route("/v1/agent/health/service/id/", {"GET": self.health_of_id}),
            Route("/v1/agent/health/service/name/", {"GET": self.health_of_name}),
        ]

    # Reads

    async def services(self, call: Call) -> web.StreamResponse:
        options = self._parts.reads.options(call)
        sight = Sight(call.caller.rights)
        own = [each for each in self._own(call) if sight.sees("service", each.name)]
        shown = map(self._forms.agent_service, own)
        rows = filters.filtered(shown, options.filter, filters.SERVICE)
        return self._parts.reads.plain(call, {row["ID"]: row for row in rows}, sight=sight)

    async def checks(self, call: Call) -> web.StreamResponse:
        options = self._parts.reads.options(call)
        rows: list[Row] = []
        sight = Sight(call.caller.rights)
        record = self._catalog.record_of(self._catalog.own_node)
        if record is not None and sight.sees("node", record.node):
            rows += self._forms.checks(record)
        for instance in self._own(call):
            if sight.sees("service", instance.name):
                rows += self._forms.checks(instance)
        rows = [row | {"CreateIndex": 0, "ModifyIndex": 0} for row in rows]
        found = filters.filtered(rows, options.filter, filters.CHECK)
        return self._parts.reads.plain(call, {row["CheckID"]: row for row in found}, sight=sight)

    async def service(self, call: Call) -> web.StreamResponse:
        """One, with a hash of what it is; with `?hash=` as soon as that is another one."""
        options = self._parts.reads.options(call)
        known = call.target.first("hash")
        topic = "node/" + self._catalog.own_node.lower()
        indexes = self._catalog.indexes
        loop = asyncio.get_running_loop()
        end_s = loop.time() + options.wait_s
        while True:
            index = indexes.of(topic)
            row = self._row(call)
            if row is None:
                raise Failure(404, f"unknown service ID: {call.rest}")
            if row["ContentHash"] != known or loop.time() >= end_s:
                break
            await indexes.wait(topic, index, max(0.0, end_s - loop.time()))
            call.renew()
        headers = headers_of(options, index) | {"X-Consul-ContentHash": row["ContentHash"]}
        body = json_body(row, pretty=options.pretty)
        return respond(body, headers, gzip_ok=call.takes_gzip)

    def _row(self, call: Call) -> Row | None:
        instance = self._catalog.find(self._catalog.own_node, call.rest)
        if instance is None or not call.caller.scope.sees(instance.service.network):
            return None
        call.caller.rights.demand("service", instance.name, "read")
        row = self._forms.agent_service(instance)
        encoded = msgspec.json.encode(row, order="deterministic")
        row["ContentHash"] = hashlib.blake2b(encoded, digest_size=8).hexdigest()
        return row

    async def health_of_id(self, call: Call) -> web.StreamResponse:
        instance = self._catalog.find(self._catalog.own_node, call.rest)
        if instance is None or not call.caller.scope.sees(instance.service.network):
            return text(404, f"ServiceId {call.rest} not found")
        call.caller.rights.demand("service", instance.name, "read")
        row = self._aggregated(instance)
        return self._verdict(call, row["AggregatedStatus"], row)

    async def health_of_name(self, call: Call) -> web.StreamResponse:
        name = call.rest.lower()
        call.caller.rights.demand("service", name, "read")
        found = [each for each in self._own(call) if each.key == name]
        if not found:
            return text(404, f"ServiceName {call.rest} not found")
        rows = [self._aggregated(each) for each in found]
        worst = max((row["AggregatedStatus"] for row in rows), key=list(_CODES).index)
        return self._verdict(call, worst, rows)

    def _aggregated(self, instance: Instance) -> Row:
        node = self._catalog.node_or_stand_in(instance)
        checks = self._health.of_node_itself(node) + self._forms.checks(instance)
        record = self._catalog.record_of(node.name)
        of_node = () if record is None else record.service.checks
        kinds = {check.kind for check in (*instance.service.checks, *of_node)}
        statuses = ["passing", *(check["Status"] for check in checks)]
        worst = max(statuses, key=list(_CODES).index)
        return {
            "AggregatedStatus": "maintenance" if MAINTENANCE in kinds else worst,
            "Service": self._forms.agent_service(instance),
            "Checks": checks,
        }

    def _verdict(self, call: Call, status: str, value: Any) -> web.Response:
        code = _CODES[status]
        wants_text = call.target.first("format") == "text"
        if wants_text or call.header("Accept").startswith("text/plain"):
            return text(code, status)
        return respond(json_body(value), {}, status=code, gzip_ok=call.takes_gzip)

    def _own(self, call: Call) -> list[Instance]:
        """The instances of this host that are shown on it, to whom they concern."""
        return self._catalog.of_node(self._catalog.own_node, call.caller.scope)

    # Writes

    async def register(self, call: Call) -> web.StreamResponse:
        check_datacenter(call.target, self._parts.datacenter)
        fields = decoded(await call.body())
        replace_checks = flag(call.target, "replace-existing-checks")
        await self._registrar.register(call.caller, fields, replace_checks=replace_checks)
        return _done()

    async def deregister(self, call: Call) -> web.StreamResponse:
        await self._registrar.deregister(call.caller, call.rest)
        return _done()

    async def maintain(self, call: Call) -> web.StreamResponse:
        await self._registrar.maintain(call.caller, call.rest, _maintenance(call))
        return _done()

    async def maintain_node(self, call: Call) -> web.StreamResponse:
        demand_host(call.caller)
        call.caller.rights.demand("node", self._catalog.own_node, "write")
        await self._registrar.maintain_node(_maintenance(call))
        return _done()

    async def add_check(self, call: Call) -> web.StreamResponse:
        await self._registrar.add_check(call.caller, decoded(await call.body()))
        return _done()

    async def remove_check(self, call: Call) -> web.StreamResponse:
        await self._registrar.remove_check(call.caller, call.rest)
        return _done()

    def _reporter(self, status: CheckStatus) -> Handler:
        async def report(call: Call) -> web.StreamResponse:
            await self._report(call, status, call.target.first("note"))
            return _done()

        return report

    async def update_check(self, call: Call) -> web.StreamResponse:
        fields = decoded(await call.body())
        await self._report(call, status_of(fields.text("status")), fields.text("output"))
        return _done()

    async def _report(self, call: Call, status: CheckStatus, output: str) -> None:
        """What a service says of itself."""
        found = self._catalog.find_check(call.rest)
        if found is None:
            raise Failure(
                404,
                f'Unknown check ID "{call.rest}". Ensure that the check ID is passed, not the '
                "check name.",
            )
        instance, check = found
        demand_own(call.caller, instance)
        demand_write(call.caller, instance)
        if check.kind != "ttl":
            raise Failure(500, f'CheckID "{call.rest}" does not have associated TTL')
        result = CheckResult(status=status, output=output[:OUTPUT_MAX])
        await self._parts.daemon.renew(instance.id, check, result)
        if check.status == status:
            self._catalog.note(instance.id, check.id, result.output)


def _maintenance(call: Call) -> Maintenance:
    if not call.target.has("enable"):
        raise Failure(400, "Missing value for enable")
    enable = boolean_of(call.target.first("enable"))
    if enable is None:
        raise Failure(400, f"Invalid value for enable: {call.target.first('enable')[:80]!r}")
    return Maintenance(enable=enable, reason=call.target.first("reason")[:4096])


def _done() -> web.Response:
    """What the agent has done, it says without a word."""
    return web.Response()
