"""What is done with each message and each request, by its kind and by who sent it."""

from collections.abc import Callable
from typing import Any, Final

from netd.gossip.accusations import Accusations
from netd.gossip.inquiries import Inquiries
from netd.gossip.joining import Joining
from netd.gossip.keys import Keys
from netd.gossip.member import Member
from netd.gossip.membership import Membership
from netd.gossip.messages import (
    Ack,
    Alive,
    Compare,
    Dead,
    Delta,
    Head,
    Introduce,
    Left,
    LogRows,
    MemberRows,
    Message,
    Nack,
    Ping,
    PingRequest,
    Query,
    Statement,
    Suspect,
    TooDifferent,
    Want,
)
from netd.gossip.parts import Parts
from netd.gossip.pings import Pings
from netd.gossip.post import Post
from netd.gossip.prober import Answerer, Prober
from netd.gossip.repair import Repair
from netd.gossip.replication import Replication
from netd.gossip.requests import Declined, FetchRing, Join, Reply, Request, RingReply, StreamPing
from netd.gossip.sealing import Opened
from netd.gossip.streams import StreamPings
from netd.gossip.syncing import Syncing
from netd.gossip.values import Address, NodeId, State

Handler = Callable[[Any, Member, Address], object]

_STATEMENTS: Final = frozenset({Introduce, Alive, Suspect, Dead, Left})


class Inbox:
    """Hands messages to the parts of the core that they concern."""

    def __init__(
        self,
        parts: Parts,
        post: Post,
        pings: Pings,
        membership: Membership,
        accusations: Accusations,
        inquiries: Inquiries,
        prober: Prober,
        answerer: Answerer,
        streams: StreamPings,
        replication: Replication,
        syncing: Syncing,
        repair: Repair,
        joining: Joining,
        keys: Keys,
    ) -> None:
        self._parts = parts
        self._post = post
        self._pings = pings
        self._membership = membership
        self._accusations = accusations
        self._inquiries = inquiries
        self._answerer = answerer
        self._streams = streams
        self._replication = replication
        self._syncing = syncing
        self._repair = repair
        self._joining = joining
        self._keys = keys
        # What only members are heard with.
        self._handlers: dict[type[Message], Handler] = {
            Nack: lambda nack, sender, _: prober.nack(nack.sequence, sender),
            PingRequest: answerer.help,
            Head: self._head,
            Want: lambda want, sender, source: replication.answer(want.rows, sender, source),
            Compare: repair.compare,
            MemberRows: repair.member_rows,
            LogRows: repair.log_rows,
            TooDifferent: lambda _, sender, __: repair.too_different(sender),
        }

    def open(self, opened: Opened, messages: list[Message], source: Address) -> None:
        """Look into a packet that is what it claims to be."""
        sender, known = self._sender(opened, source)
        if not known:
            return
        beside: list[Message] = []  # what the answer to a ping has to tell
        for message in messages:
            if type(message) in _STATEMENTS:
                self._state(message, source, beside)  # type: ignore[arg-type]
            elif isinstance(message, Ping):
                self._ping(message, sender, source, beside)
            elif isinstance(message, Ack):
                self._pings.answer(message, sender)
                if sender is not None and sender.id == message.target:
                    self._repair.notice(sender, message.members, message.records)
            elif isinstance(message, Query):
                known_ones = [s for node in message.ids for s in self._membership.known(node)]
                self._post.send_many(source, known_ones)
            elif isinstance(message, Delta):
                self._replication.hear_delta(message, sender)
            elif sender is None:
                self._parts.counters["refused_stranger"] += 1
            else:
                self._handlers[type(message)](message, sender, source)

    def serve(self, asked: Request, peer: NodeId) -> Reply:
        """The answer to a request over a stream."""
        if isinstance(asked, Join):
            return self._joining.serve(asked, peer)
        if isinstance(asked, StreamPing):
            return self._streams.serve(asked)
        member = self._parts.members.get(peer)
        if member is None or not member.live:
            return Declined("join first")
        if isinstance(asked, FetchRing):
            return RingReply(self._keys.row())
        return self._syncing.serve(asked, member)

    def _sender(self, opened: Opened, source: Address) -> tuple[Member | None, bool]:
        """The member that sent it, None for a stranger; and whether it is to be read at all."""
        parts = self._parts
        sender = parts.members.get(opened.sender)
        if sender is not None and opened.epoch < sender.epoch:
            parts.counters["refused_epoch"] += 1
            self._inquiries.answer_late_run(opened.sender, source)
            return None, False
        if sender is None or opened.epoch > sender.epoch:
            # Nobody known, or a member that has started anew: who is it?
            if parts.members.is_forgotten(opened.sender, opened.epoch):
                self._inquiries.answer_forgotten(opened.sender, opened.epoch, source)
            else:
                self._inquiries.ask_about(opened.sender, source)
            return None, True
        self._accusations.heard_from(sender)
        return sender, True

    def _state(self, statement: Statement, source: Address, beside: list[Message]) -> None:
        self._membership.hear(statement, source)
        me = self._parts.me
        accused = isinstance(statement, Suspect | Dead) and statement.id == me.id
        if accused and isinstance(me.proof, Alive):
            beside[:] = [me.proof]  # it says the contrary

    def _ping(
        self, ping: Ping, sender: Member | None, source: Address, beside: list[Message]
    ) -> None:
        if sender is not None and sender.state != State.ALIVE:
            accusation = sender.statement()
            if accusation is not None and accusation not in beside:
                beside.append(accusation)
        self._answerer.ping(ping, sender, source, beside)
        if sender is not None:
            self._repair.notice(sender, ping.members, ping.records)

    def _head(self, head: Head, sender: Member, _: Address) -> None:
        holder = self._replication.hear_head(head, sender)
        if holder is not None:
            self._syncing.fetch(holder, (head.owner, head.scope))
