"""Eureka's paths: what is asked for, and of which form the answer is to be.

The base is /eureka or /eureka/v2, or any other version; a slash at the end changes nothing.
Segments are decoded one by one, as an id may have any character.
"""

import re
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final
from urllib.parse import unquote

import msgspec
from aiohttp import web
from msgspec.structs import replace

from netd.model.directory import Count
from netd.registry.eureka import json_form, page, xml_reading
from netd.registry.eureka.answers import Answers, Form, pack
from netd.registry.eureka.instances import STATUSES, UNKNOWN, Instance, Malformed, status_of
from netd.registry.eureka.leases import Leases, Older
from netd.registry.eureka.replication import do, items_of
from netd.registry.eureka.seen import Seen
from netd.registry.eureka.view import View
from netd.registry.http.answers import Body, respond
from netd.registry.http.call import Call, Failure
from netd.registry.http.caller import Caller
from netd.registry.http.routing import Route, Routes

INSTANCE_MAX: Final = 128 * 1024  # bytes of a registration
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024

_VERSION: Final = re.compile(r"v[0-9]+\Z")
_REPLICATION: Final = "x-netflix-discovery-replication"
_ANY: Final = "*"

_Handler = Callable[[Call, tuple[str, ...]], Awaitable[web.StreamResponse]]
_Methods = Mapping[str, _Handler]


class Paths:
    """The handlers of all paths, and `routes` that lead to them. `charge` counts a call as so many
    more.
    """

    def __init__(self, view: View, leases: Leases, charge: Callable[[Caller, int], None]) -> None:
        self._view = view
        self._leases = leases
        self._charge = charge
        self._answers = Answers(view)
        methods = ("GET", "POST", "PUT", "DELETE")
        self.routes = Routes([Route("/", dict.fromkeys(methods, self.answer), bare=True)])
        instance = ("apps", _ANY, _ANY)
        self._at: dict[tuple[str, ...], _Methods] = {
            ("apps",): {"GET": self._all},
            ("apps", "delta"): {"GET": self._delta},
            ("apps", _ANY): {"GET": self._application, "POST": self._register},
            instance: {"GET": self._instance, "PUT": self._renew, "DELETE": self._cancel},
            (*instance, "status"): {"PUT": self._set_status, "DELETE": self._clear_status},
            (*instance, "metadata"): {"PUT": self._add_metadata},
            ("instances", _ANY): {"GET": self._by_id},
            ("vips", _ANY): {"GET": self._vip},
            ("svips", _ANY): {"GET": self._secure_vip},
            ("peerreplication", "batch"): {"POST": self._batch},
            ("status",): {"GET": self._status},
            ("serverinfo",): {"GET": self._status},
            ("lastn",): {"GET": self._page},
            (): {"GET": self._page},
        }

    async def answer(self, call: Call) -> web.StreamResponse:
        """Raises `Failure` for what is no path of Eureka's, and for all that goes wrong."""
        segments = _segments(call.target.raw)
        found = self._find(segments)
        if found is None:
            raise Failure(404, "")
        method = "GET" if call.method == "HEAD" else call.method
        handler = found.get(method)
        if handler is None:
            raise Failure(405, "", {"Allow": ",".join(found)})
        if method == "GET" and not self._view.ready:
            raise Failure(503, "the registry has not heard of the daemon yet")
        try:
            return await handler(call, segments)
        except Malformed as error:
            raise Failure(400, str(error)) from None
        except Older as older:
            body = self._answers.instance(older.instance, _form(call))
            return _respond(call, body, status=409)

    def counts(self) -> Iterator[Count]:
        yield Count(name="eureka_instances", value=len(self._view))
        yield Count(name="eureka_changes", value=len(self._view.changes))
        yield Count(name="eureka_changes_forgotten_total", value=self._view.changes.forgotten)
        yield Count(name="eureka_kept_bytes", value=self._answers.size)
        yield Count(name="eureka_handovers_waiting", value=self._leases.handovers)
        yield Count(name="eureka_handovers_total", value=self._leases.handed_over)

    def _find(self, segments: tuple[str, ...]) -> _Methods | None:
        known = self._at.get(segments)
        if known is not None or len(segments) < 2:
            return known
        pattern = (segments[0], *(_ANY for _ in segments[1:3]), *segments[3:])
        return self._at.get(pattern)

    # Reading

    async def _all(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        body = await self._answers.all(call.caller.scope, _form(call))
        return await _packed(call, body)

    async def _delta(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        body = await self._answers.delta(call.caller.scope, _form(call))
        return await _packed(call, body)

    async def _application(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        body = await self._answers.application(segments[1], call.caller.scope, _form(call))
        return await _packed(call, body)

    async def _vip(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        return await self._of_vip(call, segments[1], secure=False)

    async def _secure_vip(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        return await self._of_vip(call, segments[1], secure=True)

    async def _of_vip(self, call: Call, vip: str, *, secure: bool) -> web.StreamResponse:
        scope = call.caller.scope
        body = await self._answers.of_vip(vip, scope, _form(call), secure=secure)
        return await _packed(call, body)

    async def _instance(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        _, app, instance_id = segments
        return self._one(call, self._view.instance(app, instance_id, call.caller.scope))

    async def _by_id(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        return self._one(call, self._view.by_id(segments[1], call.caller.scope))

    def _one(self, call: Call, seen: Seen | None) -> web.StreamResponse:
        if seen is None or seen.instance is None:
            raise Failure(404, "")
        instance = seen.instance
        renewed_ms = self._leases.renewed_ms(seen)
        if renewed_ms > instance.lease.renewed_ms:
            instance = replace(instance, lease=replace(instance.lease, renewed_ms=renewed_ms))
        return _respond(call, self._answers.instance(instance, _form(call)))

    async def _status(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        if _form(call).name == "json":
            return _respond(
                call, Body(msgspec.json.encode(page.summary(self._view, call.caller.scope)))
            )
        return _respond(
            call, Body(page.summary_xml(self._view, call.caller.scope), "application/xml")
        )

    async def _page(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        found = page.page(self._view, call.caller.scope)
        headers = {"Content-Security-Policy": page.POLICY, "X-Content-Type-Options": "nosniff"}
        return respond(Body(found, "text/html; charset=utf-8"), headers, gzip_ok=call.takes_gzip)

    # Writing

    async def _register(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        data = await _body(call, INSTANCE_MAX)
        instance = _read(call, data)
        await self._leases.register(
            instance, segments[1], call.caller, replicated=_is_replication(call)
        )
        return web.Response(status=204)

    async def _renew(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        await self._leases.renew(
            _key(segments),
            call.caller,
            dirty_ms=_stamp(call.target.first("lastDirtyTimestamp")),
            override=status_of(call.target.first("overriddenstatus"), UNKNOWN),
            replicated=_is_replication(call),
        )
        return web.Response(status=200)

    async def _cancel(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        await self._leases.cancel(_key(segments), call.caller)
        return web.Response(status=200)

    async def _set_status(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        status = call.target.first("value").upper()
        if status not in STATUSES:
            raise Failure(400, f"value is to be one of {', '.join(sorted(STATUSES))}")
        await self._leases.set_status(_key(segments), status, call.caller)
        return web.Response(status=200)

    async def _clear_status(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        status = call.target.first("value").upper()
        if status and status not in STATUSES:
            raise Failure(400, f"value is to be one of {', '.join(sorted(STATUSES))}")
        given = "" if status == UNKNOWN else status
        await self._leases.clear_status(_key(segments), given, call.caller)
        return web.Response(status=200)

    async def _add_metadata(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        more = {name: values[-1] for name, values in call.target.parameters.items()}
        await self._leases.add_metadata(_key(segments), more, call.caller)
        return web.Response(status=200)

    async def _batch(self, call: Call, segments: tuple[str, ...]) -> web.StreamResponse:
        items = items_of(json_form.read(await _body(call, BATCH_BYTES_MAX)))
        self._charge(call.caller, max(0, len(items) - 1))
        answer = await do(items, self._leases, call.caller)
        return _respond(call, Body(msgspec.json.encode(answer)))


# What calls say


def _segments(raw: str) -> tuple[str, ...]:
    """Of the path, without the base. Raises `Failure` for a path outside of it."""
    parts = raw.partition("?")[0].partition("#")[0].split("/")[1:]
    segments = [unquote(part, errors="replace") for part in parts]
    while segments and not segments[-1]:
        segments.pop()
    if segments in ([], ["lastn"]):
        return tuple(segments)
    if segments[0] != "eureka":
        raise Failure(404, "")
    rest = segments[1:]
    if rest and _VERSION.match(rest[0]):
        rest = rest[1:]
    return tuple(rest)


def _key(segments: tuple[str, ...]) -> tuple[str, str]:
    return segments[1].upper(), segments[2]


def _form(call: Call) -> Form:
    """JSON for who asks for it, XML for all others."""
    name = "json" if "json" in call.header("Accept").lower() else "xml"
    return Form(name, call.header("X-Eureka-Accept").strip().lower() == "compact")


def _is_replication(call: Call) -> bool:
    return call.header(_REPLICATION).strip().lower() == "true"


def _stamp(text: str) -> int | None:
    """None for what is none, as for "null", which some clients send."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _read(call: Call, data: bytes) -> Instance:
    """By what the client says that it is, or else by how it begins."""
    kind = call.header("Content-Type").lower()
    is_xml = "xml" in kind or ("json" not in kind and data.lstrip()[:1] == b"<")
    return xml_reading.read_instance(data) if is_xml else json_form.read_instance(data)


async def _body(call: Call, most: int) -> bytes:
    data = await call.body(most)
    if call.header("Content-Encoding").strip().lower() != "gzip":
        return data
    unpacking = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = unpacking.decompress(data, most + 1)
    except zlib.error as error:
        raise Failure(400, f"the body is not packed with gzip: {error}") from None
    if len(found) > most:
        raise Failure(413, f"Request body too large, max size: {most} bytes.")
    if not unpacking.eof:
        raise Failure(400, "the body breaks off")
    return found


# Answers


async def _packed(call: Call, body: Body | None) -> web.StreamResponse:
    if body is None:
        raise Failure(404, "")
    if call.takes_gzip:
        await pack(body)
    return _respond(call, body)


def _respond(call: Call, body: Body, *, status: int = 200) -> web.StreamResponse:
    return respond(body, {}, status=status, gzip_ok=call.takes_gzip)
