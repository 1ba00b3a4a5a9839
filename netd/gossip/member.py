"""One member as this node knows it."""

import msgspec

from netd.gossip.codec import address_of
from netd.gossip.messages import (
    GONE_MAX_S,
    Alive,
    Dead,
    Introduce,
    Left,
    MemberRow,
    Statement,
    Suspect,
)
from netd.gossip.tree import fingerprint
from netd.gossip.values import Address, NodeId, Scope, State

_UNHEARD = float("-inf")


class Member:
    """Who it is, what the cluster says of it, and what this node has measured.

    `proof` is the member's own statement that it is alive in `incarnation`, or has left; None
    where the incarnation is known from an accusation only. `state_since_s` is on the clock that
    the core is told, also across pauses of this node; for one that is gone it is when others have
    found that, `gone_s` before this node did. `unreachable`: this node has ended
    its suspicion without an answer, and nobody else accuses the member. `heard_s` is when a
    packet of its current run came last. `rtt_s` and `clock_offset_s` are None until measured;
    `udp_ok` and `tcp_ok` tell the last that is known of each way, None: nothing.
    """

    __slots__ = (
        "accusers",
        "address",
        "clock_offset_s",
        "fingerprint",
        "gone_s",
        "heard_s",
        "id",
        "incarnation",
        "introduction",
        "proof",
        "rtt_s",
        "scopes",
        "state",
        "state_since_s",
        "tcp_ok",
        "udp_ok",
        "unreachable",
    )

    def __init__(self, node: NodeId, introduction: Introduce, now_s: float) -> None:
        self.id = node
        self.state = State.ALIVE
        self.accusers: frozenset[NodeId] = frozenset()
        self.state_since_s = now_s
        self.gone_s = 0
        self.unreachable = False
        self.heard_s = _UNHEARD
        self.rtt_s: float | None = None
        self.clock_offset_s: float | None = None
        self.udp_ok: bool | None = None
        self.tcp_ok: bool | None = None
        self.scopes: frozenset[Scope] = frozenset()
        self.fingerprint = 0
        self.introduction = introduction
        self.proof: Introduce | Alive | Left | None = introduction
        self.incarnation = introduction.incarnation
        self.address: Address = address_of(introduction.host, introduction.port)

    @property
    def name(self) -> str:
        return self.introduction.name

    @property
    def epoch(self) -> int:
        return self.introduction.epoch

    @property
    def version(self) -> str:
        return self.introduction.version

    @property
    def protocol_min(self) -> int:
        return self.introduction.protocol_min

    @property
    def protocol_max(self) -> int:
        return self.introduction.protocol_max

    @property
    def public_key(self) -> bytes:
        return self.introduction.public_key

    @property
    def live(self) -> bool:
        """Whether it takes part: it is probed and gets gossip."""
        return self.state <= State.SUSPECT

    @property
    def hidden(self) -> bool:
        """Whether its records are kept from view."""
        return self.state >= State.DEAD or self.unreachable

    @property
    def lost(self) -> bool:
        """Whether this node tries to find it again."""
        return self.state == State.DEAD or self.unreachable

    def present(self, introduction: Introduce) -> None:
        """Take over what the member says of itself. Raises `Malformed`; nothing changed then."""
        self.address = address_of(introduction.host, introduction.port)
        self.introduction = introduction

    def statement(self) -> Statement | None:
        """The newest that is said of it; None when that is alive and its proof is not known."""
        if self.state == State.SUSPECT:
            return Suspect(self.id, self.epoch, self.incarnation, self.accuser_list)
        if self.state == State.DEAD:
            return Dead(self.id, self.epoch, self.incarnation, self.accuser_list)
        return self.proof

    def aged_statement(self, now_s: float) -> Statement | None:
        """The same with how long it has been gone, for those who hear of that late."""
        said = self.statement()
        if not isinstance(said, Dead | Left):
            return said
        gone_s = min(max(0, int(now_s - self.state_since_s)), GONE_MAX_S)
        return msgspec.structs.replace(said, gone_s=gone_s)

    @property
    def accuser_list(self) -> tuple[NodeId, ...]:
        return tuple(sorted(self.accusers))

    def row(self) -> MemberRow:
        return MemberRow(self.id, self.epoch, self.incarnation, int(self.state), self.accuser_list)

    def new_fingerprint(self) -> int:
        """Stands for all that members should agree on. Of the dead, accusers do not matter, of
        those who left the incarnation.
        """
        accusers = self.accuser_list if self.state == State.SUSPECT else ()
        incarnation = 0 if self.state == State.LEFT else self.incarnation
        numbers = b"%d,%d,%d," % (self.epoch, incarnation, self.state)
        return fingerprint(self.id, numbers, *accusers)
