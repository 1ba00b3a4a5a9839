"""Calls by which the API tells of itself."""

from netd.api import metrics
from netd.api.call import Call, Nothing, Page


async def openapi(call: Call[Nothing, Nothing]) -> Page:
    return Page(call.backend.document, "application/json")


async def exposition(call: Call[Nothing, Nothing]) -> Page:
    return Page(call.backend.metrics.exposition(), metrics.MEDIA_TYPE)
