"""`/v1/query`: prepared queries, made, shown and carried out."""

import uuid
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from msgspec.structs import replace

from netd.model.kv import KeyReading
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.fields import Fields, decoded
from netd.registry.consul.key_reading import KeyReads, failures
from netd.registry.consul.options import check_datacenter, flag, is_pretty, options_of
from netd.registry.consul.query_names import check, find, is_id
from netd.registry.consul.query_selection import Instances, chosen
from netd.registry.consul.query_spec import Query, query_of
from netd.registry.consul.query_store import KEY, Queries, QueryStore, queries_of
from netd.registry.consul.reads import headers_of
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import Call, Failure
from netd.registry.http.rights import Access, Rights
from netd.registry.http.routing import Route

_BODY_MAX: Final = 64 * 1024
_EXECUTE: Final = "/execute"
_EXPLAIN: Final = "/explain"
_HIDDEN: Final = "<hidden>"


class PreparedQueries:
    """`reads` is of keys, `instances` finds those of a service."""

    def __init__(self, store: QueryStore, reads: KeyReads, instances: Instances) -> None:
        self._store = store
        self._reads = reads
        self._instances = instances
        self._datacenter = reads.datacenter

    def routes(self) -> Sequence[Route]:
        return (
            Route("/v1/query", {"GET": self.list, "POST": self.create}),
            Route("/v1/query/", {"GET": self.get, "PUT": self.update, "DELETE": self.delete}),
        )

    async def create(self, call: Call) -> web.StreamResponse:
        check_datacenter(call.target, self._datacenter)
        fields = decoded(await call.body(_BODY_MAX))
        rights = call.caller.rights
        query = await self._asked(fields, str(uuid.uuid4()), rights)

        def change(queries: Queries) -> Queries:
            _check_name(query, queries)
            return (*queries, query)

        with failures():
            await self._store.change(change)
        return respond(json_body({"ID": query.id}, pretty=is_pretty(call.target)), {})

    async def update(self, call: Call) -> web.StreamResponse:
        check_datacenter(call.target, self._datacenter)
        rights = call.caller.rights
        query = await self._asked(decoded(await call.body(_BODY_MAX)), call.rest.lower(), rights)

        def change(queries: Queries) -> Queries:
            before = _with_id(queries, query.id)
            _demand(rights, before, "write")
            others = tuple(each for each in queries if each.id != query.id)
            _check_name(query, others)
            new = replace(query, create_index=before.create_index)
            same = replace(new, modify_index=before.modify_index) == before
            return queries if same else (*others, new)

        with failures():
            await self._store.change(change)
        return web.Response()

    async def delete(self, call: Call) -> web.StreamResponse:
        check_datacenter(call.target, self._datacenter)

        def change(queries: Queries) -> Queries:
            gone = _with_id(queries, call.rest.lower())
            _demand(call.caller.rights, gone, "write")
            return tuple(each for each in queries if each.id != gone.id)

        with failures():
            await self._store.change(change)
        return web.Response()

    async def list(self, call: Call) -> web.StreamResponse:
        return await self._shown(call)

    async def get(self, call: Call) -> web.StreamResponse:
        if call.rest.endswith(_EXECUTE):
            return await self._execute(call, call.rest.removesuffix(_EXECUTE))
        if call.rest.endswith(_EXPLAIN):
            return await self._explain(call, call.rest.removesuffix(_EXPLAIN))
        return await self._shown(call)

    async def _shown(self, call: Call) -> web.StreamResponse:
        answered = await self._reads.answer(call, KEY)
        found = answered.reading.found
        assert isinstance(found, KeyReading)
        with failures():
            queries = await self._store.living(queries_of(found.entry))
        rights = call.caller.rights
        sight = Sight(rights)
        if call.rest:
            queries = tuple(each for each in queries if each.id == call.rest.lower())
            if not queries:
                raise Failure(404, "Query not found", answered.headers)
            _demand(rights, queries[0], "read")
        elif not rights.may("acl", "", "write"):
            queries = tuple(
                each for each in queries if _is_named(each) and sight.sees("query", each.name)
            )
        if rights.checked:
            queries = tuple(replace(each, token=_HIDDEN if each.token else "") for each in queries)
        body = json_body(queries, pretty=answered.options.pretty)
        headers = {**answered.headers, **sight.headers}
        return respond(body, headers, gzip_ok=call.takes_gzip)

    async def _explain(self, call: Call, asked: str) -> web.StreamResponse:
        options = options_of(call.target, self._datacenter)
        query = await self._found(asked)
        _demand(call.caller.rights, query, "read")
        if call.caller.rights.checked and query.token:
            query = replace(query, token=_HIDDEN)
        body = json_body({"Query": query}, pretty=options.pretty)
        return respond(body, headers_of(options, query.modify_index))

    async def _execute(self, call: Call, asked: str) -> web.StreamResponse:
        options = options_of(call.target, self._datacenter)
        limit = _limit(call.target.first("limit"))
        query = await self._found(asked)
        connect = query.service.connect or flag(call.target, "connect")
        rows = []
        sight = Sight(call.caller.rights)
        if not connect:  # there is no mesh, and nothing that would be reached by one
            rows = chosen(self._instances, query.service, options, call.caller.scope, sight)
        answer = {
            "Service": query.service.service,
            "Nodes": rows[:limit] if limit else rows,
            "DNS": query.dns,
            "Datacenter": self._datacenter,
            "Failovers": 0,
        }
        body = json_body(answer, pretty=options.pretty)
        headers = headers_of(options, query.modify_index) | sight.headers
        return respond(body, headers, gzip_ok=call.takes_gzip)

    async def _found(self, asked: str) -> Query:
        with failures():
            queries = await self._store.all()
        query = find(queries, asked)
        if query is None:
            raise Failure(404, "Query not found")
        return query

    async def _asked(self, fields: Fields, query_id: str, rights: Rights) -> Query:
        query = query_of(fields, query_id)
        check(query)
        _demand(rights, query, "write")
        if query.token and rights.checked:
            raise Failure(400, "Token is not kept with a query: who executes it shows one")
        if query.session:
            with failures():
                if not await self._store.has_session(query.session):
                    raise Failure(500, f"invalid session {query.session[:80]!r}")
        return query


def _with_id(queries: Queries, query_id: str) -> Query:
    for query in queries:
        if query.id == query_id:
            return query
    raise Failure(500, f"Cannot modify non-existent prepared query: '{query_id[:80]}'")


def _check_name(query: Query, others: Queries) -> None:
    """No two queries answer to one name, and none to the id of another. Raises `Failure`."""
    name = query.name.lower()
    if is_id(name):
        raise Failure(500, f"name '{query.name}' aliases an existing query")
    for other in others:
        same = other.name.lower() == name and (name or (other.is_template and query.is_template))
        if same and query.is_template and other.is_template:
            raise Failure(500, f"query template with name '{query.name}' already exists")
        if same:
            raise Failure(500, f"name '{query.name}' aliases an existing query name")


def _is_named(query: Query) -> bool:
    """Rules are about names. A query without one is for whoever knows its id."""
    return bool(query.name) or query.is_template


def _demand(rights: Rights, query: Query, access: Access) -> None:
    """Raise `Failure` 403 unless the caller may have this of a query."""
    if _is_named(query):
        rights.demand("query", query.name, access)


def _limit(text: str) -> int:
    """0: no limit."""
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise Failure(400, f"Failed to parse limit: {text[:40]!r} is no number")
    return int(text)
