"""`/v1/event/`: firing events, and listing the last ones."""

import random
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.events import PAYLOAD_MAX, Event, Events, index_of
from netd.registry.consul.options import check_datacenter, is_pretty, options_of
from netd.registry.consul.reads import headers_of
from netd.registry.consul.regexps import BadPattern
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import Call, Failure
from netd.registry.http.routing import Route

NAME_MAX: Final = 256
_SPREAD: Final = 16  # a wait may be longer by a part of this, so that not all end at once


class EventCalls:
    def __init__(self, events: Events, datacenter: str) -> None:
        self._events = events
        self._datacenter = datacenter

    def routes(self) -> Sequence[Route]:
        return (
            # Some send it with POST.
            Route("/v1/event/fire/", {"PUT": self.fire, "POST": self.fire}),
            Route("/v1/event/list", {"GET": self.list}),
        )

    async def fire(self, call: Call) -> web.StreamResponse:
        target = call.target
        check_datacenter(target, self._datacenter)
        name = call.rest
        if name.startswith("_") or len(name) > NAME_MAX:
            raise Failure(400, f"Invalid event name {name[:40]!r}: it begins with '_', or is long")
        call.caller.rights.demand("event", name, "write")
        service, tag = target.first("service"), target.first("tag")
        if tag and not service:
            raise Failure(400, "Cannot provide tag filter without service filter")
        asked = Event(
            id="",
            name=name,
            payload=await call.body(PAYLOAD_MAX) or None,
            node_filter=target.first("node"),
            service_filter=service,
            tag_filter=tag,
        )
        try:
            fired = await self._events.fire(asked)
        except BadPattern as error:
            raise Failure(400, f"Invalid filter: {error}") from None
        return respond(json_body(fired, pretty=is_pretty(target)), {})

    async def list(self, call: Call) -> web.StreamResponse:
        options = options_of(call.target, self._datacenter)
        name = call.target.first("name")
        # The random part needs not be one that nobody could guess.
        wait_s = options.wait_s * (1 + random.random() / _SPREAD)  # noqa: S311
        found = await self._events.wait(name, options.after, wait_s)
        if options.after:
            call.renew()
        sight = Sight(call.caller.rights)
        headers = headers_of(options, index_of(found))
        found = [each for each in found if sight.sees("event", each.name)]
        headers |= sight.headers
        return respond(json_body(found, pretty=options.pretty), headers, gzip_ok=call.takes_gzip)
