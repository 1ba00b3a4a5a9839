"""What the engine needs of whoever decides which networks span hosts, where that is not gossip."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from netd.model.blocks import Allotment
from netd.model.overlay import Kept

Propose = Callable[[Sequence[Kept], int], Kept | None]
"""What is to be there beside these networks, or which of them it is; None: nothing. The number is
greater than the generation of any network there was. May raise `NetdError`."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """All networks there are, as of `revision`: later decisions have greater ones.

    `turn` changes with each decision.
    """

    kept: tuple[Kept, ...]
    revision: int
    turn: int


class NetworkAuthority(Protocol):
    """Decides for all hosts which networks there are, and which host owns which addresses of
    them, one thing after the other.

    All raise `Unavailable` when it cannot be reached; what was asked for may have been done then.
    `identity` is "" before it has answered for the first time.
    """

    @property
    def identity(self) -> str: ...

    def trust(self, identity: str) -> None:
        """Ask nobody but the authority that had this identity."""
        ...

    async def define(self, propose: Propose) -> tuple[Kept | None, bool, int]:
        """Decide that there is what is proposed: that, whether it is new, and the revision.

        `propose` is called anew when somebody else was first.
        """
        ...

    async def end(self, kept: Kept) -> int:
        """Decide that this network is gone; the revision. Raises `Conflict` when its name is
        another's by now.
        """
        ...

    async def allot(
        self, name: str, network_id: str, step: Callable[[Allotment], Allotment]
    ) -> Allotment:
        """Let the allotment of a network go on by one step; the next one.

        `step` is called anew when somebody else was first. Raises `NotFound` when there is no
        such network any more.
        """
        ...

    async def look(self, turn: int | None) -> Decided | None:
        """What there is; None if that is the same as at that turn."""
        ...

    async def close(self) -> None: ...
