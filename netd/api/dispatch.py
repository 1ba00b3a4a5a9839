"""The way of one HTTP request: who, where, what with, run, answer, count."""

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

import msgspec
from aiohttp import web

from netd.api import problems
from netd.api.auth import Access
from netd.api.call import NOTHING, Answer, Backend, Call, Nothing, Page, Push, Reply, Stream
from netd.api.connection import Connection
from netd.api.inputs import Input
from netd.api.limits import Limits
from netd.api.mutations import Mutations
from netd.api.problems import (
    BodyEncoded,
    BodyTooLarge,
    BodyTooSlow,
    Internal,
    MethodNotAllowed,
)
from netd.api.routing import AnyRoute, Router
from netd.api.streams import Streams
from netd.model.errors import Forbidden, Invalid, NetdError, NotFound, Unavailable

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# The id of the call that the current task works for; log formatters may show it.
REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")


class Dispatcher:
    """Answers requests by a table of routes. Never raises but for cancellation."""

    def __init__(self, routes: tuple[AnyRoute, ...], backend: Backend, limits: Limits) -> None:
        self.mutations = Mutations(limits.deadline_s)
        self.streams = Streams(limits)
        self._backend = backend
        self._limits = limits
        self._router = Router(routes)
        self._inputs: dict[type, Input[Any]] = {
            model: Input(model) for route in routes for model in (route.query, route.body)
        }
        self._ids = map(f"{secrets.token_hex(4)}-{{:x}}".format, itertools.count(1))

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        began_s = time.perf_counter()
        given_id = request.headers.get("X-Request-Id")
        usable = given_id is not None and _REQUEST_ID.fullmatch(given_id)
        request_id = given_id if given_id is not None and usable else next(self._ids)
        REQUEST_ID.set(request_id)
        headers = {"X-Request-Id": request_id, "Server": "netd"}
        route: AnyRoute | None = None
        streamed = False
        response: web.StreamResponse
        try:
            route, path = self._route(request)
            answer = await self._answer(request, route, path)
            if isinstance(answer, Stream):
                streamed = True
                response = await self.streams.send(request, answer.values, headers)
            elif isinstance(answer, Push):
                streamed = True
                response = await self.streams.push(request, answer.source, headers)
            else:
                response = _response(answer, headers)
        except NetdError as error:
            response = _refusal(error, headers)
        except Exception:
            log.exception("%s %s failed [%s]", request.method, request.path, request_id)
            detail = f"netd's log has the traceback under {request_id}"
            response = _refusal(Internal(detail), headers)
        self._backend.metrics.count(
            route.method if route else "other",
            route.path if route else "unknown",
            response.status,
            None if streamed else time.perf_counter() - began_s,
        )
        return response

    def _route(self, request: web.BaseRequest) -> tuple[AnyRoute, Mapping[str, str]]:
        connection = request.protocol
        if not isinstance(connection, Connection) or connection.access is Access.NOTHING:
            raise _forbidden(request, "call netd")
        raw_path = request.rel_url.raw_path
        methods, path = self._router.find(raw_path)
        if not methods:
            asked = raw_path[:200] or "such path"
            raise NotFound(f"there is no {asked}; /v1/openapi.json lists what there is")
        route = methods.get(request.method)
        if route is None:
            raise MethodNotAllowed(request.method, methods)
        if connection.access < route.access:
            raise _forbidden(request, "change this")
        return route, path

    async def _answer(
        self, request: web.BaseRequest, route: AnyRoute, path: Mapping[str, str]
    ) -> Answer:
        asked = request.rel_url.raw_query_string
        no_query = route.query is Nothing and not asked
        query = NOTHING if no_query else self._inputs[route.query].from_query(asked)
        body = await self._body(request, route)
        work = route.handler(Call(self._backend, path, query, body))
        if route.access > Access.READ:
            return await self.mutations.run(f"{route.method} {route.path}", work)
        try:
            async with asyncio.timeout(self._limits.deadline_s):
                return await work
        except TimeoutError:
            raise Unavailable(f"no answer within {self._limits.deadline_s:g} s") from None

    async def _body(self, request: web.BaseRequest, route: AnyRoute) -> object:
        if route.body is Nothing and not request.can_read_body:
            return NOTHING
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise BodyEncoded("send the body as it is, without Content-Encoding")
        limit = self._limits.body_bytes
        too_large = BodyTooLarge(f"the body has more than {limit} bytes")
        if (request.content_length or 0) > limit:
            raise too_large
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        try:
            async with asyncio.timeout(self._limits.deadline_s):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise too_large from None
        except web.RequestPayloadError as error:
            raise Invalid(f"the body's transfer coding is malformed: {error}") from None
        except TimeoutError:
            raise BodyTooSlow(f"no whole body within {self._limits.deadline_s:g} s") from None
        return self._inputs[route.body].from_json(body)


def _forbidden(request: web.BaseRequest, what: str) -> Forbidden:
    uid = getattr(getattr(request.protocol, "peer", None), "uid", "?")
    return Forbidden(
        f"user id {uid} may not {what}: root and members of netd's group may do everything, "
        "members of its view group may read, the registry's user may also change services"
    )


def _response(answer: Answer, headers: dict[str, str]) -> web.Response:
    if isinstance(answer, Page):
        headers["Content-Type"] = answer.media_type
        return web.Response(body=answer.body, headers=headers)
    assert isinstance(answer, Reply)
    if answer.value is None:
        return web.Response(status=answer.status, headers=headers)
    headers["Content-Type"] = "application/json"
    return web.Response(status=answer.status, body=_encode(answer.value), headers=headers)


def _refusal(error: NetdError, headers: dict[str, str]) -> web.Response:
    headers["Content-Type"] = problems.MEDIA_TYPE
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.allow
    problem = problems.problem_of(error)
    return web.Response(status=problem.status, body=_encode(problem), headers=headers)
