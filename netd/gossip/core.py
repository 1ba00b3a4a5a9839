"""The protocol core: one node of the cluster, without I/O."""

from collections.abc import Iterable, Iterator, Sequence

from netd.gossip.accusations import Accusations
from netd.gossip.changes import Changes
from netd.gossip.codec import Malformed, decode_packet, decode_request, encode
from netd.gossip.inbox import Inbox
from netd.gossip.inquiries import Inquiries
from netd.gossip.joining import Joining
from netd.gossip.keys import TABLE as KEYRING
from netd.gossip.keys import Keys, RingNotice
from netd.gossip.member import Member
from netd.gossip.membership import Membership
from netd.gossip.news import News
from netd.gossip.oneself import Oneself
from netd.gossip.parts import Parts
from netd.gossip.pings import Pings
from netd.gossip.post import Post
from netd.gossip.prober import Answerer, Prober
from netd.gossip.problems import Problems
from netd.gossip.proofs import Checker, Signer, Verify
from netd.gossip.quota import Quota
from netd.gossip.repair import Repair
from netd.gossip.replica import Replica
from netd.gossip.replication import Replication
from netd.gossip.requests import Declined
from netd.gossip.ring import Ring
from netd.gossip.sealing import SALT_BYTES, Opened, Seal, Sealer
from netd.gossip.settings import Settings
from netd.gossip.spreading import Spreading
from netd.gossip.standing import Standing
from netd.gossip.streams import StreamPings
from netd.gossip.suspicions import Suspicions
from netd.gossip.syncing import Syncing
from netd.gossip.timers import NEVER
from netd.gossip.values import (
    Address,
    Identity,
    NodeId,
    Output,
    Randomness,
    RecordChanged,
    Scope,
    State,
)
from netd.gossip.view import View


class Gossip:
    """Bytes and time go in by methods, what is to be done comes out by `take`.

    All times are monotonic seconds, but for `wall_s`, Unix time. `receive` and `serve` never
    raise, whatever they are given. After any input `take` has to be called, and `advance` when
    `next_timer_s` has come; being late does no harm beyond being late.
    """

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        ring: Ring,
        *,
        cluster_id: bytes,
        verify: Verify,
        random: Randomness,
        now_s: float,
        wall_s: float,
        sealer: Sealer | None = None,
    ) -> None:
        self.id = identity.id
        parts = self._parts = Parts(
            identity,
            settings,
            signer=Signer(identity, cluster_id),
            checker=Checker(verify, cluster_id),
            random=random,
            now_s=now_s,
            wall_s=wall_s,
        )
        self._followed = 0  # events that the core itself has looked at
        salt = random.randrange(1 << 8 * SALT_BYTES).to_bytes(SALT_BYTES, "big")
        self._sealer = sealer or Seal(identity.id, identity.epoch, cluster_id, ring, salt)
        news = self._news = News(settings.statements_queued_max)
        post = self._post = Post(parts, self._sealer, news)
        self._problems = Problems(parts)
        self._replica = Replica(parts)
        self._view = View(parts, self._replica)
        self._changes = Changes(parts, self._replica)
        spreading = self._spreading = Spreading(parts, post, news, self._changes)
        self._pings = Pings(parts, post, self._digests)
        self._suspicions = Suspicions(parts, self._pings, post)
        standing = Standing(parts, news, spreading, self._problems, self._suspicions, self)
        accusations = Accusations(parts, standing, self._suspicions)
        self._inquiries = Inquiries(parts, post)
        self._oneself = Oneself(parts, post, news, spreading, self._problems, standing)
        self._membership = Membership(
            parts, self._problems, standing, accusations, self._inquiries, self._oneself
        )
        self._streams = StreamPings(parts, self._membership, self._oneself)
        self._prober = Prober(parts, post, self._pings, accusations, self._streams, self._exchange)
        self._replication = Replication(
            parts, post, self._replica, self._view, self._changes, spreading, self._problems
        )
        self._quota = Quota(parts, self._replica, self._replication, self._problems)
        self._syncing = Syncing(parts, self._replica, self._replication)
        self._repair = Repair(
            parts,
            post,
            self._membership,
            self._inquiries,
            self._replica,
            self._replication,
            self._syncing,
        )
        self._keys = Keys(parts, self._sealer, self._replication, self._view, ring)
        self._joining = Joining(
            parts,
            post,
            self._membership,
            self._oneself,
            self._replication,
            self._syncing,
            self._keys,
            self._digests,
        )
        self._inbox = Inbox(
            parts,
            post,
            self._pings,
            self._membership,
            accusations,
            self._inquiries,
            self._prober,
            Answerer(parts, post, self._pings, self._digests),
            self._streams,
            self._replication,
            self._syncing,
            self._repair,
            self._joining,
            self._keys,
        )
        self._keys.tell()
        self._prober.start()
        self._joining.start()

    # Inputs

    def receive(self, data: bytes, source: Address, now_s: float) -> None:
        """A packet came from `source`."""
        parts = self._parts
        self._clock(now_s)
        counters = parts.counters
        counters["packets_received"] += 1
        counters["bytes_received"] += len(data)
        if self._oneself.yielded:
            return
        opened = self._sealer.open(data)
        if not isinstance(opened, Opened):
            counters["refused_" + opened.reason] += 1
            if opened.reason == "key":
                self._joining.unsealed(opened.sender)
            elif opened.reason == "epoch":
                self._inquiries.answer_late_run(opened.sender, source)
            return
        try:
            messages = decode_packet(opened.payload)
        except Malformed:
            counters["refused_malformed"] += 1
            return
        if opened.sender == self.id:
            if opened.epoch > parts.me.epoch:
                self._oneself.meet_clone(opened.epoch, f"{source[0]} port {source[1]}")
            return
        self._inbox.open(opened, messages, source)
        self._react()

    def serve(self, request: bytes, peer: NodeId, now_s: float) -> bytes:
        """The answer to a request that came over a stream from `peer`, whose id is proved."""
        self._clock(now_s)
        try:
            asked = decode_request(request)
        except Malformed as error:
            self._parts.counters["refused_malformed"] += 1
            return encode(Declined(f"malformed: {error}"[:200]))
        if self._oneself.yielded:
            return encode(Declined("this node is silent: another runs under its identity"))
        reply = self._inbox.serve(asked, peer)
        self._react()
        return encode(reply)

    def complete(self, number: int, reply: bytes | None, now_s: float) -> None:
        """A call has ended: with its reply, or None for any failure."""
        self._clock(now_s)
        self._parts.calls.complete(number, reply)
        self._react()

    def advance(self, now_s: float) -> None:
        """Run the timers that are due."""
        self._clock(now_s)
        if not self._oneself.yielded:
            self._parts.timers.run(self._parts.now_s)
            self._react()

    def set_wall(self, wall_s: float, now_s: float) -> None:
        """Tell the wall clock's time: it is told to others, and stamps changes of keys."""
        self._clock(now_s)
        self._parts.set_wall(wall_s)

    def join(self, addresses: Sequence[Address], now_s: float) -> None:
        """Ask to become a member at each address; one `JoinEnded` comes for each."""
        self._clock(now_s)
        for address in addresses:
            self._joining.join(address)
        self._react()

    def try_streams(self, now_s: float) -> None:
        """Ask some members over streams; a `StreamsTried` comes when all have answered or not."""
        self._clock(now_s)
        self._streams.try_some()

    def leave(self, now_s: float) -> None:
        """Tell everybody goodbye. To be driven for `leave_s` more, and stopped then."""
        self._clock(now_s)
        self._oneself.leave()

    def publish(
        self, scope: Scope, table: str, key: str, value: bytes | None, now_s: float
    ) -> None:
        """Set an own record, or delete it with None. A value's size is the caller's to keep."""
        self._clock(now_s)
        self._quota.publish(scope, table, key, value)
        self._react()

    def subscribe(self, scope: Scope, now_s: float) -> None:
        """Take part in a scope, and have what its members have, from one of them."""
        self._clock(now_s)
        self._replication.subscribe(scope)
        for member in self._members_of(scope):
            self._replication.tell(member)  # shows nothing to who is not in the scope
            self._syncing.fetch_all(member)
        # Once more when all know: that packet may be lost, or overtaken by the stream.
        self._parts.after(self._parts.settings.settle_s, lambda: self._fetch_scope(scope))
        self._react()

    def unsubscribe(self, scope: Scope, now_s: float) -> None:
        """Leave a scope: own records in it go, and others' are no longer kept here."""
        self._clock(now_s)
        self._replication.unsubscribe(scope)
        self._quota.leave(scope)
        for member in list(self._parts.members):
            self._view.refresh(member, scope)
        self._react()

    def renew(self, epoch: int, now_s: float) -> None:
        """Go on in a later epoch, which is durable by now."""
        self._clock(now_s)
        self._sealer.renew(epoch)
        self._oneself.renew(epoch)
        self._replica.renew_own()
        self._react()

    def install_key(self, secret: bytes, now_s: float) -> bytes:
        """Have all members accept a key; its id. Raises `keys.RingConflict`."""
        self._clock(now_s)
        return self._keys.install(secret)

    def use_key(self, key: bytes, now_s: float) -> None:
        """Have all members seal with it. Raises `keys.RingConflict`: somebody lacks it."""
        self._clock(now_s)
        self._keys.use(key)

    def remove_key(self, key: bytes, now_s: float) -> None:
        """Have all members drop it. Raises `keys.RingConflict`: somebody uses it."""
        self._clock(now_s)
        self._keys.remove(key)

    # Outputs

    def take(self) -> Output:
        """What there is to do since the last time."""
        parts, post = self._parts, self._post
        output = Output(post.out, parts.calls.out, parts.events)
        post.out, parts.calls.out, parts.events = [], [], []
        self._followed = 0
        counters = parts.counters
        for datagram in output.datagrams:
            counters["packets_sent"] += 1
            counters["bytes_sent"] += len(datagram.data)
        return output

    def next_timer_s(self) -> float:
        """When `advance` has something to do."""
        if self._oneself.yielded:
            return NEVER
        return self._parts.timers.next_s() + self._parts.paused_s

    # Reads

    @property
    def ring(self) -> Ring:
        return self._keys.ring

    @property
    def counters(self) -> dict[str, int]:
        return self._parts.counters

    @property
    def problems(self) -> dict[tuple[str, NodeId], str]:
        """What is wrong now: by code and node, in words."""
        return self._problems.open

    def levels(self) -> dict[str, int]:
        """Lengths of queues and tables."""
        return {
            "members": len(self._parts.members),
            "statements_queued": len(self._news),
            "changes_queued": len(self._changes),
            "logs": len(self._replica),
            "records_withheld": len(self._quota),
            "calls": len(self._parts.calls),
            "suspicions": len(self._suspicions),
            "health": self._parts.health.score,
        }

    def members(self) -> Iterable[Member]:
        """All that are known, this node first."""
        return iter(self._parts.members)

    def member(self, node: NodeId) -> Member | None:
        return self._parts.members.get(node)

    def shown(self, member: Member) -> State:
        """The state to show to people. Who reaches nobody at all cannot find a second accuser;
        he says of those whom he does not reach that they are dead.
        """
        members = self._parts.members
        alone = all(other.lost or not other.live or other is members.me for other in members)
        return State.DEAD if member.unreachable and alone else member.state

    def records(
        self, scope: Scope | None = None, table: str | None = None
    ) -> Iterator[RecordChanged]:
        """The visible records, all or those of a scope or table."""
        for record in self._view.records():
            if scope in (None, record.scope) and table in (None, record.table):
                yield record

    def rings(self) -> dict[NodeId, RingNotice]:
        """What the members tell of their keyrings."""
        return self._keys.notices()

    # Inside

    def _clock(self, now_s: float) -> None:
        """Set the core's time. It stands still while the node did not run: others' silence in
        that time is its own.
        """
        parts = self._parts
        due_s = parts.timers.next_s()
        late_s = now_s - (due_s + parts.paused_s)
        if late_s > parts.settings.stall_s:
            parts.paused_s += late_s
            parts.set_wall(parts.wall_ms() / 1000 + late_s)
            parts.health.worse()
            parts.counters["stalls"] += 1
        parts.now_s = max(parts.now_s, now_s - parts.paused_s)
        if late_s >= 0:
            # At the very time that `next_timer_s` told it is due, however sums are rounded.
            parts.now_s = max(parts.now_s, due_s)

    def _exchange(self, member: Member) -> None:
        self._joining.exchange(member)

    def _digests(self, peer: Member | None) -> tuple[int, int]:
        return self._repair.digests(peer)

    def _fetch_scope(self, scope: Scope) -> None:
        for member in self._members_of(scope):
            self._syncing.fetch_all(member)

    def _members_of(self, scope: Scope) -> list[Member]:
        """One of the others that are in a scope, if any is."""
        return self._parts.members.pick_in(scope, self._parts.random, 1)

    def _react(self) -> None:
        """Changes of records that the core itself follows; these may lead to further ones."""
        events = self._parts.events
        while self._followed < len(events):
            event = events[self._followed]
            self._followed += 1
            if not isinstance(event, RecordChanged):
                continue
            if event.table == KEYRING:
                self._keys.hear(event.value)

    # Implements standing.Follower

    def member_changed(self, member: Member) -> None:
        self._view.refresh_owner(member)

    def member_forgotten(self, member: Member) -> None:
        self._replication.forget(member.id)
        self._view.refresh_owner(member)
        self._sealer.forget(member.id, member.epoch)
