"""What the steps of a packet's way are judged from, and the words of a judgement."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from netd.model.explanation import Explanation, Step, StepName
from netd.plan.diff import difference
from netd.plan.facts import Echo, Facts, NextHop
from netd.plan.objects import Key, Object, SetElement, State
from netd.plan.parties import Directory

RECONCILE: Final = (
    "netctl reconcile; if it goes again, 'netctl events' shows when: something else removes it"
)


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that the steps are judged from.

    `wanted`, `seen`, `missing` and `foreign` are as in an observation. `hops` has the way to an
    address from a namespace ("" is the host's): None where there is none. `published` is what
    leads the asked port of the host to the destination. `small` and `full` are what became of
    echo requests through the tunnel to the destination's host, the latter of the size of the
    network's MTU; `plain` of one past it, where the small one got no answer. `answer` is what that
    host says of the way back, or why it could not be asked.
    With `reply` the packet answers one that came.
    """

    directory: Directory
    wanted: State
    seen: State
    facts: Facts
    missing: frozenset[str] = frozenset()
    foreign: frozenset[Key] = frozenset()
    hops: Mapping[tuple[str, str], NextHop | None] = {}
    port: int | None = None
    published: SetElement | None = None
    small: Echo | None = None
    full: Echo | None = None
    plain: Echo | None = None
    answer: Explanation | str | None = None
    reply: bool = False


def trouble(view: View, objects: Iterable[Object]) -> tuple[str, str] | None:
    """The first of the objects that is not as wanted, in words, and what to do about it."""
    for want in sorted(objects, key=lambda obj: (obj.rank, obj.key)):
        where = f" in {want.ns}" if want.ns else ""
        if want.key in view.foreign:
            return (
                f"something that is not netd's is in the place of {want.text()}{where}",
                "remove or rename what is in the way; netd tries again by itself",
            )
        now = view.seen.get(want.key)
        if now is None:
            return f"missing{where}: {want.text()}", RECONCILE
        if type(now) is not type(want):
            return f"{want.text()}{where}: it is {now.text()}", RECONCILE
        if wrong := difference(want, msgspec.structs.replace(now, owner=want.owner)):
            return f"{want.text()}{where}: {wrong}", RECONCILE
    return None


def ok(name: StepName, detail: str) -> Step:
    return Step(name=name, status="ok", detail=detail)


def failed(name: StepName, detail: str, remedy: str) -> Step:
    return Step(name=name, status="failed", detail=detail, remedy=remedy)


def skipped(name: StepName, detail: str) -> Step:
    return Step(name=name, status="skipped", detail=detail)
