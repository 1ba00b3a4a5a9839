"""Becoming a member, and finding members again that were lost."""

from collections.abc import Callable

from netd.gossip.codec import Malformed, decode_reply
from netd.gossip.keys import Keys, ring_of
from netd.gossip.member import Member
from netd.gossip.membership import Membership
from netd.gossip.messages import Alive, Dead, Left, Ping, Statement, Suspect
from netd.gossip.oneself import Oneself
from netd.gossip.parts import Parts
from netd.gossip.pings import Digests
from netd.gossip.post import Post
from netd.gossip.replication import Replication
from netd.gossip.requests import Declined, Join, Welcome
from netd.gossip.syncing import Syncing
from netd.gossip.values import Address, JoinEnded, NodeId, State, node_id_of

_TIMEOUT_S = 10.0
_UNSEALED_S = 5.0
Ended = Callable[[str], None]


class Joining:
    """Joins by streams: they do not depend on the keys that packets are sealed with."""

    def __init__(
        self,
        parts: Parts,
        post: Post,
        membership: Membership,
        oneself: Oneself,
        replication: Replication,
        syncing: Syncing,
        keys: Keys,
        digests: Digests,
    ) -> None:
        self._parts = parts
        self._post = post
        self._membership = membership
        self._oneself = oneself
        self._replication = replication
        self._syncing = syncing
        self._keys = keys
        self._digests = digests
        self._unsealed_s = parts.now_s - _UNSEALED_S
        self._exchanged_s = parts.now_s - parts.settings.members_repair_s
        self._reconnecting: set[NodeId] = set()

    def start(self) -> None:
        parts = self._parts
        parts.after(parts.jitter(parts.settings.reconnect_s), self._reconnect)

    def join(self, address: Address) -> None:
        """Ask whoever is at `address`; a `JoinEnded` tells how that went."""
        self._replication.begin()

        def ended(error: str) -> None:
            self._parts.events.append(JoinEnded(address, error))

        self._call(address, None, ended)

    def unsealed(self, sender: NodeId) -> None:
        """A packet came that is sealed with an unknown key, perhaps from a member: one of the
        two has missed a change of keys. Streams tell which.
        """
        parts = self._parts
        member = parts.members.get(sender)
        if member is None or parts.now_s - self._unsealed_s < _UNSEALED_S:
            return
        self._unsealed_s = parts.now_s
        self._call_lost(member)

    def exchange(self, member: Member) -> None:
        """Have by a stream what others have by packets, which do not reach this member: who is
        there, and the records. Rarely, as it is all that the member knows.
        """
        parts = self._parts
        if parts.now_s - self._exchanged_s >= parts.settings.members_repair_s:
            self._exchanged_s = parts.now_s
            parts.counters["exchanges"] += 1
            self._call_lost(member)

    def _reconnect(self) -> None:
        """Try one member that was lost. All members together try each about once an interval."""
        parts = self._parts
        lost = list(parts.members.lost)
        delay_s = parts.settings.reconnect_s
        if lost:
            member = parts.members.get(lost[parts.random.randrange(len(lost))])
            if member is not None:
                # Packets may get through where streams do not, and the other way about.
                accusation = member.statement()
                ping = Ping(0, member.id, *self._digests(member))
                messages = (ping,) if accusation is None else (accusation, ping)
                self._post.send(member.address, *messages)
                self._call_lost(member)
            delay_s *= max(1.0, parts.members.live_count / len(lost))
        parts.after(parts.jitter(min(delay_s, parts.settings.reconnect_s * 64)), self._reconnect)

    def _call_lost(self, member: Member) -> None:
        if member.id in self._reconnecting:
            return
        self._reconnecting.add(member.id)
        self._call(member.address, member.id, lambda _error: self._reconnecting.discard(member.id))

    def _call(self, address: Address, node: NodeId | None, ended: Ended) -> None:
        parts, me = self._parts, self._parts.me
        accusation: Suspect | Dead | None = None
        if node is not None and (member := parts.members.get(node)) is not None:
            statement = member.statement()
            if isinstance(statement, Suspect | Dead):
                accusation = statement
        alive = me.proof if isinstance(me.proof, Alive) else None
        request = Join(me.introduction, alive, accusation)
        parts.counters["joins"] += 1
        made = parts.calls.make(
            address, node, request, lambda reply: self._welcomed(reply, ended), _TIMEOUT_S
        )
        if not made:
            ended("too many requests wait already")

    def _welcomed(self, reply: bytes | None, ended: Ended) -> None:
        parts = self._parts
        if reply is None:
            ended("no answer")
            return
        try:
            welcome = decode_reply(reply)
        except Malformed:
            parts.counters["refused_malformed"] += 1
            ended("the answer is malformed")
            return
        if not isinstance(welcome, Welcome):
            if isinstance(welcome, Declined) and welcome.over:
                self._oneself.hear_forgotten()
            detail = welcome.detail if isinstance(welcome, Declined) else "an unexpected answer"
            ended(detail)
            return
        self._keys.adopt(ring_of(welcome.ring))
        self._membership.hear_quietly(welcome.statements)
        self._oneself.welcomed()
        ended("")
        host = parts.members.get(welcome.host)
        if host is not None and host is not parts.me:
            host.tcp_ok = True
            self._syncing.fetch_all(host)

    def serve(self, request: Join, peer: NodeId) -> Welcome | Declined:
        """Take a node in, or back."""
        parts = self._parts
        said = request.introduction
        if node_id_of(said.public_key) != peer:
            return Declined("the introduction is another node's")
        if peer == parts.me.id:
            return Declined("this is the node itself, or a copy of its state folder")
        if self._oneself.leaving:
            return Declined("the node is leaving")
        settings = parts.settings
        if said.protocol_min > settings.protocol_max or said.protocol_max < settings.protocol_min:
            return Declined(
                f"protocol versions {settings.protocol_min} to {settings.protocol_max} are "
                f"spoken here, not {said.protocol_min} to {said.protocol_max}"
            )
        if parts.members.is_forgotten(peer, said.epoch):
            return Declined("this run of the node is forgotten: it begins another", over=True)
        self._replication.begin()
        self._membership.hear(said, None)
        for statement in (request.alive, request.accusation):
            if statement is not None:
                self._membership.hear(statement, None)
        member = parts.members.get(peer)
        if member is None:
            return Declined("the cluster has as many members as it can, or a signature is wrong")
        # A later run is known: the answer has its introduction, for the node to see.
        if member.epoch == said.epoch and member.state == State.LEFT:
            return Declined("this run of the node has left; restart it")
        member.tcp_ok = True
        return Welcome(tuple(self._all_statements()), self._keys.row(), parts.me.id)

    def _all_statements(self) -> list[Statement]:
        """Introductions first, so that the rest is about members that are known by then."""
        introductions: list[Statement] = []
        others: list[Statement] = []
        for member in self._parts.members:
            introductions.append(member.introduction)
            statement = member.aged_statement(self._parts.monotonic_s)
            if isinstance(statement, Alive | Left | Suspect | Dead):
                others.append(statement)
        return introductions + others
