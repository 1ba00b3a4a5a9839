"""An endpoint's operations in the kernel: carried out, explained, taken back, and noted."""

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from netd.engine.failures import explain
from netd.engine.intent import ports_of
from netd.engine.interfaces import Change
from netd.engine.parts import Parts
from netd.engine.publishing import Publishing
from netd.model.endpoint import EndpointRecord
from netd.model.errors import KernelFailure, NetdError, NotFound, Unavailable
from netd.plan.objects import HOST, Macvlan, Object, Rule
from netd.plan.operations import Failure, Operation

log = logging.getLogger(__name__)


class Execution:
    def __init__(self, parts: Parts, publishing: Publishing) -> None:
        self._parts = parts
        self._publishing = publishing

    async def apply(self, operations: Sequence[Operation], record: EndpointRecord) -> list[Failure]:
        if not operations:
            return []
        sandboxes = {record.sandbox.key: record.sandbox} if record.sandbox else {}
        return await self._parts.kernel.apply(operations, sandboxes)

    async def explained(self, failures: list[Failure], record: EndpointRecord) -> NetdError:
        """What the caller is told of failures."""
        sandbox = record.sandbox
        if sandbox is not None and not await self._parts.kernel.alive(sandbox):
            return NotFound(f"the container has ended: {sandbox.path} is no more", field="netns")
        return explain(failures)

    async def undo(self, operations: Sequence[Operation], record: EndpointRecord) -> None:
        """Take back what intent no longer wants, and UDP flows to the ports that had it.

        What the kernel refuses is left to the reconciler, which finds it by its tag.
        """
        try:
            for failure in await self.apply(operations, record):
                log.warning("endpoint %s: %s", record.endpoint.id, failure.text())
            await self._publishing.forget_flows(ports_of(record))
        except KernelFailure as error:
            log.warning("endpoint %s: %s", record.endpoint.id, error.detail)

    async def strike(self, note: tuple[EndpointRecord, ...]) -> None:
        """Delete the note of what is done. If that fails, the next start does it once more."""
        if not note:
            return
        try:
            ids = tuple(record.endpoint.id for record in note)
            await self._parts.store.commit(Change(delete_endpoints=ids))
        except Unavailable as error:
            log.warning("endpoint %s: %s", note[0].endpoint.id, error.detail)


def note_of(record: EndpointRecord, objects: list[Object]) -> tuple[EndpointRecord, ...]:
    """What has to be in the store while `objects` are made or removed.

    Nothing where all that is inside the container comes and goes with a link of the host.
    """
    lingering = any(isinstance(obj, Macvlan | Rule) and obj.ns != HOST for obj in objects)
    return (replace(record, unfinished=True),) if lingering else ()
