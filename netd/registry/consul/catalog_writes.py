"""`/v1/catalog/register` and `deregister`: what is put into the catalogue past any agent.

Nodes and services that somebody else looks after: no host of the cluster has them, so they are
kept by the host that was told of them, which is the one to change them.
"""

from typing import Final

from aiohttp import web

from netd.model.service import CheckResult
from netd.registry.consul.acl_catalog import demand_deregistration, demand_registration
from netd.registry.consul.check_bodies import Rules, status_of, told_check
from netd.registry.consul.draft import Draft
from netd.registry.consul.fields import Fields, decoded
from netd.registry.consul.options import check_datacenter
from netd.registry.consul.parts import Parts
from netd.registry.consul.registrar import demand_host
from netd.registry.consul.service_bodies import ServiceBody, service_of
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import Call, Failure
from netd.registry.http.routing import Route

NAME_MAX: Final = 256
# Checks of a service that comes this way are no agent's to run.
_RULES: Final = Rules(scripts=False, find=lambda ident, node: (node, ident))


class CatalogWrites:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._catalog = parts.catalog
        self._writing = parts.writing

    def routes(self) -> list[Route]:
        return [
            Route("/v1/catalog/register", {"PUT": self.register}),
            Route("/v1/catalog/deregister", {"PUT": self.deregister}),
        ]

    async def register(self, call: Call) -> web.StreamResponse:
        demand_host(call.caller)
        fields = decoded(await call.body())
        self._check_datacenter(call, fields)
        node, checks = node_name(fields.text("node")), _checks(fields)
        demand_registration(self._catalog, call.caller.rights, node, fields, checks)
        given = fields.fields("service")
        service = None if given is None else catalog_service(given)

        def write(draft: Draft) -> None:
            name = draft.name_of(node)
            if draft.is_host(name):
                draft.demand_kept(name)
            else:
                _write_node(draft, name, fields)
            if service is not None:
                draft.put_service(name, service)
            for check in checks:
                draft.put_check(name, check.text("serviceid"), told_check(check), result_of(check))

        await self._writing.carry_out(write)
        return respond(json_body(True), {})

    async def deregister(self, call: Call) -> web.StreamResponse:
        demand_host(call.caller)
        fields = decoded(await call.body())
        self._check_datacenter(call, fields)
        node = node_name(fields.text("node"))
        ident, check = fields.text("serviceid"), fields.text("checkid")
        demand_deregistration(self._catalog, call.caller.rights, node, ident, check)

        def write(draft: Draft) -> None:
            if ident:
                draft.remove_service(node, ident)
            elif check:
                draft.remove_check(node, check)
            else:
                draft.remove_node(draft.name_of(node))

        await self._writing.carry_out(write)
        return respond(json_body(True), {})

    def _check_datacenter(self, call: Call, fields: Fields) -> None:
        check_datacenter(call.target, self._parts.datacenter)
        demand_datacenter(fields, self._parts.datacenter)


def node_name(node: str) -> str:
    """Raises `Failure` 400."""
    if not node:
        raise Failure(400, "Must provide node")
    if len(node) > NAME_MAX or not node.isprintable():
        raise Failure(400, f"Invalid node name: use up to {NAME_MAX} printable characters")
    return node


def demand_datacenter(fields: Fields, datacenter: str) -> None:
    """Raise `Failure` for one that there is not."""
    asked = fields.text("datacenter")
    if asked and asked.lower() != datacenter.lower():
        raise Failure(500, "No path to datacenter")


def catalog_service(fields: Fields) -> ServiceBody:
    """Raises `Failure` 400."""
    return service_of(fields, _RULES)


def result_of(check: Fields) -> CheckResult:
    """What a check is said to have found. Raises `Failure` 400."""
    status = status_of(check.text("status") or "critical")
    return CheckResult(status=status, output=check.text("output")[:4096])


def _checks(fields: Fields) -> list[Fields]:
    found = [Fields(each, "checks") for each in fields.list("checks")]
    single = fields.fields("check")
    return [*found, single] if single else found


def _write_node(draft: Draft, node: str, fields: Fields) -> None:
    known = draft.told_of(node)
    if known is not None and fields.flag("skipnodeupdate"):
        return
    address = fields.text("address") or (known or {}).get("Address", "")
    if not address:
        raise Failure(400, "Must provide address if SkipNodeUpdate is not set")
    told = {
        "Address": address,
        "NodeMeta": fields.mapping("nodemeta"),
        "TaggedAddresses": fields.mapping("taggedaddresses"),
    }
    ident = fields.text("id")
    draft.put_node(node, {**told, "ID": ident} if ident else told)
