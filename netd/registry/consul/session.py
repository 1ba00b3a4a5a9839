"""`/v1/session/`: what locks are held by."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec.structs import replace

from netd.model.kv import NODE_CHECK, Behavior, Session, SessionListing, SessionSpec
from netd.registry.api import Refused
from netd.registry.catalog.catalog import Catalog
from netd.registry.consul import durations
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.fields import Fields, decoded
from netd.registry.consul.key_reading import KeyReads, failures
from netd.registry.consul.key_watch import Found, Target
from netd.registry.consul.keys_api import KeysApi
from netd.registry.consul.options import check_datacenter
from netd.registry.http.answers import Body, json_body, respond
from netd.registry.http.call import Call, Failure
from netd.registry.http.routing import Route

LOCK_DELAY_S: Final = 15.0
LOCK_DELAY_MAX_S: Final = 60.0  # longer ones are cut
_TTL_S: Final = (10.0, 86_400.0)
_NUMBER_IS_SECONDS: Final = 1000  # a lock delay below this is of seconds, else of nanoseconds
_BEHAVIORS: Final[dict[str, Behavior]] = {"": "release", "release": "release", "delete": "delete"}
_BODY_MAX: Final = 64 * 1024

Row = dict[str, Any]


class Sessions:
    """Answers by the daemon's API; `catalog` knows the checks of this host."""

    def __init__(self, api: KeysApi, reads: KeyReads, catalog: Catalog) -> None:
        self._api = api
        self._reads = reads
        self._checks = CheckNames(catalog)
        self._catalog = catalog

    def routes(self) -> Sequence[Route]:
        return (
            Route("/v1/session/create", {"PUT": self.create}),
            Route("/v1/session/destroy/", {"PUT": self.destroy}),
            Route("/v1/session/renew/", {"PUT": self.renew}),
            Route("/v1/session/info/", {"GET": self.info}),
            Route("/v1/session/node/", {"GET": self.node}),
            Route("/v1/session/list", {"GET": self.list}),
        )

    async def create(self, call: Call) -> web.StreamResponse:
        check_datacenter(call.target, self._reads.datacenter)
        body = await call.body(_BODY_MAX)
        fields = decoded(body) if body.strip() else Fields({})
        spec = spec_of(fields)
        node_checks = tuple(map(self._checks.to_daemon, spec.node_checks))
        service_checks = tuple(map(self._checks.to_daemon, spec.service_checks))
        node = spec.node or self._catalog.own_node
        call.caller.rights.demand("session", node, "write")
        spec = replace(spec, node=node, node_checks=node_checks, service_checks=service_checks)
        with failures():
            try:
                session = await self._api.create_session(spec)
            except Refused as refused:
                if refused.status == 400:  # Consul's own text for a node or check it has not
                    raise Failure(500, refused.detail) from None
                raise
        return respond(json_body({"ID": session.id}), {})

    async def destroy(self, call: Call) -> web.StreamResponse:
        check_datacenter(call.target, self._reads.datacenter)
        with failures():
            await self._demand_write(call)
            await self._api.destroy_session(call.rest)
        return respond(json_body(True), {})

    async def renew(self, call: Call) -> web.StreamResponse:
        check_datacenter(call.target, self._reads.datacenter)
        with failures():
            await self._demand_write(call)
            session = await self._api.renew_session(call.rest)
        if session is None:
            raise Failure(404, f"Session id '{call.rest}' not found")
        return respond(json_body([self._row(session)]), {})

    async def info(self, call: Call) -> web.StreamResponse:
        return await self._list(call, Target("session", call.rest))

    async def node(self, call: Call) -> web.StreamResponse:
        return await self._list(call, Target("sessions", call.rest))

    async def list(self, call: Call) -> web.StreamResponse:
        return await self._list(call, Target("sessions"))

    async def _list(self, call: Call, target: Target) -> web.StreamResponse:
        answered = await self._reads.answer(call, target)
        pretty, rights = answered.options.pretty, call.caller.rights

        def make(found: Found) -> Body:
            sight = Sight(rights)
            body = json_body(self._rows(found, sight), pretty=pretty)
            body.headers = sight.headers
            return body

        body = answered.reading.made(("sessions", pretty, rights.key), make)
        return respond(body, answered.headers, gzip_ok=call.takes_gzip)

    async def _demand_write(self, call: Call) -> None:
        """Raise `Failure` 403 unless the caller may write the session, if there is one."""
        rights = call.caller.rights
        if rights.checked:
            session = await self._api.session(call.rest)
            if session is not None:
                rights.demand("session", session.node, "write")

    def _rows(self, found: Found, sight: Sight) -> Sequence[Row]:
        assert isinstance(found, SessionListing)
        return [self._row(each) for each in found.sessions if sight.sees("session", each.node)]

    def _row(self, session: Session) -> Row:
        node_checks = [self._checks.to_consul(each) for each in session.node_checks]
        service_checks = [self._checks.to_consul(each) for each in session.service_checks]
        return {
            "ID": session.id,
            "Name": session.name,
            "Node": session.node,
            "LockDelay": round(session.lock_delay_s * 1e9),
            "Behavior": session.behavior,
            "TTL": durations.short_text_of(session.ttl_s) if session.ttl_s else "",
            "NodeChecks": node_checks,
            "ServiceChecks": [{"ID": each, "Namespace": ""} for each in service_checks] or None,
            "CreateIndex": session.create_index,
            "ModifyIndex": session.modify_index,
        }


class CheckNames:
    """What checks are called: by Consul's clients as they like, by the daemon INSTANCE/CHECK."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def to_daemon(self, name: str) -> str:
        """That of a check of this host's; as it is where there is none."""
        found = None if name == NODE_CHECK else self._catalog.find_check(name)
        return name if found is None else f"{found[0].id}/{found[1].id}"

    def to_consul(self, name: str) -> str:
        instance_id, slash, check_id = name.rpartition("/")
        instance = self._catalog.instance(instance_id) if slash else None
        if instance is not None:
            for check in instance.service.checks:
                if check.id == check_id:
                    return instance.check_ident(check)
        return name


def spec_of(fields: Fields) -> SessionSpec:
    """What is asked for. Raises `Failure`, 400 for what is no such object and 500 for one that
    cannot be, as Consul does.
    """
    behavior = _BEHAVIORS.get(fields.text("behavior"))
    if behavior is None:
        raise Failure(500, f"Invalid Behavior setting '{fields.text('Behavior')[:40]}'")
    node_checks: tuple[str, ...] = (NODE_CHECK,)
    if "nodechecks" in fields:
        node_checks = fields.texts("nodechecks")
    elif "checks" in fields:
        node_checks = fields.texts("checks")
    asked = {
        "name": fields.text("name"),
        "node": fields.text("node"),
        "lock_delay_s": _lock_delay_s(fields.raw("lockdelay")),
        "behavior": behavior,
        "ttl_s": _ttl_s(fields.text("ttl")),
        "node_checks": node_checks,
        "service_checks": tuple(
            Fields(each, "ServiceChecks").text("id") for each in fields.list("servicechecks")
        ),
    }
    try:
        return msgspec.convert(asked, SessionSpec)
    except msgspec.ValidationError as error:
        raise Failure(400, f"Request decode failed: {error}") from None


def _lock_delay_s(given: Any) -> float:
    if given is None:
        return LOCK_DELAY_S
    if isinstance(given, str):
        try:
            length_s = durations.seconds_of(given)
        except ValueError as error:
            raise Failure(400, f"Request decode failed: {error}") from None
    elif isinstance(given, int | float) and not isinstance(given, bool):
        length_s = float(given) if given < _NUMBER_IS_SECONDS else given / 1e9
    else:
        raise Failure(400, "Request decode failed: LockDelay is a duration or a number")
    if not length_s >= 0:
        raise Failure(400, "Request decode failed: LockDelay is negative")
    return min(length_s, LOCK_DELAY_MAX_S)


def _ttl_s(given: str) -> float:
    if not given:
        return 0.0
    try:
        ttl_s = durations.seconds_of(given)
    except ValueError as error:
        raise Failure(500, f"Session TTL '{given[:40]}' invalid: {error}") from None
    least_s, most_s = _TTL_S
    if ttl_s != 0 and not least_s <= ttl_s <= most_s:
        raise Failure(500, f"Invalid Session TTL '{given[:40]}', must be between [10s=24h0m0s]")
    return ttl_s
