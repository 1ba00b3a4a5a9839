"""Who owns which addresses of an overlay network, as one host knows and stores it, and what
hosts ask each other about it.
"""

from typing import Literal

import msgspec

from netd.model.overlay import MemberId


class Epoch(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """Which division of a network's addresses is in force. A later one is greater.

    A new one begins when addresses of dead hosts are taken over (`plan.ledger.finish`). Who did
    not take part in that owns nothing of the network in the new epoch. `id` is "" for the first.
    """

    number: int = 0
    id: str = ""


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch that `by` has begun to prepare in the epoch `base`, without the dead `members`:
    until it is in force or given up, blocks neither come nor go.
    """

    epoch: Epoch
    base: Epoch
    by: MemberId
    members: tuple[MemberId, ...]


class BlockRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A question for addresses that has not been answered, or whose answer was lost.

    `wanted` is the address that is asked for, "" for any block of `subnet`.
    """

    number: int
    donor: MemberId
    subnet: str
    wanted: str = ""


class Donation(msgspec.Struct, frozen=True, kw_only=True):
    """A block that was given away: to whom, on which request of theirs, in which epoch."""

    to: MemberId
    number: int
    prefix: str
    epoch: Epoch


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="ask"):
    """The question for a `BlockRequest`. `floor` is the asker's oldest number that is open."""

    network_id: str
    number: int
    floor: int
    epoch: Epoch
    subnet: str
    wanted: str = ""


Refusal = Literal[
    "fenced",  # while addresses of dead hosts are taken over, or when the asker is ahead
    "closed",  # the request has been answered
    "not-owned",  # the wanted address is somebody else's
    "held",  # the wanted address is in use
    "short",  # there is nothing to spare
    "unknown",  # there is no such network
]


class Given(msgspec.Struct, frozen=True, kw_only=True, tag="given"):
    """The answer to an `Ask`: the block is the asker's, in this epoch."""

    prefix: str
    epoch: Epoch


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The answer to an `Ask`: nothing. The asker is behind when `epoch` is greater than its."""

    why: Refusal
    epoch: Epoch = Epoch()


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """All that a host knows for certain about its own addresses in one network; durable.

    `member` is who owns `prefixes`: the host may be another member by now. `requests` are its own
    that are open, `donations` those that their recipients may ask for again; `floors` has for
    each member that has ever asked the number of its oldest request that may still be open.
    """

    network_id: str
    member: MemberId
    prefixes: tuple[str, ...] = ()
    epoch: Epoch = Epoch()
    fences: tuple[Fence, ...] = ()
    requests: tuple[BlockRequest, ...] = ()
    donations: tuple[Donation, ...] = ()
    floors: dict[MemberId, int] = {}
    next_number: int = 1


class Allotment(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns which addresses of a network whose blocks are in etcd, as etcd knows it.

    A host uses only what is its own here and in its ledger. So what a host gets is entered here
    first, and what it gives away is struck from its ledger first.
    """

    epoch: Epoch = Epoch()
    owned: dict[MemberId, tuple[str, ...]] = {}
