"""Reads: answered from what is kept, waiting for a change if that is asked for."""

import asyncio
import random
from collections.abc import Callable, Hashable
from typing import Any, Final

from aiohttp import web

from netd.registry.catalog.catalog import Catalog
from netd.registry.catalog.kept import Kept
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.options import Options, options_of
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import Call

_SPREAD: Final = 16  # a wait may be longer by a part of this, so that not all end at once
_OPTIONS_MAX: Final = 4096

# Answers so large take milliseconds to make, while names wait: changes are gathered for a while
# before one is made again for those who wait for it. Others are made at once.
LARGE_MIN: Final = 256 * 1024  # bytes
_GATHER_S: Final = 0.05  # and as much again for each further MiB
_GATHER_MAX_S: Final = 0.3
_LARGE_MAX: Final = 1024  # such questions that are known

Make = Callable[[Options, Sight], Any]


class Reads:
    """`near` orders: an answer with it may change without anything registered changing."""

    def __init__(self, catalog: Catalog, kept: Kept, datacenter: str) -> None:
        self.catalog = catalog
        self.datacenter = datacenter
        self._kept = kept
        self._known: dict[str, Options] = {}
        self._large: dict[Hashable, int] = {}  # bytes of such answers as they were last

    def options(self, call: Call) -> Options:
        """Raises `Failure` for what Consul refuses."""
        raw = call.target.raw
        found = self._known.get(raw)
        if found is None:
            found = options_of(call.target, self.datacenter)
            if call.target.may_be_remembered:
                if len(self._known) >= _OPTIONS_MAX:
                    self._known.clear()
                self._known[raw] = found
        return found

    async def answer(self, call: Call, topic: str, make: Make) -> web.Response:
        """What `make` makes, as JSON; it depends on the question, on who asks and on `topic`."""
        options = self.options(call)
        indexes = self.catalog.indexes
        index = indexes.of(topic)
        key = _key(call, options)
        if index == options.after:
            # The random part needs not be one that nobody could guess.
            wait_s = options.wait_s * (1 + random.random() / _SPREAD)  # noqa: S311
            index = await indexes.wait(topic, options.after, wait_s)
            if index != options.after and key in self._large:
                await asyncio.sleep(gather_s(self._large[key]))
                index = indexes.of(topic)
            call.renew()
            key = _key(call, options)
        body = self._kept.get(key, index)
        if body is None:
            sight = Sight(call.caller.rights)
            body = json_body(make(options, sight), pretty=options.pretty)
            body.headers = sight.headers
            self._note_size(key, len(body.plain))
            if not options.near:
                self._kept.put(key, index, body)
        return respond(body, headers_of(options, index), gzip_ok=call.takes_gzip)

    def _note_size(self, key: Hashable, size: int) -> None:
        self._large.pop(key, None)
        if size >= LARGE_MIN:
            if len(self._large) >= _LARGE_MAX:
                self._large.clear()
            self._large[key] = size

    def plain(
        self, call: Call, value: Any, index: int = 1, sight: Sight | None = None
    ) -> web.Response:
        """An answer that nobody waits for; `sight` is what it was seen by."""
        options = self.options(call)
        body = json_body(value, pretty=options.pretty)
        headers = headers_of(options, index) | ({} if sight is None else sight.headers)
        return respond(body, headers, gzip_ok=call.takes_gzip)


def _key(call: Call, options: Options) -> Hashable:
    """All that an answer depends on, beside the catalogue."""
    caller = call.caller
    return call.target.path, options.key, caller.scope, caller.rights.key


def gather_s(size: int) -> float:
    """How long changes are gathered before an answer of so many bytes is made again."""
    return min(_GATHER_MAX_S, _GATHER_S * (1 + size // 2**20))


def headers_of(options: Options, index: int) -> dict[str, str]:
    """Of every read. The index is never 0: a client would ask again at once, for ever."""
    headers = {
        "X-Consul-Index": str(max(1, index)),
        "X-Consul-KnownLeader": "true",
        "X-Consul-LastContact": "0",
        "X-Consul-Effective-Consistency": options.consistency,
        "X-Consul-Query-Backend": "blocking-query",
    }
    if options.cached:
        headers["X-Cache"] = "MISS"
        headers["Age"] = "0"
    return headers
