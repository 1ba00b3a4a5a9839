"""This host as a member of a cluster: what it tells the others and makes of what they tell."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from netd.engine.cluster_problems import Problems
from netd.engine.distances import Distances
from netd.engine.interfaces import (
    Cluster,
    ClusterChange,
    ClusterHealth,
    MemberChange,
    ProblemChange,
    RecordChange,
)
from netd.engine.node_facts import NodeFacts, facts_of, read, record_of
from netd.engine.nodes import NodeNames
from netd.engine.parts import Parts
from netd.model.condition import Condition
from netd.model.errors import Invalid, Unavailable
from netd.model.names import check_endpoint_name
from netd.model.views import (
    ClusterKey,
    ClusterRecord,
    Joined,
    Member,
    MemberState,
    Token,
)
from netd.plan.objects import HOST_OWNER

_GONE: Final[tuple[MemberState, ...]] = ("dead", "left")


class Membership:
    """The use cases of the cluster. Nothing that another member sends makes it raise."""

    def __init__(self, parts: Parts, cluster: Cluster) -> None:
        self._parts = parts
        self._cluster = cluster
        self._nodes = NodeNames(parts.names)
        self._distances = Distances(parts, cluster, self._nodes)
        self._members: dict[str, Member] = {}  # all that are not gone, and this node
        self._facts: dict[str, NodeFacts] = {}
        self._problems = Problems(parts, self._nodes.contested, self._address_of)
        self._addresses: tuple[str, ...] = ()
        self._published: NodeFacts | None = None
        self._ignored = 0  # records that could not be read
        self._replaying = False
        self._stop: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Follow the cluster, from what is so now."""
        self._replaying = True  # what was so before is no news
        self._stop = self._cluster.watch(self._changed)
        self._replaying = False
        self._distances.start()

    def stop(self) -> None:
        self._stop()
        self._distances.stop()

    async def close(self) -> None:
        """Stop taking part; this host stays a member."""
        self.stop()
        await self._cluster.close()

    def host_has(self, addresses: tuple[str, ...]) -> None:
        """Tell everybody the host's addresses (CIDR form), its tags and version."""
        self._addresses = addresses
        settings = self._parts.settings
        if self._nodes.put(self._cluster.id, settings.node, addresses, settings.tags):
            self._problems.show()
        facts = facts_of(addresses, settings.tags, settings.version)
        self._facts[self._cluster.id] = facts
        if facts != self._published:
            self._cluster.publish([record_of(facts)])
            self._published = facts

    def settings_changed(self) -> None:
        self.host_has(self._addresses)

    # What is asked

    def members(self) -> tuple[Member, ...]:
        wrong = self._problems.of_members()
        return tuple(
            self._shown(member, tuple(wrong.get(member.id, ())))
            for member in self._cluster.members()
        )

    def alive(self) -> int:
        """How many members are alive, this host among them."""
        return sum(member.state == "alive" for member in self._cluster.members())

    async def join(self, addresses: Sequence[str], token: str | None) -> Joined:
        if not addresses and token is None:
            raise Invalid("give at least one address, or a token", field="addresses")
        results = await self._cluster.join(addresses, token)
        if all(result.error for result in results):
            reasons = "; ".join(f"{result.address}: {result.error}" for result in results)
            raise Unavailable(f"nobody answered: {reasons}")
        return Joined(results=results, members=self.members())

    async def leave(self) -> None:
        alone = len(self._cluster.members()) == 1
        await self._cluster.leave()
        if not alone:
            self._emit("member.left", self._cluster.members()[0])

    def keys(self) -> tuple[ClusterKey, ...]:
        return self._cluster.keys()

    async def install_key(self, secret: str | None) -> tuple[ClusterKey, bool]:
        """The key, and whether this host has it only now. `secret` is base64."""
        known = {key.id for key in self.keys()}
        key = await self._cluster.install_key(None if secret is None else _decoded(secret))
        created = key.id not in known
        if created:
            self._parts.events.emit("key.installed", about=key.id, name=key.id)
        return key, created

    async def use_key(self, key_id: str) -> ClusterKey:
        key = await self._cluster.use_key(key_id)
        self._parts.events.emit("key.used", about=key.id, name=key.id)
        return key

    async def remove_key(self, key_id: str) -> None:
        await self._cluster.remove_key(key_id)
        self._parts.events.emit("key.removed", about=key_id, name=key_id)

    async def issue_token(self, expires_s: int, uses: int) -> Token:
        token = await self._cluster.issue_token(expires_s, uses)
        self._parts.events.emit(
            "token.issued",
            about=HOST_OWNER,
            name=self._parts.settings.node,
            detail=f"uses: {uses}, until {token.expires_at}",
        )
        return token

    def records(self, table: str | None, owner: str | None) -> tuple[ClusterRecord, ...]:
        """The records that are visible here. `owner` is a member's id or name."""
        names = {member.id: member.name for member in self._cluster.members()}
        found = [
            _shown_record(record, record.value, names.get(record.owner, ""))
            for record in self._cluster.records()
            if record.value is not None
            and table in (None, record.table)
            and owner in (None, record.owner, names.get(record.owner))
        ]
        found.sort(key=lambda record: (record.node, record.owner, record.scope, record.table))
        return tuple(found)

    async def look(self) -> None:
        """See how things are now, for `health`."""
        await self._cluster.look()

    def health(self) -> ClusterHealth:
        return self._cluster.health()

    def counters(self) -> dict[str, int]:
        ignored = self._ignored + self._distances.ignored
        own = {"records_ignored": ignored, **self._cluster.counters()}
        return {f"cluster_{name}": value for name, value in own.items()}

    def levels(self) -> dict[str, int]:
        return {f"cluster_{name}": value for name, value in self._cluster.levels().items()}

    # What changes

    def _changed(self, change: ClusterChange) -> None:
        match change:
            case MemberChange():
                self._member_changed(change.member, change.before)
            case RecordChange(table="node", key=""):
                self._record_changed(change.owner, change.value)
            case ProblemChange():
                self._problems.changed(change, self._name_of(change.about))

    def _member_changed(self, member: Member, before: MemberState | None) -> None:
        known = self._members.get(member.id)
        if member.state in _GONE and member.id != self._cluster.id:
            self._members.pop(member.id, None)
        else:
            self._members[member.id] = member
        if not self._replaying:
            self._tell(member, before, known)
        self._name(member.id)

    def _tell(self, member: Member, before: MemberState | None, known: Member | None) -> None:
        """Make events of what is new about a member."""
        own = member.id == self._cluster.id
        if member.state == "left" and member.id not in {m.id for m in self._cluster.members()}:
            return  # nobody has left but this host, or a member is forgotten
        joined = before in (None, "left") and member.state == "alive"
        if joined and not own:
            self._emit("member.joined", member)
        elif before is not None and before != member.state:
            self._emit(f"member.{member.state}", member, f"was {before}")
        if known is not None and known.address != member.address and not (joined or own):
            self._emit("member.moved", member, f"was at {known.address}")

    def _emit(self, kind: str, member: Member, detail: str = "") -> None:
        self._parts.events.emit(
            kind, about=member.id, name=member.name, detail=detail, address=member.address
        )

    def _record_changed(self, owner: str, value: bytes | None) -> None:
        if owner == self._cluster.id:
            return
        facts = read(value) if value is not None else None
        if facts is not None:
            self._facts[owner] = facts
        else:
            self._facts.pop(owner, None)
            self._ignored += value is not None
        self._name(owner)

    def _name(self, node_id: str) -> None:
        """Publish a member's name, or withdraw it when it may not have one."""
        if node_id == self._cluster.id:
            return
        member, facts = self._members.get(node_id), self._facts.get(node_id)
        if member is None or facts is None or not _is_label(member.name):
            changed = self._nodes.drop(node_id)
        else:
            changed = self._nodes.put(node_id, member.name, facts.addresses, facts.tags)
        if changed:
            self._problems.show()

    def _shown(self, member: Member, conditions: tuple[Condition, ...]) -> Member:
        facts = self._facts.get(member.id, NodeFacts())
        address = member.address
        if not address and member.id == self._cluster.id and self._addresses:
            address = self._addresses[0].partition("/")[0]  # on its own it listens nowhere
        return msgspec.structs.replace(
            member, address=address, tags=facts.tags, conditions=conditions
        )

    def _name_of(self, node_id: str) -> str:
        member = self._members.get(node_id)
        return member.name if member else ""

    def _address_of(self, node_id: str) -> str:
        member = self._members.get(node_id)
        return member.address if member else "this host"


def _is_label(name: str) -> bool:
    try:
        check_endpoint_name(name, "name")
    except Invalid:
        return False
    return True


def _decoded(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.strip(), validate=True)
    except ValueError:
        raise Invalid(
            "the key is not base64; 'netctl key generate' prints one", field="secret"
        ) from None


def _shown_record(change: RecordChange, value: bytes, node: str) -> ClusterRecord:
    shown: Any
    encoding: Literal["json", "base64"]
    try:
        shown, encoding = msgspec.json.decode(value), "json"
    except (ValueError, RecursionError):
        shown, encoding = base64.b64encode(value).decode(), "base64"
    return ClusterRecord(
        owner=change.owner,
        node=node,
        scope=change.scope.hex(),
        table=change.table,
        key=change.key,
        encoding=encoding,
        value=shown,
    )
