"""Clusters in memory: what one node says, the others know at once."""

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from netd.engine.interfaces import (
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
        self.group: list[MemoryCluster] = [self]
        self.ring: dict[str, bytes] = {} if secret is None else {key_id(secret): secret}
        self.primary = next(iter(self.ring), "")
        self.cut_off = False  # gets no new keys
        self.published: dict[RecordKey, bytes] = {}
        self.problems: dict[tuple[str, str], ProblemChange] = {}
        self.known: ClusterHealth | None = None  # what `health` answers, where a test says it
        self.closed = False
        self._watchers: list[Callable[[ClusterChange], None]] = []
        self._next_token = 0

    # What tests make happen

    def becomes(self, state: MemberState) -> None:
        """All others find this node in another state."""
        before, self.state = self.state, state
        for other in self._others():
            if before not in GONE and state in GONE:
                self._hide_from(other)
            other.tell(MemberChange(member=self.seen_by(other), before=before))
            if before in GONE and state not in GONE:
                self._show_to(other)

    def moves(self, address: str) -> None:
        """All others find this node at another address."""
        del self.mesh.nodes[self.address]
        self.address = address
        self.mesh.nodes[address] = self
        for other in self._others():
            other.tell(MemberChange(member=self.seen_by(other), before=self.state))

    def is_called(self, name: str) -> None:
        """All others learn another name of this node."""
        self.name = name
        for other in self._others():
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
            state=self.state,
            rtt_ms=0.0 if own else 0.5,
            version=self.version,
            reachable=self.state == "alive",
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
        if peer is None or peer.state in GONE:
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
            here._show_to(there)
            there._show_to(here)

    async def leave(self) -> None:
        others = self._others()
        self.group = [self]
        for other in others:
            gone = msgspec.structs.replace(other.seen_by(self), state="left")
            other._hide_from(self)
            self.tell(MemberChange(member=gone, before=other.state))
        before, self.state = self.state, "left"
        for other in others:
            self._hide_from(other)
            other.tell(MemberChange(member=self.seen_by(other), before=before))
        self.state = before
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
            for node in self.group:
                node.tell(self._change(key, record.value))

    def watch(self, notify: Callable[[ClusterChange], None]) -> Callable[[], None]:
        self._watchers.append(notify)
        for node in self.group:
            notify(MemberChange(member=node.seen_by(self)))
        for node in self.group:
            if node.state not in GONE:
                for key, value in node.published.items():
                    notify(node._change(key, value))
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
                state=node.state,
                udp_ok=node.state == "alive",
                tcp_ok=node.state == "alive",
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

    def _show_to(self, other: "MemoryCluster") -> None:
        for key, value in self.published.items():
            other.tell(self._change(key, value))

    def _hide_from(self, other: "MemoryCluster") -> None:
        for key in self.published:
            other.tell(self._change(key, None))

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
