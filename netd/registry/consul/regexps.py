"""Regular expressions as RE2 knows them, matched in time that is linear in the text.

They come from whoever asks; Python's own `re` may take for ever on some of them. Here a pattern
becomes a machine with a bounded number of states, all of which are tried side by side.
"""

import re
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as syntax  # type: ignore[attr-defined]
from typing import Any, Final

PATTERN_MAX: Final = 512  # characters
STATES_MAX: Final = 2000
TEXT_MAX: Final = 4096  # characters of a text that are looked at
STEPS_MAX: Final = 500_000  # of one call: some 0.2 s
_COMPILED: Final = 256

Accepts = Callable[[str], bool]


class BadPattern(Exception):
    """The text says what is wrong."""


class Budget:
    """Steps of all that one call has looked for, as others wait meanwhile. One takes about a
    microsecond.
    """

    __slots__ = ("_left",)

    def __init__(self, steps: int = STEPS_MAX) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Raises `BadPattern` when there are no more."""
        self._left -= steps
        if self._left < 0:
            raise BadPattern("it takes too long; ask for fewer rows or something simpler")


class _State:
    """`accepts` None: goes on without a character. `needs` is true of the places where it may."""

    __slots__ = ("accepts", "needs", "number", "to")

    def __init__(self, number: int) -> None:
        self.number = number
        self.accepts: Accepts | None = None
        self.needs: Callable[[str, int], bool] | None = None
        self.to: list[_State] = []


class Pattern:
    """Raises `BadPattern` for what RE2 would not take, or is too large.

    Making and matching it is taken from `budget`, which all patterns of a call share.
    """

    def __init__(self, text: str, budget: Budget | None = None) -> None:
        self._budget = Budget() if budget is None else budget
        self._start, self._end, states = _compiled(text)
        self._budget.spend(states)

    def is_in(self, text: str) -> bool:
        """Whether some part of the text matches. Raises `BadPattern` when it has taken too long."""
        text = text[:TEXT_MAX]
        current: dict[int, _State] = {}
        for at in range(len(text) + 1):
            self._enter(current, self._start, text, at)
            if self._end.number in current:
                return True
            if at == len(text):
                break
            following: dict[int, _State] = {}
            for state in current.values():
                if state.accepts is not None and state.accepts(text[at]):
                    for to in state.to:
                        self._enter(following, to, text, at + 1)
            self._budget.spend(len(current) + 1)
            current = following
        return False

    def _enter(self, states: dict[int, _State], state: _State, text: str, at: int) -> None:
        ahead = [state]
        while ahead:
            each = ahead.pop()
            if each.number in states or (each.needs is not None and not each.needs(text, at)):
                continue
            states[each.number] = each
            if each.accepts is None:
                ahead += each.to


@lru_cache(maxsize=_COMPILED)
def _compiled(text: str) -> tuple[_State, _State, int]:
    if len(text) > PATTERN_MAX:
        raise BadPattern(f"a pattern of more than {PATTERN_MAX} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = syntax.parse(text.replace(r"\z", r"\Z"))
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise BadPattern(f"error parsing regexp: {error}") from None
    return _Builder(tree.state.flags).build(tree)


class _Builder:
    def __init__(self, flags: int) -> None:
        self._count = 0
        self._flags = flags

    def build(self, tree: Iterable[Any]) -> tuple[_State, _State, int]:
        """Where it begins, where it ends, and how many states it has."""
        start = self._state()
        end = self._sequence(start, tree, self._flags)
        return start, end, self._count

    def _state(self) -> _State:
        self._count += 1
        if self._count > STATES_MAX:
            raise BadPattern("error parsing regexp: expression too large")
        return _State(self._count)

    def _sequence(self, state: _State, tree: Iterable[Any], flags: int) -> _State:
        for code, value in tree:
            state = self._item(state, code, value, flags)
        return state

    def _item(self, state: _State, code: Any, value: Any, flags: int) -> _State:
        if code is codes.SUBPATTERN:
            _, added, removed, inner = value
            return self._sequence(state, inner, (flags | added) & ~removed)
        if code is codes.BRANCH:
            end = self._state()
            for inner in value[1]:
                begin = self._link(state)
                self._sequence(begin, inner, flags).to.append(end)
            return end
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            least, most, inner = value
            return self._repeat(state, least, most, inner, flags)
        after = self._state()
        if code is codes.AT:
            state_needs = self._link(state)
            state_needs.needs = place_test(value, flags)
            state_needs.to.append(after)
            return after
        reading = self._link(state)
        reading.accepts = character_test(code, value, flags)
        reading.to.append(after)
        return after

    def _repeat(self, state: _State, least: int, most: Any, inner: Any, flags: int) -> _State:
        for _ in range(least):
            state = self._sequence(self._link(state), inner, flags)
        if most is codes.MAXREPEAT:
            loop = self._link(state)
            last = self._sequence(self._link(loop), inner, flags)
            last.to.append(loop)
            return self._link(loop)
        end = self._state()
        for _ in range(most - least):
            state.to.append(end)
            state = self._sequence(self._link(state), inner, flags)
        state.to.append(end)
        return end

    def _link(self, state: _State) -> _State:
        """Another state, which is reached from `state` without a character."""
        new = self._state()
        state.to.append(new)
        return new


def place_test(value: Any, flags: int) -> Callable[[str, int], bool]:
    if value is codes.AT_BEGINNING_STRING:
        return lambda _, at: at == 0
    if value is codes.AT_END_STRING:
        return lambda text, at: at == len(text)
    if value is codes.AT_BEGINNING:
        if flags & re.MULTILINE:
            return lambda text, at: at == 0 or text[at - 1] == "\n"
        return lambda _, at: at == 0
    if value is codes.AT_END:
        if flags & re.MULTILINE:
            return lambda text, at: at == len(text) or text[at] == "\n"
        return lambda text, at: at == len(text)
    if value is codes.AT_BOUNDARY:
        return _at_boundary
    if value is codes.AT_NON_BOUNDARY:
        return lambda text, at: not _at_boundary(text, at)
    raise BadPattern(f"error parsing regexp: {value} is not known")


def _at_boundary(text: str, at: int) -> bool:
    before = at > 0 and _is_word(text[at - 1])
    return before != (at < len(text) and _is_word(text[at]))


def character_test(code: Any, value: Any, flags: int) -> Accepts:
    if code is codes.ANY:
        if flags & re.DOTALL:
            return lambda _: True
        return lambda char: char != "\n"
    if code is codes.LITERAL:
        return _either_case(lambda char: ord(char) == value, flags)
    if code is codes.NOT_LITERAL:
        same = _either_case(lambda char: ord(char) == value, flags)
        return lambda char: not same(char)
    if code is codes.IN:
        return _set(value, flags)
    raise BadPattern(f"error parsing regexp: {str(code).lower()} is not supported")


def _set(items: list[Any], flags: int) -> Accepts:
    negated = False
    tests: list[Accepts] = []
    for code, value in items:
        if code is codes.NEGATE:
            negated = True
        elif code is codes.LITERAL:
            tests.append(_is_character(value))
        elif code is codes.RANGE:
            tests.append(_is_between(*value))
        elif code is codes.CATEGORY and value in _CATEGORIES:
            tests.append(_CATEGORIES[value])
        else:
            raise BadPattern(f"error parsing regexp: {str(code).lower()} is not supported")
    within = _either_case(lambda char: any(test(char) for test in tests), flags)
    return (lambda char: not within(char)) if negated else within


def _is_character(value: int) -> Accepts:
    return lambda char: ord(char) == value


def _is_between(low: int, high: int) -> Accepts:
    return lambda char: low <= ord(char) <= high


def _either_case(test: Accepts, flags: int) -> Accepts:
    if not flags & re.IGNORECASE:
        return test
    return lambda char: (
        test(char) or any(len(other) == 1 and test(other) for other in (char.lower(), char.upper()))
    )


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")


def _is_digit(char: str) -> bool:
    return "0" <= char <= "9"


def _is_space(char: str) -> bool:
    return char in " \t\n\f\r"


_CATEGORIES: Final[dict[Any, Accepts]] = {
    codes.CATEGORY_DIGIT: _is_digit,
    codes.CATEGORY_NOT_DIGIT: lambda char: not _is_digit(char),
    codes.CATEGORY_SPACE: _is_space,
    codes.CATEGORY_NOT_SPACE: lambda char: not _is_space(char),
    codes.CATEGORY_WORD: _is_word,
    codes.CATEGORY_NOT_WORD: lambda char: not _is_word(char),
}
