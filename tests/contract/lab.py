"""What the contract tests say again and again, in short words."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from netd.engine.interfaces import Kernel, Observation, Scope, Trigger
from netd.model.endpoint import Sandbox
from netd.plan.diff import creation, diff, removal
from netd.plan.objects import Object, State, render, state_of
from netd.plan.operations import Operation, Verb
from tests.contract.worlds import World


class Lab:
    """A kernel, its world and the containers made so far."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kernel: Kernel = world.kernel
        self.boxes: dict[str, Sandbox] = {}

    async def container(self) -> str:
        """A new container; its namespace's key."""
        box = await self.world.container()
        self.boxes[box.key] = box
        return box.key

    async def run(self, verb: Verb, *objects: Object) -> list[int]:
        """Run one operation for each object; the errnos of those that failed."""
        return await self.apply(
            [Operation(verb=verb, object=obj, reason="test") for obj in objects]
        )

    async def add(self, *objects: Object) -> list[int]:
        return await self.apply(creation(list(objects), "test"))

    async def remove(self, *objects: Object) -> list[int]:
        return await self.apply(removal(list(objects), "test"))

    async def apply(self, plan: list[Operation]) -> list[int]:
        failures = await self.kernel.apply(plan, self.boxes)
        assert all(failure.message for failure in failures)
        return [failure.errno for failure in failures]

    async def observe(self, *wanted: Object) -> Observation:
        return await self.kernel.observe(Scope(sandboxes=self.boxes, wanted=state_of(wanted)))

    async def see(self, *wanted: Object) -> State:
        """Of the wanted objects, those that are there, as they are."""
        state = (await self.observe(*wanted)).state
        return {obj.key: state[obj.key] for obj in wanted if obj.key in state}

    async def converge(self, *wanted: Object) -> list[Operation]:
        """Run the plan that leads to `wanted`: nothing fails, and nothing is left to do."""
        desired = state_of(wanted)
        plan = diff(desired, (await self.observe(*wanted)).state)
        failures = await self.kernel.apply(plan, self.boxes)
        assert [failure.text() for failure in failures] == []
        seen = (await self.observe(*wanted)).state
        left = diff(desired, seen)
        assert [f"{op.text()}: {op.reason}" for op in left] == [], render(seen)
        return plan

    def triggers(self) -> "Triggers":
        return Triggers(self.kernel)


class Triggers:
    """Collects triggers within a `with` block and waits for one of them."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._seen: asyncio.Queue[Trigger] = asyncio.Queue()

    def __enter__(self) -> "Triggers":
        self._stop = self._kernel.watch(self._seen.put_nowait)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    async def until(self, matches: Callable[[Trigger], bool]) -> Trigger:
        """The next trigger that matches. Raises TimeoutError after 5 s."""
        async with asyncio.timeout(5):
            while True:
                trigger = await self._seen.get()
                if matches(trigger):
                    return trigger
