"""Whatever the kernel has and whatever is wanted: one plan leads there, and then none is left.

Also from any point where a plan was cut off, without a refusal and without touching what is
not netd's.
"""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.engine.interfaces import Observation, Scope
from netd.kernel.fake import FakeKernel
from netd.kernel.faults import Crash
from netd.kernel.simulation import OtherLink
from netd.model.endpoint import Sandbox
from netd.plan.diff import creation, diff, removal
from netd.plan.objects import HOST, Key, Link, Object, State
from netd.plan.operations import Failure, Operation
from tests.unit.kernel_states import OWNERS, fake_kernel, states

Sandboxes = dict[str, Sandbox]


def see(kernel: FakeKernel, sandboxes: Sandboxes, wanted: State) -> Observation:
    return asyncio.run(kernel.observe(Scope(sandboxes=sandboxes, wanted=wanted)))


def run(kernel: FakeKernel, sandboxes: Sandboxes, plan: list[Operation]) -> list[Failure]:
    return asyncio.run(kernel.apply(plan, sandboxes))


def kernel_with(state: State) -> tuple[FakeKernel, Sandboxes]:
    kernel, sandboxes = fake_kernel()
    assert run(kernel, sandboxes, diff(state, {})) == []
    return kernel, sandboxes


def converge(kernel: FakeKernel, sandboxes: Sandboxes, desired: State) -> None:
    """One plan, no refusal, nothing left to do."""
    plan = diff(desired, see(kernel, sandboxes, desired).state)
    assert run(kernel, sandboxes, plan) == []
    assert diff(desired, see(kernel, sandboxes, desired).state) == []


@given(had=states(), desired=states())
def test_one_plan_leads_from_any_state_to_any_other(had: State, desired: State) -> None:
    kernel, sandboxes = kernel_with(had)
    converge(kernel, sandboxes, desired)
    assert desired.keys() <= kernel.simulation.objects.keys()


@given(had=states(), desired=states(), data=st.data())
def test_a_plan_cut_off_anywhere_is_completed_by_the_next(
    had: State, desired: State, data: st.DataObject
) -> None:
    kernel, sandboxes = kernel_with(had)
    plan = diff(desired, see(kernel, sandboxes, desired).state)
    if plan:
        kernel.faults.crash(data.draw(st.integers(1, len(plan)), label="crash at"))
        with pytest.raises(Crash):
            run(kernel, sandboxes, plan)
    converge(kernel, sandboxes, desired)


@given(had=states(), desired=states(), data=st.data())
def test_a_plan_cut_off_anywhere_can_be_followed_by_any_other(
    had: State, desired: State, data: st.DataObject
) -> None:
    kernel, sandboxes = kernel_with(had)
    plan = diff(desired, see(kernel, sandboxes, desired).state)
    assert run(kernel, sandboxes, plan[: data.draw(st.integers(0, len(plan)))]) == []
    converge(kernel, sandboxes, had)


@given(state=states())
def test_creation_and_removal_leave_nothing(state: State) -> None:
    kernel, sandboxes = fake_kernel()
    objects = list(state.values())
    assert run(kernel, sandboxes, creation(objects, "test")) == []
    assert run(kernel, sandboxes, removal(objects, "test")) == []
    left = kernel.simulation.tagged
    assert {key for key in left if not kernel.simulation.objects[key].permanent} == set()


@given(state=states())
def test_every_operation_can_be_run_again(state: State) -> None:
    kernel, sandboxes = kernel_with(state)
    before = kernel.text()
    assert run(kernel, sandboxes, diff(state, {})) == []
    assert kernel.text() == before
    objects = list(state.values())
    assert run(kernel, sandboxes, removal(objects, "test")) == []
    assert run(kernel, sandboxes, removal(objects, "again")) == []


@given(desired=states(), data=st.data())
def test_links_of_others_are_never_touched(desired: State, data: st.DataObject) -> None:
    """Where a link of others is in the way, only what is netd's fails."""
    kernel, sandboxes = fake_kernel()
    strangers: dict[Key, Object] = {}
    for key, obj in desired.items():
        if isinstance(obj, Link) and not obj.permanent and data.draw(st.booleans(), label=str(key)):
            strangers[key] = OtherLink(ns=obj.ns, name=obj.name, kind="dummy", mtu=1500)
            kernel.by_hand.put(strangers[key])

    def untouched() -> bool:
        return strangers.items() <= kernel.simulation.objects.items()

    seen = see(kernel, sandboxes, desired)
    assert seen.foreign == strangers.keys()
    plan = diff(desired, seen.state)
    assert all(op.verb == "add" for op in plan if op.object.key in strangers)
    failed = {failure.operation.object.key for failure in run(kernel, sandboxes, plan)}
    assert strangers.keys() <= failed
    assert untouched()
    run(kernel, sandboxes, removal(list(desired.values()), "test"))
    assert untouched()


@given(had=states(), desired=states(), owner=st.sampled_from(OWNERS))
def test_a_plan_for_one_owner_leaves_the_others_alone(
    had: State, desired: State, owner: str
) -> None:
    """Except for what goes with something of that owner: it is made again."""
    kernel, sandboxes = kernel_with(had)
    seen = see(kernel, sandboxes, desired).state
    plan = diff(desired, seen, owners={owner})
    for op in plan:
        wanted = desired.get(op.object.key)
        if op.verb == "delete":
            assert owner in {op.object.owner, wanted.owner if wanted else None}
        elif op.reason != "went with another":
            assert op.object.owner == owner


@settings(max_examples=30)
@given(desired=states(), data=st.data())
def test_what_people_delete_comes_back(desired: State, data: st.DataObject) -> None:
    kernel, sandboxes = kernel_with(desired)
    deletable = sorted(key for key, obj in desired.items() if not obj.permanent)
    if deletable:
        kernel.simulation.delete(data.draw(st.sampled_from(deletable)))
    if data.draw(st.booleans()):
        for link in [obj for obj in desired.values() if isinstance(obj, Link)]:
            if (link.ns, "link", link.name) in kernel.simulation.objects and link.ns != HOST:
                kernel.by_hand.set_link(link.name, link.ns, up=False)
    converge(kernel, sandboxes, desired)
