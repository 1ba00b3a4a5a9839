"""Calls of the plugins that runtimes start: each hands over what its runtime has asked it for."""

from typing import Any, Final

from netd.api.call import Call, Nothing, Reply
from netd.api.routing import AnyRoute, Route
from netd.api.use_cases import Plugins
from netd.model.errors import Conflict, Exhausted, KernelFailure, NotFound, Unavailable
from netd.model.plugins import CniAdd, NetavarkSetup


async def add(call: Call[Nothing, CniAdd]) -> Reply:
    return Reply(200, await _plugins(call).cni_add(call.body))


async def set_up(call: Call[Nothing, NetavarkSetup]) -> Reply:
    return Reply(200, await _plugins(call).netavark_setup(call.body))


def _plugins(call: Call[Any, Any]) -> Plugins:
    if call.backend.plugins is None:
        raise Unavailable("plugins do their work themselves here: attach to a network instead")
    return call.backend.plugins


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="POST",
        path="/v1/cni",
        handler=add,
        summary="Do the ADD that a runtime has asked CNI's plugin for",
        body=CniAdd,
        answer=dict[str, Any],
        statuses={200: "The result that the runtime is told"},
        errors=(NotFound, Conflict, Exhausted, KernelFailure),
    ),
    Route(
        method="POST",
        path="/v1/netavark",
        handler=set_up,
        summary="Do the set-up that netavark has asked its plugin for",
        body=NetavarkSetup,
        answer=dict[str, Any],
        statuses={200: "The status block that netavark is told"},
        errors=(NotFound, Conflict, Exhausted, KernelFailure),
    ),
)
