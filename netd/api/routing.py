"""What a route is, and how a path finds its route."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import unquote

from netd.api.auth import Access
from netd.api.call import Answer, Call, Nothing
from netd.model.errors import Invalid, NetdError

Q = TypeVar("Q")
B = TypeVar("B")

Kind = Literal["json", "ndjson", "text", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[Q, B]):
    """One call of the API: all that its dispatch and its description need.

    `path` has parameters in braces, each a whole segment. `answer` is the type of a success's
    body, of each line for `ndjson`. `statuses` are the successes with their meaning; `errors`
    those that this call adds to the ones every call may have. `needs` is for a change that not
    only those may make who may do everything.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Callable[[Call[Q, B]], Coroutine[Any, Any, Answer]]
    summary: str
    query: type[Q] = Nothing  # type: ignore[assignment]  # what most calls have
    body: type[B] = Nothing  # type: ignore[assignment]
    answer: Any = None
    kind: Kind = "json"
    statuses: Mapping[int, str]
    errors: tuple[type[NetdError], ...] = ()
    needs: Access = Access.WRITE

    @property
    def access(self) -> Access:
        """Who may call: readers may call what changes nothing."""
        return Access.READ if self.method == "GET" else self.needs

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


AnyRoute = Route[Any, Any]


class Router:
    """Finds the routes of a path. Patterns must not overlap; the constructor checks it."""

    def __init__(self, routes: tuple[AnyRoute, ...]) -> None:
        self._exact: dict[str, dict[str, AnyRoute]] = {}
        self._patterns: dict[int, dict[tuple[str, ...], dict[str, AnyRoute]]] = {}
        for route in routes:
            segments = tuple(route.path.split("/"))
            if route.parameters:
                patterns = self._patterns.setdefault(len(segments), {})
                methods = patterns.setdefault(segments, {})
            else:
                methods = self._exact.setdefault(route.path, {})
            if route.method in methods:
                raise ValueError(f"{route.method} {route.path} is there twice")
            methods[route.method] = route
        for path in (route.path for route in routes):
            if len(self._candidates(path.split("/"))) > 1:
                raise ValueError(f"{path} matches more than one pattern")

    def find(self, raw_path: str) -> tuple[Mapping[str, AnyRoute], Mapping[str, str]]:
        """The routes of a percent-encoded path by method, and its parameters, decoded.

        No routes when there is no such path. Raises `Invalid` for what is not UTF-8.
        """
        methods = self._exact.get(raw_path)
        if methods is not None:
            return methods, {}
        segments = raw_path.split("/")
        for pattern in self._candidates(segments):
            parameters = {
                name[1:-1]: _decoded(value)
                for name, value in zip(pattern, segments, strict=True)
                if name.startswith("{")
            }
            return self._patterns[len(segments)][pattern], parameters
        return {}, {}

    def _candidates(self, segments: list[str]) -> list[tuple[str, ...]]:
        return [
            pattern
            for pattern in self._patterns.get(len(segments), ())
            if all(
                value if name.startswith("{") else value == name
                for name, value in zip(pattern, segments, strict=True)
            )
        ]


def _decoded(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise Invalid(f"the path's segment {segment} is not UTF-8: {error.reason}") from None
