"""Calls of runtimes, done in their plugins' place: those would have to start an interpreter that
imports what here is loaded already.

What is out of the ordinary is refused. The plugin then does the same itself, and has the runtime's
words for what is wrong.
"""

from typing import Any, TypeVar

import msgspec

from netd.engine.core import Engine
from netd.model.endpoint import AttachRequest, Endpoint
from netd.model.errors import Invalid, Unavailable
from netd.model.network import NetworkSpec
from netd.model.plugins import CniAdd, NetavarkSetup
from netd.runtimes.cni.adding import Addition
from netd.runtimes.cni.call import Call
from netd.runtimes.cni.failure import Failure
from netd.runtimes.cni.result import result_of
from netd.runtimes.netavark.attachments import Setup
from netd.runtimes.netavark.failure import Failure as NetavarkFailure
from netd.runtimes.shim.daemon import tombstones_of
from netd.runtimes.shim.tombstones import found

_NOT_UNDERSTOOD = (KeyError, TypeError, ValueError, AttributeError, RecursionError)

T = TypeVar("T", NetworkSpec, AttachRequest)


class Plugins:
    """As `netd.api.use_cases.Plugins`, for those who take the daemon to be at `socket`."""

    def __init__(self, engine: Engine, socket: str) -> None:
        self._engine = engine
        self._socket = socket

    async def cni_add(self, asked: CniAdd) -> dict[str, Any]:
        call = Call(asked.environment, asked.config)
        if call.command != "ADD" or call.socket != asked.socket:
            raise Invalid(f"{call.command} at {call.socket}: only an ADD at this socket is done")
        try:
            call.check()
            addition = Addition(call)
        except (Failure, *_NOT_UNDERSTOOD) as error:
            raise Invalid(f"the input cannot be read: {error}") from None
        endpoint = await self._attach(addition, asked.socket)
        return result_of(call, msgspec.to_builtins(endpoint))

    async def netavark_setup(self, asked: NetavarkSetup) -> dict[str, Any]:
        try:
            setup = Setup(asked.execution, asked.netns)
        except (NetavarkFailure, *_NOT_UNDERSTOOD) as error:
            raise Invalid(f"the input cannot be read: {error}") from None
        if setup.publishes:
            others = self._engine.endpoints(container_id=setup.container)
            setup.publish_once(msgspec.to_builtins(others))
        endpoint = await self._attach(setup, asked.socket)
        return setup.status_of(msgspec.to_builtins(endpoint))

    async def _attach(self, wanted: Addition | Setup, socket: str) -> Endpoint:
        if socket != self._socket:
            raise Invalid(f"the daemon listens at {self._socket}")  # so are tombstones there
        if any(found(tombstones_of(socket))):
            raise Unavailable("what was deleted meanwhile has to be worked off first")
        if wanted.network is not None:
            await self._engine.create_network(_converted(wanted.network, NetworkSpec))
        request = _converted(wanted.body, AttachRequest)
        endpoint, _ = await self._engine.attach(wanted.name, request)
        return endpoint


def _converted(body: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from None
