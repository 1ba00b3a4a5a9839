"""What must always be so, each as an object that is told what happens and raises `Violation`.

They know nothing of the simulator: `tests/sim/test_invariants.py` feeds each a history that
breaks it. The numbers are those of the list in `netd/gossip/ALGORITHM.md`.
"""


class Violation(AssertionError):
    """Something happened that must not; `number` is the invariant's."""

    def __init__(self, number: int, detail: str) -> None:
        super().__init__(f"({number}) {detail}")
        self.number = number
