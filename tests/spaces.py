"""What tests say of sets of addresses."""

from collections.abc import Sequence
from itertools import combinations

from netd.plan.space import Space


def disjoint(spaces: Sequence[Space]) -> bool:
    """Whether no address is in two of them."""
    return not any(one & other for one, other in combinations(spaces, 2))
