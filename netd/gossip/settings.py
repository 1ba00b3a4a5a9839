"""Times, counts and limits of the protocol, and the formulas that depend on the cluster's size."""

import math
from typing import Final, Literal

import msgspec

Profile = Literal["lan", "fast", "wan"]

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 2
PROTOCOL_QUESTIONS: Final = 2  # from this version on a node answers questions to its engine


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One profile. Seconds end in `_s`; the rest are counts.

    The suspicion of a member ends after `suspicion_mult` * log10(n) probe intervals when
    `confirmations` other members have accused it too, `suspicion_max_mult` times later when
    none has (Lifeguard, arXiv 1707.00788, section IV.B).
    """

    probe_interval_s: float = 1.0
    probe_timeout_min_s: float = 0.1
    probe_timeout_max_s: float = 0.5
    helpers: int = 3  # members asked to ping on behalf of a prober
    nack_share: float = 0.8  # of the time a helper is given, after which it sends a nack
    # memberlist has 4: there a suspicion that runs out is a death. Here the member is asked again
    # in several ways at its end, and two have to miss it; `fast`, with half of this time and one
    # confirmation less, kills nobody either. Of 60 nodes all know of a crash after 0.7 s (until
    # one asks, the median) + 1 s (until that is in vain) + 5.3 s (this; 7.1 s with 4).
    suspicion_mult: float = 3.0
    suspicion_max_mult: float = 6.0
    confirmations: int = 2
    confirm_s: float = 1.0  # between the end of a suspicion and the verdict
    confirm_pings: int = 3  # in the first half of it
    accusers_min: int = 2  # without as many a member is not declared dead
    health_max: int = 8  # the local health multiplier stays below

    gossip_interval_s: float = 0.1  # of what the first burst has left; nothing is sent without news
    gossip_gap_s: float = 0.01  # at least this long between two bursts of news
    fanout: int = 3
    statement_copies_min: int = 8
    record_copies: int = 12  # fewer miss one node of 1,000 now and then, and repair is slower
    statements_queued_max: int = 2048
    logs_queued_max: int = 512

    members_repair_s: float = 5.0  # at most one comparison of members in this time
    logs_repair_s: float = 1.0
    settle_s: float = 0.5  # a difference this soon after a change is no reason to compare
    reconnect_s: float = 10.0
    leave_s: float = 1.0
    stall_s: float = 0.25  # a timer this late means that this node was not running

    dead_kept_s: float = 30 * 86_400.0  # so long a partition may be, and heal by itself
    left_kept_s: float = 86_400.0
    tombstone_kept_s: float = 3_600.0
    packet_max_bytes: int = 1_232  # IPv6's least MTU less IPv6 and UDP headers (RFC 8200)
    page_max_bytes: int = 64 << 10  # of records in one reply over a stream
    members_max: int = 8_192
    logs_max: int = 65_536
    own_records_max: int = 65_536  # live ones, in all scopes together
    own_bytes_max: int = 32 << 20  # of these
    # What others keep of one owner, as a multiple of that: there are tombstones, too, as many as
    # live records at the most, and not all of its logs are known as of the same time.
    kept_mult: int = 3
    calls_max: int = 16
    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX

    def suspicion_s(self, members: int, confirmed: int) -> float:
        """How long a suspicion lasts that `confirmed` members have confirmed since it began."""
        shortest = self.suspicion_mult * max(1.0, math.log10(members)) * self.probe_interval_s
        expected = min(self.confirmations, members - 2)
        if expected < 1:
            return shortest
        longest = shortest * self.suspicion_max_mult
        share = math.log(confirmed + 1) / math.log(expected + 1)
        return max(shortest, longest - (longest - shortest) * share)

    def statement_copies(self, members: int) -> int:
        """How often each member passes on one statement about a member."""
        return max(self.statement_copies_min, 4 * math.ceil(math.log10(members + 1)))


_PROFILES: Final[dict[Profile, Settings]] = {
    "lan": Settings(),
    "fast": Settings(
        probe_interval_s=0.5,
        probe_timeout_max_s=0.2,
        suspicion_mult=3.0,
        confirmations=1,
        confirm_s=0.75,
    ),
    "wan": Settings(
        probe_interval_s=5.0,
        probe_timeout_min_s=0.5,
        probe_timeout_max_s=3.0,
        suspicion_mult=6.0,
        confirm_s=6.0,
        gossip_interval_s=0.5,
        fanout=4,
        members_repair_s=15.0,
        logs_repair_s=3.0,
        settle_s=2.0,
        leave_s=3.0,
        stall_s=1.0,
    ),
}


def profile(name: Profile) -> Settings:
    """The settings of a named profile."""
    return _PROFILES[name]
