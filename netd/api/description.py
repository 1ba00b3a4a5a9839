"""Calls by which the API tells of itself."""

from typing import Any, Final

from netd.api import metrics
from netd.api.call import Call, Nothing, Page
from netd.api.routing import AnyRoute, Route


async def openapi(call: Call[Nothing, Nothing]) -> Page:
    return Page(call.backend.document, "application/json")


async def exposition(call: Call[Nothing, Nothing]) -> Page:
    return Page(call.backend.metrics.exposition(), metrics.MEDIA_TYPE)


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/openapi.json",
        handler=openapi,
        summary="This document",
        answer=dict[str, Any],
        statuses={200: "An OpenAPI 3.1 document"},
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=exposition,
        summary="Metrics for Prometheus",
        answer=str,
        kind="text",
        statuses={200: "Prometheus' text format 0.0.4"},
    ),
)
