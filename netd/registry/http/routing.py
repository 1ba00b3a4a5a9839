"""Routes: which call is answered by what."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NamedTuple

from aiohttp import web

from netd.registry.http.call import Call, Failure

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_DEPTH_MAX: Final = 8  # segments of a path that may be a route's own


class Route(NamedTuple):
    """A path, and what answers it by method.

    A path that ends with "/" has all that begins so and has no route of its own; what follows is
    the call's `rest`, which is not empty unless the route may be `bare`.
    """

    path: str
    methods: Mapping[str, Handler]
    bare: bool = False


class Routes:
    """All routes of one API. Two of one path are an error."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._at: dict[str, Route] = {}
        for route in routes:
            if route.path in self._at:
                raise ValueError(f"two routes for {route.path}")
            self._at[route.path] = route

    def find(self, path: str) -> tuple[Route, str] | None:
        """The route of a path, and what follows in it after the route's own."""
        route = self._at.get(path)
        if route is not None and (route.bare or not path.endswith("/")):
            return route, ""
        # No route has more segments; paths may have thousands.
        ends = [0]
        while len(ends) <= _DEPTH_MAX and (end := path.find("/", ends[-1]) + 1):
            ends.append(end)
        for end in reversed(ends[1:]):
            route = self._at.get(path[:end])
            if route is not None and end < len(path):
                return route, path[end:]
        return None

    def allow(self, route: Route) -> str:
        """The header `Allow`."""
        return ",".join(("OPTIONS", *route.methods))


def handler_of(routes: Routes, call: Call) -> Handler:
    """What answers a call; sets its `rest`. Raises `Failure` 404 and 405."""
    found = routes.find(call.target.path)
    if found is None:
        raise Failure(404, f"Invalid URL path: {call.target.path}")
    route, call.rest = found
    method = call.method
    handler = route.methods.get(method)
    if handler is None and method == "HEAD":
        handler = route.methods.get("GET")
    if handler is not None:
        return handler
    allow = routes.allow(route)
    if method == "OPTIONS":
        return lambda _: _options(allow)
    raise Failure(405, f"method {method} not allowed", {"Allow": allow})


async def _options(allow: str) -> web.StreamResponse:
    return web.Response(headers={"Allow": allow})
