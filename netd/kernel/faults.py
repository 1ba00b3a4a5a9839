"""Faults on demand, for the fake kernel: refusals and crashes at a chosen operation."""

from collections.abc import Callable
from typing import Literal

from netd.kernel.refusal import Refused


class Crash(BaseException):
    """The daemon dies here: nothing after it runs, nothing may catch it."""


class Faults:
    """What goes wrong, and when. Operations are counted from 1, from `fail` or `crash` on.

    A single fault is used up when it has struck; `refuse` holds until `clear`.
    """

    def __init__(self) -> None:
        self._fail_in = 0
        self._errno = 0
        self._crash_in = 0
        self._when: Literal["before", "after"] = "before"
        self._refusal: tuple[Callable[[str], bool], int] | None = None

    def fail(self, nth: int, errno: int) -> None:
        """The nth operation from now on is refused with `errno`."""
        self._fail_in, self._errno = nth, errno

    def crash(self, nth: int, when: Literal["before", "after"] = "before") -> None:
        """`Crash` is raised right before or right after the nth operation from now on."""
        self._crash_in, self._when = nth, when

    def refuse(self, matches: Callable[[str], bool], errno: int) -> None:
        """Every operation whose text matches is refused with `errno`."""
        self._refusal = (matches, errno)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._fail_in = self._crash_in = 0
        self._refusal = None

    @property
    def pending(self) -> bool:
        """Whether a single fault has been asked for and has not struck yet."""
        return bool(self._fail_in or self._crash_in)

    def before(self, text: str) -> None:
        """An operation of this text is about to run. Raises `Crash` or `Refused`."""
        if self._crash_in == 1 and self._when == "before":
            self._crash_in = 0
            raise Crash(f"before: {text}")
        if self._fail_in:
            self._fail_in -= 1
            if not self._fail_in:
                raise Refused(self._errno)
        if self._refusal is not None and self._refusal[0](text):
            raise Refused(self._refusal[1])

    def after(self) -> None:
        """The operation has run or was refused. Raises `Crash`."""
        if self._crash_in:
            self._crash_in -= 1
            if not self._crash_in:
                raise Crash("after an operation")
