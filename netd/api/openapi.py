"""The OpenAPI 3.1 document, generated from the table of routes."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from netd import __version__
from netd.api import metrics, problems, streams
from netd.api.call import Nothing
from netd.api.problems import BodyEncoded, BodyTooLarge, BodyTooSlow, Internal, Problem
from netd.api.routing import AnyRoute
from netd.model.errors import Forbidden, Invalid, NetdError, Unavailable

Json = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/{name}"
_EVERY_CALL: Final = (Invalid, Forbidden, Internal, Unavailable)
_EVERY_BODY: Final = (BodyTooSlow, BodyTooLarge, BodyEncoded)
_MEDIA_TYPES: Final = {
    "json": "application/json",
    "ndjson": streams.MEDIA_TYPE,
    "text": metrics.MEDIA_TYPE,
}
_DESCRIPTION: Final = (
    "Container networking for one host, over a Unix socket. Root and members of netd's group may "
    "make every call, members of its view group those that read. Bodies are JSON in UTF-8; what "
    "is not known is refused. Every answer carries X-Request-Id, under which the log tells more."
)


def document(routes: tuple[AnyRoute, ...]) -> Json:
    """Describe `routes`, completely: what is not in them is not there."""
    answers = [route.answer for route in routes if route.kind != "none"]
    bodies = [route.body for route in routes if route.body is not Nothing]
    _, asked = msgspec.json.schema_components(bodies, ref_template=_REFERENCE)
    schemas, components = msgspec.json.schema_components(
        [*answers, *bodies, Problem], ref_template=_REFERENCE
    )
    sparse = {
        schema["$ref"].rpartition("/")[2]
        for answer, schema in zip(answers, schemas, strict=False)
        if _omits_defaults(answer)
    }
    for name, schema in components.items():
        if name not in asked and name not in sparse and name != Problem.__name__:
            # Answers leave nothing out, whatever may be left out when one is made.
            schema["required"] = list(schema["properties"])
    answer_schemas = iter(schemas)
    paths: dict[str, Json] = {}
    for route in routes:
        schema = next(answer_schemas) if route.kind != "none" else {}
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "netd",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost", "description": "by /run/netd/netd.sock"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _omits_defaults(answer: Any) -> bool:
    is_struct = isinstance(answer, type) and issubclass(answer, msgspec.Struct)
    return is_struct and answer.__struct_config__.omit_defaults


def _operation(route: AnyRoute, schema: Json) -> Json:
    operation: Json = {
        "operationId": f"{route.handler.__module__.rpartition('.')[2]}_{route.handler.__name__}",
        "summary": route.summary,
        "tags": [route.path.split("/")[2] if route.path.startswith("/v1/") else "probes"],
        "x-access": route.access.name.lower(),
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            **{str(status): _success(route, text, schema) for status, text in _statuses(route)},
            **_refusals(route),
        },
    }
    if route.body is not Nothing:
        reference = {"$ref": _REFERENCE.format(name=route.body.__name__)}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": reference}},
        }
    return operation


def _statuses(route: AnyRoute) -> Iterable[tuple[int, str]]:
    return sorted(route.statuses.items())


def _path_parameters(route: AnyRoute) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in route.parameters
    ]


def _query_parameters(route: AnyRoute) -> list[Json]:
    schema = msgspec.json.schema_components([route.query])[1][route.query.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _of_text(schema)}
        for name, schema in schema["properties"].items()
    ]


def _of_text(schema: Json) -> Json:
    """The schema of a query parameter. None means that it was left out: text has no null."""
    if "anyOf" not in schema:
        return schema
    (present,) = (branch for branch in schema["anyOf"] if branch != {"type": "null"})
    return dict(present)


def _success(route: AnyRoute, text: str, schema: Json) -> Json:
    if route.kind == "none":
        return {"description": text}
    return {"description": text, "content": {_MEDIA_TYPES[route.kind]: {"schema": schema}}}


def _refusals(route: AnyRoute) -> Json:
    errors: tuple[type[NetdError], ...] = _EVERY_CALL + route.errors
    if route.body is not Nothing:
        errors += _EVERY_BODY
    by_status: dict[int, list[type[NetdError]]] = {}
    for error in errors:
        by_status.setdefault(problems.status_of(error), []).append(error)
    reference = {"$ref": _REFERENCE.format(name=Problem.__name__)}
    return {
        str(status): {
            "description": "; ".join(f"{error.title} (code {error.code})" for error in found),
            "content": {problems.MEDIA_TYPE: {"schema": reference}},
        }
        for status, found in sorted(by_status.items())
    }
