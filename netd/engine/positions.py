"""Where hosts are in a space in which times there and back are distances; without I/O.

Each host measures its own distances only and tells where it takes itself to be. From what the
others have told it moves to where its distances are met best: the step that each takes is that of
SMACOF (De Leeuw 1977), which brings all of them closer to what was measured even when all move at
once. Positions say something of two hosts neither of which is this one.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Final

from netd.model.position import DIMENSIONS, FARTHEST_S, Position, Vector

_BEGIN_S: Final = 1e-4  # where a host begins, at the most, in each dimension
_PART: Final = 0.1  # of the usual distance: a smaller move is not told
_LEAST_S: Final = 2e-4


def beginning(node_id: str) -> Position:
    """Where a host begins: everybody somewhere else, or nobody would know where to move."""
    digest = hashlib.sha256(node_id.encode()).digest()
    vector = tuple((byte / 127.5 - 1) * _BEGIN_S for byte in digest[:DIMENSIONS])
    return Position(vector=vector, error=1.5)


def moved(own: Position, others: Sequence[tuple[Vector, float]]) -> Position:
    """A step towards where the distances (in seconds) to others are what was measured."""
    if not others:
        return own
    total = list(own.vector)
    for vector, distance_s in others:
        apart_s = distance(own.vector, vector)
        for at, (here, there) in enumerate(zip(own.vector, vector, strict=True)):
            direction = (here - there) / apart_s if apart_s else float(at == 0)
            total[at] += there + distance_s * direction
    count = len(others) + 1
    vector = tuple(max(-FARTHEST_S, min(FARTHEST_S, each / count)) for each in total)
    return Position(vector=vector, error=_error(vector, others))


def is_news(told: Position | None, now: Position, distances_s: Iterable[float]) -> bool:
    """Whether a host has moved so far that the others should know."""
    if told is None:
        return True
    known = sorted(distances_s)
    usual_s = known[len(known) // 2] if known else 0.0
    return distance(told.vector, now.vector) > max(_LEAST_S, usual_s * _PART)


def distance(first: Vector, second: Vector) -> float:
    return math.dist(first, second)


def _error(vector: Vector, others: Sequence[tuple[Vector, float]]) -> float:
    """The usual part by which a distance is wrong, as Consul's clients know it: up to 1.5."""
    wrong = sorted(
        abs(distance(vector, there) - distance_s) / max(distance_s, _LEAST_S)
        for there, distance_s in others
    )
    return min(1.5, round(wrong[len(wrong) // 2], 3))
