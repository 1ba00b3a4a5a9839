"""Clusters in memory: what one node says, the others know at once."""

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from netd.cluster.claims import Claims, is_claim
from netd.cluster.questions import Answers, body_of, question
from netd.cluster.views import check_scope
from netd.engine.interfaces import (
    GLOBAL_SCOPE,
    Answer,
    ClusterChange,
    ClusterHealth,
    MemberChange,
    PeerHealth,
    ProblemChange,
    Record,
    RecordChange,
)
from netd.model.errors import Conflict, Invalid, NotFound, Unavailable
from netd.model.views import (
    ClusterKey,
    JoinResult,
    Member,
    MemberState,
    ProtocolRange,
    Token,
)

CREATED_AT = "2026-01-02T03:04:05.000Z"
GONE = ("dead", "left")

RecordKey = tuple[bytes, str, str]  # scope, table, key


def key_id(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()[:8]


class Mesh:
    """All nodes there are, joined or not, by address."""

    def __init__(self) -> None:
        self.nodes: dict[str, MemoryCluster] = {}
        self.tokens: dict[str, MemoryCluster] = {}
        self.wall_s = 1_767_323_045.0  # Unix time, of stamps
        self.parted: set[frozenset[str]] = set()  # pairs of ids that cannot hear each other

    def cut(self, one: "MemoryCluster", other: "MemoryCluster") -> None:
        """They cannot hear each other any more, and find each other dead."""
        self._set_parted(one, other, parted=True)

    def heal(self, one: "MemoryCluster", other: "MemoryCluster") -> None:
        """They hear each other again."""
        self._set_parted(one, other, parted=False)

    def _set_parted(self, one: "MemoryCluster", other: "MemoryCluster", *, parted: bool) -> None:
        before = one.state_to(other), other.state_to(one)
        if parted:
            self.parted.add(frozenset((one.id, other.id)))
        else:
            self.parted.discard(frozenset((one.id, other.id)))
        if one in other.group:
            one.changed_for(other, before[0])
            other.changed_for(one, before[1])

    def node(
        self, name: str, secret: bytes | None = None, node_id: str = "", *, bound: bool = True
    ) -> "MemoryCluster":
        """A new node, on its own; one that is not `bound` listens nowhere until it joins."""
        address = f"10.0.0.{len(self.nodes) + 1}:7940"
        node = MemoryCluster(self, name, address, node_id or _id_of(address), secret)
        node.bound = bound
        self.nodes[address] = node
        return node


class MemoryCluster:
    """Implements `netd.engine.interfaces.Cluster`. `group` has the nodes it has joined."""

    def __init__(
        self, mesh: Mesh, name: str, address: str, node_id: str, secret: bytes | None
    ) -> None:
        self.id = node_id
        self.mesh = mesh
        self.name = name
        self.address = address
        self.version = "1"
        self.bound = True
        self.state: MemberState = "alive"
        self.incarnation = 0
        self.rtt_ms = 0.5  # that others measure
        self.group: list[MemoryCluster] = [self]
        self.ring: dict[str, bytes] = {} if secret is None else {key_id(secret): secret}
        self.primary = next(iter(self.ring), "")
        self.cut_off = False  # gets no new keys
        self.published: dict[RecordKey, bytes] = {}
        self.scopes: set[bytes] = {GLOBAL_SCOPE}
        self.problems: dict[tuple[str, str], ProblemChange] = {}
        self.known: ClusterHealth | None = None  # what `health` answers, where a test says it
        self.closed = False
        self.host_up = False  # whether there is a kernel when the node is dead
        self._watchers: list[Callable[[ClusterChange], None]] = []
        self._next_token = 0
        self._claims = Claims(node_id)
        self._answers = Answers()

    # What tests make happen

    def becomes(self, state: MemberState) -> None:
        """All others find this node in another state."""
        before = {other.id: self.state_to(other) for other in self._others()}
        self.state = state
        for other in self._others():
            self.changed_for(other, before[other.id])

    def moves(self, address: str) -> None:
        """All others find this node at another address."""
        del self.mesh.nodes[self.address]
        self.address = address
        self.mesh.nodes[address] = self
        for other in self._others():
            if self.shows_to(other):
                other.tell(MemberChange(member=self.seen_by(other), before=self.state))

    def is_called(self, name: str) -> None:
        """All others learn another name of this node."""
        self.name = name
        for other in self._others():
            if self.shows_to(other):
                other.tell(MemberChange(member=self.seen_by(other), before=self.state))

    def finds(self, problem: ProblemChange) -> None:
        if problem.detail:
            self.problems[problem.code, problem.about] = problem
        else:
            self.problems.pop((problem.code, problem.about), None)
        self.tell(problem)

    def tell(self, change: ClusterChange) -> None:
        for notify in list(self._watchers):
            notify(change)

    # How they find each other

    def state_to(self, viewer: "MemoryCluster") -> MemberState:
        """What `viewer` takes this node for."""
        parted = frozenset((self.id, viewer.id)) in self.mesh.parted
        return "dead" if parted and self.state != "left" else self.state

    def shows_to(self, viewer: "MemoryCluster") -> bool:
        """Whether `viewer` sees records of this node."""
        return self is viewer or self.state_to(viewer) not in GONE

    def changed_for(self, viewer: "MemoryCluster", before: MemberState) -> None:
        """`viewer` has taken this node for `before`."""
        now = self.state_to(viewer)
        if now == before:
            return
        viewer.tell(MemberChange(member=self.seen_by(viewer), before=before))
        if before not in GONE and now in GONE:
            self._hide_from(viewer)
        if before in GONE and now not in GONE:
            self._show_to(viewer)

    # The protocol

    def members(self) -> tuple[Member, ...]:
        others = sorted(self._others(), key=lambda node: (node.name, node.id))
        return tuple(node.seen_by(self) for node in [self, *others])

    def seen_by(self, viewer: "MemoryCluster") -> Member:
        own = viewer is self
        return Member(
            id=self.id,
            name=self.name,
            address=self.address if self.bound else "",
            state=self.state_to(viewer),
            rtt_ms=0.0 if own else self.rtt_ms,
            version=self.version,
            reachable=self.state_to(viewer) in ("alive", "suspect"),
            incarnation=self.incarnation,
            protocol=ProtocolRange(min=1, max=1, current=1),
            clock_offset_ms=0.0 if own else 1.5,
            created_at=CREATED_AT,
            since=CREATED_AT,
        )

    async def join(self, addresses: Sequence[str], token: str | None) -> tuple[JoinResult, ...]:
        if token is not None and not token.startswith("netd1."):
            raise Invalid("not a join token", field="token")
        issuer = self.mesh.tokens.get(token) if token is not None else None
        if issuer is not None and not addresses:
            addresses = (issuer.address,)
        return tuple(self._join(address, index, issuer) for index, address in enumerate(addresses))

    def _join(self, written: str, index: int, issuer: "MemoryCluster | None") -> JoinResult:
        host, _, port = written.partition(":")
        if not host or not (port or "7940").isdecimal():
            raise Invalid(f"{written!r} is not an address", field=f"addresses[{index}]")
        address = f"{host}:{port or 7940}"
        peer = self.mesh.nodes.get(address)
        if peer is None or not peer.shows_to(self):
            return JoinResult(address=address, error="no answer within 5 s")
        if peer is issuer and not self.ring:
            self.ring, self.primary = dict(peer.ring), peer.primary
        if peer.primary != self.primary:
            return JoinResult(address=address, error="it has another key")
        if peer not in self.group:
            self._merge(peer)
        return JoinResult(address=address)

    def _merge(self, peer: "MemoryCluster") -> None:
        self.bound = True
        ours, theirs = self.group, peer.group
        for node in (whole := ours + theirs):
            node.group = whole
        for here, there in [(a, b) for a in ours for b in theirs]:
            here.tell(MemberChange(member=there.seen_by(here)))
            there.tell(MemberChange(member=here.seen_by(there)))
            if here.shows_to(there):
                here._show_to(there)
            if there.shows_to(here):
                there._show_to(here)

    async def leave(self) -> None:
        others = self._others()
        self.group = [self]
        for other in others:
            before = other.state_to(self)
            if other.shows_to(self):
                other._hide_from(self)
            gone = msgspec.structs.replace(other.seen_by(self), state="left")
            self.tell(MemberChange(member=gone, before=before))
        state = self.state
        seen = {other.id: self.state_to(other) for other in others}
        self.state = "left"
        for other in others:
            self.changed_for(other, seen[other.id])
        self.state = state
        for other in others:
            other.group = others

    def keys(self) -> tuple[ClusterKey, ...]:
        ids = sorted(self.ring, key=lambda key: (key != self.primary, key))
        return tuple(map(self._key, ids))

    async def install_key(self, secret: bytes | None) -> ClusterKey:
        secret = secret or hashlib.sha256(str(len(self.ring)).encode()).digest()
        if len(secret) != 32:
            raise Invalid(f"a key has 32 bytes, not {len(secret)}", field="secret")
        for node in self.group:
            if not node.cut_off:
                node.ring[key_id(secret)] = secret
                node.primary = node.primary or key_id(secret)
        return self._key(key_id(secret))

    async def use_key(self, key_id: str) -> ClusterKey:
        self._demand(key_id)
        lacking = [node.name for node in self.group if key_id not in node.ring]
        if lacking:
            raise Conflict(f"not yet on {', '.join(lacking)}")
        for node in self.group:
            node.primary = key_id
        return self._key(key_id)

    async def remove_key(self, key_id: str) -> None:
        self._demand(key_id)
        users = [node.name for node in self.group if node.primary == key_id]
        if users:
            raise Conflict(f"{', '.join(users)} send with it")
        for node in self.group:
            node.ring.pop(key_id, None)

    async def issue_token(self, expires_s: int, uses: int) -> Token:
        if not self.ring:
            raise Unavailable("this node has no key")
        self._next_token += 1
        text = f"netd1.{self.name}-{self._next_token}"
        self.mesh.tokens[text] = self
        return Token(token=text, expires_at=CREATED_AT, uses=uses)

    def publish(self, records: Sequence[Record]) -> None:
        for record in records:
            key = (record.scope, record.table, record.key)
            if record.value is None:
                self.published.pop(key, None)
            else:
                self.published[key] = record.value
            for node in self._readers(record.scope):
                node._see(self, key, record.value)

    def subscribe(self, scope: bytes) -> None:
        check_scope(scope)
        if scope in self.scopes:
            return
        self.scopes.add(scope)
        for other in self._others():
            if scope not in other.scopes:
                continue
            if other.shows_to(self):
                other._show_to(self, scope)
            if self.shows_to(other):
                self._show_to(other, scope)

    def unsubscribe(self, scope: bytes) -> None:
        check_scope(scope)
        if scope not in self.scopes:
            return
        own = [key for key in self.published if key[0] == scope]
        self.publish([Record(scope=s, table=t, key=k, value=None) for s, t, k in own])
        for other in self._others():
            if scope in other.scopes and other.shows_to(self):
                other._hide_from(self, scope)
        self.scopes.discard(scope)

    def claim(
        self, table: str, key: str, body: bytes, *, stamp_ms: int | None = None, origin: str = ""
    ) -> None:
        now_ms = int(self.mesh.wall_s * 1000)
        self.publish([self._claims.record(table, key, body, stamp_ms, origin, now_ms)])

    def withdraw(self, table: str, key: str) -> None:
        self.publish([self._claims.withdrawal(table, key)])

    async def ask(self, member: str, topic: str, body: bytes, timeout_s: float) -> bytes:
        asked = question(topic, body, timeout_s)
        node = self._reached(member)
        reply = await node._answers.reply(self.id, asked)
        self._reached(member)  # or the answer is lost
        return body_of(reply)

    async def host_answers(self, member: str) -> bool:
        node = next((node for node in self.mesh.nodes.values() if node.id == member), None)
        parted = frozenset((self.id, member)) in self.mesh.parted
        return node is not None and node.host_up and not parted

    def answer(self, topic: str, answer: Answer) -> None:
        self._answers.put(topic, answer)

    def records(self) -> tuple[RecordChange, ...]:
        return tuple(
            node._change(key, value)
            for node in self.group
            if node.shows_to(self)
            for key, value in node.published.items()
            if node is self or key[0] in self.scopes & node.scopes
        )

    def watch(self, notify: Callable[[ClusterChange], None]) -> Callable[[], None]:
        self._watchers.append(notify)
        for node in self.group:
            notify(MemberChange(member=node.seen_by(self)))
        for record in self.records():
            if not is_claim(record):
                notify(record)
        for claim in self._claims.all():
            notify(claim)
        for problem in self.problems.values():
            notify(problem)
        return lambda: self._watchers.remove(notify)

    async def look(self) -> None:
        """There is nothing that is not known."""

    def health(self) -> ClusterHealth:
        if self.known is not None:
            return self.known
        peers = tuple(
            PeerHealth(
                id=node.id,
                name=node.name,
                address=node.address,
                state=node.state_to(self),
                udp_ok=node.state_to(self) == "alive",
                tcp_ok=node.state_to(self) == "alive",
                clock_offset_s=0.0,
                version=node.version,
                protocol_min=1,
                protocol_max=1,
                keys_missing=tuple(sorted(self.ring.keys() - node.ring.keys())),
            )
            for node in self._others()
        )
        return ClusterHealth(
            bound=self.address if self.bound else "",
            advertised=self.address if self.bound else "",
            secured=bool(self.ring),
            primary=self.primary,
            protocol_min=1,
            protocol_max=1,
            peers=peers,
            problems=tuple(self.problems.values()),
            refused={"key": 0},
            queued={"statements": 0},
        )

    def counters(self) -> dict[str, int]:
        return {"packets_sent": 0}

    def levels(self) -> dict[str, int]:
        return {"records": sum(len(node.published) for node in self.group)}

    async def close(self) -> None:
        self.closed = True
        self.becomes("dead")

    def _others(self) -> list["MemoryCluster"]:
        return [node for node in self.group if node is not self]

    def _readers(self, scope: bytes) -> list["MemoryCluster"]:
        """Who sees this node's records of the scope; itself, also when it is not in it."""
        return [
            node
            for node in self.group
            if node is self
            or (self.shows_to(node) and scope in self.scopes and scope in node.scopes)
        ]

    def _show_to(self, other: "MemoryCluster", scope: bytes | None = None) -> None:
        """`other` comes to see the records, all or those of a scope."""
        for key, value in self._common(other, scope):
            other._see(self, key, value)

    def _hide_from(self, other: "MemoryCluster", scope: bytes | None = None) -> None:
        for key, _ in self._common(other, scope):
            other._see(self, key, None)

    def _common(self, other: "MemoryCluster", scope: bytes | None) -> list[tuple[RecordKey, bytes]]:
        scopes = self.scopes & other.scopes
        return [
            (key, value)
            for key, value in self.published.items()
            if key[0] in scopes and scope in (None, key[0])
        ]

    def _see(self, owner: "MemoryCluster", key: RecordKey, value: bytes | None) -> None:
        change = owner._change(key, value)
        if is_claim(change):
            settled = self._claims.put(change)
            if settled is not None:
                self.tell(settled)
        else:
            self.tell(change)

    def _reached(self, member: str) -> "MemoryCluster":
        node = next((node for node in self.group if node.id == member), None)
        if node is None:
            raise Unavailable(f"{member} is not a member")
        if not node.shows_to(self) or node.closed or self.closed:
            raise Unavailable(f"{node.name} does not answer")
        return node

    def _change(self, key: RecordKey, value: bytes | None) -> RecordChange:
        scope, table, name = key
        return RecordChange(owner=self.id, scope=scope, table=table, key=name, value=value)

    def _demand(self, key_id: str) -> None:
        if key_id not in self.ring:
            raise NotFound(f"there is no key {key_id}")

    def _key(self, key_id: str) -> ClusterKey:
        return ClusterKey(
            id=key_id,
            primary=key_id == self.primary,
            holders=tuple(node.name for node in self.group if key_id in node.ring),
            users=tuple(node.name for node in self.group if node.primary == key_id),
            created_at=CREATED_AT,
        )


def _id_of(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:32]
