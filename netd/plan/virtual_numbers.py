"""Which virtual address each service has, the same on all hosts.

Addresses are told by numbers. A service has the number that it claims, unless an earlier claim
has it: then the first of the sequence that follows from its name which no earlier claim has.
"""

from collections.abc import Iterable

import msgspec

from netd.plan.virtual import wished

Rank = tuple[int, str]
"""When the claim was made, and by whom: what comes first is earlier."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """`wanted` is a number, or None where any will do."""

    name: str
    rank: Rank
    wanted: int | None


def assign(claims: Iterable[Claim], numbers: range) -> dict[str, int]:
    """The number of each service, by name. A pool of which nothing is left gives no more."""
    taken: dict[int, str] = {}
    for claim in sorted(claims, key=_order):
        attempt = 0
        while (number := _choice(claim, attempt, numbers)) in taken:
            attempt += 1
            if len(taken) == len(numbers):
                break
        else:
            taken[number] = claim.name
    return {name: number for number, name in taken.items()}


class Numbers:
    """What `assign` finds, kept up to date: a change costs the same however many there are.

    Claims are made one after the other, and each asks for its choices in order; a number goes to
    the earliest of those that ask for it, so who has what does not depend on the order in which
    they come here.
    """

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers
        self._claims: dict[str, Claim] = {}
        self._holders: dict[int, str] = {}
        self._attempts: dict[str, int] = {}  # which choice each has; without one, it has none
        self._displaced: set[str] = set()  # those that have not their first choice

    def of(self, name: str) -> int | None:
        """The service's number; None where it claims none, or none was left."""
        attempt = self._attempts.get(name)
        return None if attempt is None else _choice(self._claims[name], attempt, self._numbers)

    def is_free(self, number: int) -> bool:
        return number not in self._holders

    def free_choice(self, name: str) -> int | None:
        """The first number that a new claim would have without displacing anybody."""
        if len(self._holders) >= len(self._numbers):
            return None
        attempt = 0
        while not self.is_free(number := wished(name, attempt, self._numbers)):
            attempt += 1
        return number

    def put(self, claim: Claim) -> set[str]:
        """Take a claim over, or what a service claims now; whose number that has changed."""
        changed = self.drop(claim.name) if claim.name in self._claims else set()
        self._claims[claim.name] = claim
        return changed | self._settle({claim.name})

    def drop(self, name: str) -> set[str]:
        """A service claims nothing any more."""
        if self._claims.get(name) is None:
            return set()
        before = {each: self.of(each) for each in self._displaced | {name}}
        self._release(name)
        del self._claims[name]
        again = set(self._displaced)
        for each in again:  # what was taken from them may be free now
            self._release(each)
        self._settle(again)
        return {each for each, number in before.items() if self.of(each) != number}

    def _release(self, name: str) -> None:
        number = self.of(name)
        if number is not None:
            del self._holders[number]
            del self._attempts[name]
        self._displaced.discard(name)

    def _settle(self, names: set[str]) -> set[str]:
        """Have these, which have no number, ask for one, and those whose number they take."""
        changed = set(names)
        waiting = sorted(names, key=lambda name: _order(self._claims[name]), reverse=True)
        while waiting:
            name = waiting.pop()
            loser = self._ask(name)
            if loser is not None:
                changed.add(loser)
                waiting.append(loser)
        return changed

    def _ask(self, name: str) -> str | None:
        """Give a service its first choice that no earlier claim has; who had it."""
        claim = self._claims[name]
        attempt = 0
        passed: set[int] = set()
        while True:
            number = _choice(claim, attempt, self._numbers)
            holder = self._holders.get(number)
            if holder is None or _order(claim) < _order(self._claims[holder]):
                break
            passed.add(number)
            attempt += 1
            if len(passed) == len(self._numbers):  # all are held by earlier claims
                self._displaced.add(name)
                return None
        self._holders[number] = name
        self._attempts[name] = attempt
        if attempt:
            self._displaced.add(name)
        else:
            self._displaced.discard(name)
        if holder is not None:
            del self._attempts[holder]
        return holder


def _order(claim: Claim) -> tuple[Rank, str]:
    return claim.rank, claim.name


def _choice(claim: Claim, attempt: int, numbers: range) -> int:
    if claim.wanted is not None and claim.wanted in numbers:
        if attempt == 0:
            return claim.wanted
        attempt -= 1
    return wished(claim.name, attempt, numbers)
