"""Where hosts are in a space in which times there and back are distances."""

from typing import Annotated, Final

import msgspec

DIMENSIONS: Final = 8  # as Consul's clients expect
FARTHEST_S: Final = 60.0

_Place = Annotated[float, msgspec.Meta(ge=-FARTHEST_S, le=FARTHEST_S)]
Vector = tuple[float, ...]


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds in each dimension. `error` is the part by which distances from there are wrong."""

    vector: Annotated[
        tuple[_Place, ...], msgspec.Meta(min_length=DIMENSIONS, max_length=DIMENSIONS)
    ]
    error: Annotated[float, msgspec.Meta(ge=0, le=10)]
