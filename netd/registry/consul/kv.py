"""`/v1/kv/`: keys with values, and locks on them."""

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import unquote, urlencode

from aiohttp import web
from msgspec.structs import replace

from netd.model.kv import FLAGS_MAX, VALUE_MAX_BYTES, KeyListing, KeyReading, Operation
from netd.registry.consul import reserved
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.key_reading import Answered, KeyReads, failures
from netd.registry.consul.key_watch import Found, Target
from netd.registry.consul.keys_api import KeysApi
from netd.registry.consul.options import check_datacenter
from netd.registry.consul.pairs import Pair, pair_of, pairs_of
from netd.registry.http.answers import Body, json_body, respond, text
from netd.registry.http.call import Call, Failure
from netd.registry.http.routing import Route

Shown = Callable[[Found, Sight], list[Pair] | list[str]]

PATH: Final = "/v1/kv/"
_CAS_MAX: Final = 2**63 - 1
# A value is what somebody else has written: a browser must not take it for a page.
_RAW_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox",
}


class Kv:
    """Answers by the daemon's API."""

    def __init__(self, api: KeysApi, reads: KeyReads) -> None:
        self._api = api
        self._reads = reads

    def routes(self) -> Sequence[Route]:
        methods = {"GET": self.get, "PUT": self.put, "DELETE": self.delete}
        return (Route(PATH, methods, bare=True),)

    async def get(self, call: Call) -> web.StreamResponse:
        key = _key(call)
        if call.target.has("keys"):
            return await self._names(call, key)
        if call.target.has("recurse"):
            return await self._entries(call, key)
        if not key:
            raise Failure(400, "Missing key name")
        call.caller.rights.demand("key", key, "read")
        wanted = reserved.NOBODYS if reserved.is_reserved(key) else key
        answered = await self._reads.answer(call, Target("key", wanted))
        call.caller.rights.demand("key", key, "read")
        found = answered.reading.found
        assert isinstance(found, KeyReading)
        if found.entry is None:
            return text(404, "", answered.headers)
        if call.target.has("raw"):
            return _raw(answered, found.entry.value)
        return _json(call, answered, _one)

    async def put(self, call: Call) -> web.StreamResponse:
        key = _key(call)
        target = call.target
        check_datacenter(target, self._reads.datacenter)
        if not key:
            raise Failure(400, "Missing key name")
        call.caller.rights.demand("key", key, "write")
        _check_conflict(call, "cas", "acquire", "release")
        operation = Operation(verb="set", key=key, flags=_number(call, "flags", FLAGS_MAX))
        if target.has("cas"):
            operation = replace(operation, verb="cas", index=_number(call, "cas", _CAS_MAX))
        elif target.has("acquire"):
            operation = replace(operation, verb="lock", session=target.first("acquire"))
        elif target.has("release"):
            operation = replace(operation, verb="unlock", session=target.first("release"))
        value = await call.body(VALUE_MAX_BYTES)
        return await self._change(replace(operation, value=value))

    async def delete(self, call: Call) -> web.StreamResponse:
        key = _key(call)
        target = call.target
        check_datacenter(target, self._reads.datacenter)
        _check_conflict(call, "recurse", "cas")
        if target.has("recurse"):
            call.caller.rights.demand_write_all(key)
            return await self._change(Operation(verb="delete-tree", key=key))
        if not key:
            raise Failure(400, "Missing key name")
        call.caller.rights.demand("key", key, "write")
        if target.has("cas"):
            index = _number(call, "cas", _CAS_MAX)
            return await self._change(Operation(verb="delete-cas", key=key, index=index))
        return await self._change(Operation(verb="delete", key=key))

    async def _change(self, operation: Operation) -> web.StreamResponse:
        with failures():
            outcome = await reserved.transact(self._api, (operation,))
        for failure in outcome.failures:
            if failure.fault == "no-session":
                raise Failure(500, f"invalid session {operation.session!r}")
            if failure.fault == "other":
                raise Failure(403, failure.detail)
        return respond(_FALSE if outcome.failures else _TRUE, {})

    async def _entries(self, call: Call, prefix: str) -> web.StreamResponse:
        if reserved.is_reserved(prefix):
            prefix = reserved.NOBODYS
        answered = await self._reads.answer(call, Target("entries", prefix))
        return _json(call, answered, _several, nothing_is_404=True)

    async def _names(self, call: Call, prefix: str) -> web.StreamResponse:
        # Clients of the first versions misspell it.
        separator = call.target.first("separator") or call.target.first("seperator")
        if reserved.is_reserved(prefix):
            prefix = reserved.NOBODYS
        answered = await self._reads.answer(call, Target("names", prefix, separator))
        return _json(call, answered, _names, nothing_is_404=bool(prefix))


def _key(call: Call) -> str:
    """The key, all of what follows in the path. Raises `Failure` for what is not UTF-8."""
    raw = call.target.raw.partition("?")[0]
    at = raw.find(PATH)
    try:
        return unquote(raw[at + len(PATH) :], errors="strict") if at >= 0 else call.rest
    except UnicodeDecodeError:
        raise Failure(400, "Invalid key name: it is not UTF-8") from None


def _number(call: Call, name: str, most: int) -> int:
    """A parameter, 0 where it is not there."""
    given = call.target.first(name)
    if not call.target.has(name):
        return 0
    digits = given.isascii() and given.isdecimal() and len(given) <= 20
    if not digits or int(given) > most:
        raise Failure(400, f"Invalid {name}: {given[:40]!r} is no number of 0 to {most}")
    return int(given)


def _check_conflict(call: Call, *names: str) -> None:
    given = {name: call.target.first(name) for name in names if call.target.has(name)}
    if len(given) > 1:
        raise Failure(400, f"Conflicting flags: {urlencode(given)}")


def _raw(answered: Answered, value: bytes) -> web.StreamResponse:
    return respond(Body(value, "text/plain"), {**answered.headers, **_RAW_HEADERS})


# What is shown of what was found.


def _one(found: Found, sight: Sight) -> list[Pair]:
    assert isinstance(found, KeyReading)
    return [] if found.entry is None else [pair_of(found.entry)]


def _several(found: Found, sight: Sight) -> list[Pair]:
    assert isinstance(found, KeyListing)
    entries = reserved.seen(found.entries)
    return pairs_of(entry for entry in entries if sight.sees("key", entry.key))


def _names(found: Found, sight: Sight) -> list[str]:
    assert isinstance(found, KeyListing)
    names = (key for key in found.keys if not reserved.is_reserved(key))
    return [key for key in names if sight.sees("key", key)]


def _json(
    call: Call, answered: Answered, shown: Shown, *, nothing_is_404: bool = False
) -> web.StreamResponse:
    pretty, rights = answered.options.pretty, call.caller.rights

    def make(found: Found) -> Body:
        sight = Sight(rights)
        body = json_body(shown(found, sight), pretty=pretty)
        body.headers = sight.headers
        return body

    body = answered.reading.made((shown, pretty, rights.key), make)
    if nothing_is_404 and len(body.plain) <= len(_NOTHING) and body.plain.strip() == b"[]":
        return text(404, "", {**answered.headers, **body.headers})
    return respond(body, answered.headers, gzip_ok=call.takes_gzip)


_TRUE: Final = json_body(True)
_FALSE: Final = json_body(False)
_NOTHING: Final = json_body([], pretty=True).plain
