"""What the groups of a regular expression have matched, in time linear in pattern and text.

Ways are tried in the order of preference, as Perl does; a state that has led nowhere at a place
in the text is not entered there again, so there are no more steps than states times places (R.
Cox, "Regular Expression Matching: the Virtual Machine Approach").
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as syntax  # type: ignore[attr-defined]
from typing import Any, Final

from netd.registry.consul.regexps import (
    BadPattern,
    Budget,
    Pattern,
    character_test,
    place_test,
)

STATES_MAX: Final = 1000
TEXT_MAX: Final = 512  # characters of a text that are looked at
_COMPILED: Final = 64


class _State:
    """Goes on to `to`, the first preferred: after a character that `accepts` takes, at a place
    that `needs` takes, or without either. `slot` is where it notes the place.
    """

    __slots__ = ("accepts", "needs", "number", "slot", "to")

    def __init__(self, number: int, to: "list[_State]") -> None:
        self.number = number
        self.to = to
        self.slot: int | None = None
        self.accepts: Callable[[str], bool] | None = None
        self.needs: Callable[[str, int], bool] | None = None


def groups_of(pattern: str, text: str, budget: Budget | None = None) -> tuple[str, ...]:
    """The first match and what its groups have matched, "": nothing; empty: there is no match.

    Raises `BadPattern` for what RE2 would not take, is too large, or takes more than `budget`.
    """
    budget = Budget() if budget is None else budget
    start, end, groups = _compiled(pattern)
    text = text[:TEXT_MAX]
    tried: set[tuple[int, int]] = set()
    for at in range(len(text) + 1):
        slots = _match(start, end, text, at, [-1] * (2 * groups + 2), tried, budget)
        if slots is not None:
            pairs = zip(slots[::2], slots[1::2], strict=True)
            return tuple(text[first:last] if 0 <= first <= last else "" for first, last in pairs)
    return ()


def _match(
    start: _State,
    end: _State,
    text: str,
    at: int,
    slots: list[int],
    tried: set[tuple[int, int]],
    budget: Budget,
) -> list[int] | None:
    slots[0] = at
    # What is still to be tried; a slot with what it had before stands where that is over.
    ahead: list[tuple[_State, int] | tuple[None, tuple[int, int]]] = [(start, at)]
    while ahead:
        state, place = ahead.pop()
        if state is None:
            slot, before = place  # type: ignore[misc]
            slots[slot] = before
            continue
        assert isinstance(place, int)
        if state is end:
            slots[1] = place
            return slots
        if (state.number, place) in tried:
            continue
        tried.add((state.number, place))
        budget.spend(1)
        if state.needs is not None and not state.needs(text, place):
            continue
        if state.accepts is not None:
            if place == len(text) or not state.accepts(text[place]):
                continue
            place += 1
        if state.slot is not None:
            ahead.append((None, (state.slot, slots[state.slot])))
            slots[state.slot] = place
        for to in reversed(state.to):
            ahead.append((to, place))  # noqa: PERF401
    return None


@lru_cache(maxsize=_COMPILED)
def _compiled(text: str) -> tuple[_State, _State, int]:
    Pattern(text)  # what it cannot take
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = syntax.parse(text.replace(r"\z", r"\Z"))
    builder = _Builder()
    end = builder.state([])
    return builder.sequence(tree, end, tree.state.flags), end, tree.state.groups - 1


class _Builder:
    """Builds from the end to the beginning: what comes after a part is there before it."""

    def __init__(self) -> None:
        self._count = 0

    def state(self, to: list[_State]) -> _State:
        self._count += 1
        if self._count > STATES_MAX:
            raise BadPattern("error parsing regexp: expression too large")
        return _State(self._count, to)

    def sequence(self, tree: Iterable[Any], after: _State, flags: int) -> _State:
        for code, value in reversed(list(tree)):
            after = self._item(code, value, after, flags)
        return after

    def _item(self, code: Any, value: Any, after: _State, flags: int) -> _State:
        if code is codes.SUBPATTERN:
            group, added, removed, inner = value
            flags = (flags | added) & ~removed
            if group is None:
                return self.sequence(inner, after, flags)
            last = self._note(2 * group + 1, after)
            return self._note(2 * group, self.sequence(inner, last, flags))
        if code is codes.BRANCH:
            return self.state([self.sequence(inner, after, flags) for inner in value[1]])
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            return self._repeat(code, value, after, flags)
        state = self.state([after])
        if code is codes.AT:
            state.needs = place_test(value, flags)
        else:
            state.accepts = character_test(code, value, flags)
        return state

    def _repeat(self, code: Any, value: Sequence[Any], after: _State, flags: int) -> _State:
        least, most, inner = value
        lazy = code is codes.MIN_REPEAT
        start = after
        if most is codes.MAXREPEAT:
            start = self.state([])
            once_more = self.sequence(inner, start, flags)
            start.to = [after, once_more] if lazy else [once_more, after]
        else:
            for _ in range(most - least):
                once_more = self.sequence(inner, start, flags)
                start = self.state([after, once_more] if lazy else [once_more, after])
        for _ in range(least):
            start = self.sequence(inner, start, flags)
        return start

    def _note(self, slot: int, after: _State) -> _State:
        state = self.state([after])
        state.slot = slot
        return state
