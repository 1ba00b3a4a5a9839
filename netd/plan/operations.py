"""Operations: what is to be done to the kernel, in order, each with its reason."""

from typing import Literal

import msgspec

from netd.plan.objects import Object

Verb = Literal["add", "change", "delete", "retire"]


class Operation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step of a plan.

    An `add` leaves alone what it finds: an observation tells whether that is as wanted. A
    changed ruleset keeps the elements of its sets.

    `object` is the wanted object, for `delete` and `retire` the one that has to go; `was` is
    what the kernel has now, where it is known. `retire` is a delete in two steps: the link is
    cut off and marked at once and removed later together with others, because removing one
    link alone costs the kernel about 20 ms.
    """

    verb: Verb
    object: Object
    reason: str
    was: Object | None = None

    def text(self) -> str:
        """One line, e.g. `add link nd-blue type bridge …`."""
        return f"{self.verb} {self.object.text()}"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An operation the kernel refused: `errno` as in errno(3), 0 when it was not the kernel."""

    operation: Operation
    errno: int
    message: str

    def text(self) -> str:
        return f"{self.operation.text()}: {self.message}"
