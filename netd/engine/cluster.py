"""This host as a member of a cluster: what it tells the others and makes of what they tell."""

import base64
import ipaddress
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec

from netd.engine.interfaces import (
    Cluster,
    ClusterChange,
    ClusterHealth,
    MemberChange,
    ProblemChange,
    Record,
    RecordChange,
)
from netd.engine.nodes import NodeNames
from netd.engine.parts import Parts
from netd.model.condition import Condition
from netd.model.errors import Invalid, NetdError, Unavailable
from netd.model.names import check_endpoint_name, check_labels
from netd.model.views import (
    ClusterKey,
    ClusterRecord,
    Joined,
    Member,
    MemberState,
    Token,
)
from netd.plan.objects import HOST_OWNER

TABLE: Final = "node"  # the table of the record that each node has of itself; its key is ""
ADDRESSES_MAX: Final = 64
_DETAILS_SHOWN: Final = 5
_GONE: Final[tuple[MemberState, ...]] = ("dead", "left")

_REMEDIES: Final = {
    "duplicate-name": "give one of them another node.name and restart its netd",
    "cloned-identity": (
        "on the copy: systemctl stop netd; rm /var/lib/netd/identity.key; systemctl start netd"
    ),
    "protocol-version": "upgrade netd on the older hosts, then there: systemctl restart netd",
    "members-exceeded": "take hosts out, on each: netctl member leave",
}


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a node tells of itself, as JSON. Fields that are not known are of a newer netd."""

    addresses: Annotated[tuple[str, ...], msgspec.Meta(max_length=ADDRESSES_MAX)] = ()
    tags: dict[str, str] = {}
    version: str = ""


class Membership:
    """The use cases of the cluster. Nothing that another member sends makes it raise."""

    def __init__(self, parts: Parts, cluster: Cluster) -> None:
        self._parts = parts
        self._cluster = cluster
        self._nodes = NodeNames(parts.names)
        self._members: dict[str, Member] = {}  # all that are not gone, and this node
        self._facts: dict[str, NodeFacts] = {}
        self._problems: dict[tuple[str, str], Condition] = {}
        self._addresses: tuple[str, ...] = ()
        self._published = b""
        self._ignored = 0  # records that could not be read
        self._replaying = False
        self._stop: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Follow the cluster, from what is so now."""
        self._replaying = True  # what was so before is no news
        self._stop = self._cluster.watch(self._changed)
        self._replaying = False

    def stop(self) -> None:
        self._stop()

    async def close(self) -> None:
        """Stop taking part; this host stays a member."""
        self._stop()
        await self._cluster.close()

    def host_has(self, addresses: tuple[str, ...]) -> None:
        """Tell everybody the host's addresses (CIDR form), its tags and version."""
        self._addresses = addresses
        settings = self._parts.settings
        if self._nodes.put(self._cluster.id, settings.node, addresses):
            self._show_problems()
        bare = tuple(address.partition("/")[0] for address in addresses[:ADDRESSES_MAX])
        facts = NodeFacts(addresses=bare, tags=dict(settings.tags), version=settings.version)
        self._facts[self._cluster.id] = facts
        value = msgspec.json.encode(facts)
        if value != self._published:
            self._cluster.publish([Record(table=TABLE, key="", value=value)])
            self._published = value

    def settings_changed(self) -> None:
        self.host_has(self._addresses)

    # What is asked

    def members(self) -> tuple[Member, ...]:
        wrong: dict[str, list[Condition]] = {}
        for (_, about), condition in self._problems.items():
            wrong.setdefault(about, []).append(condition)
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
        found: list[ClusterRecord] = []

        def collect(change: ClusterChange) -> None:
            if (
                isinstance(change, RecordChange)
                and change.value is not None
                and table in (None, change.table)
                and owner in (None, change.owner, names.get(change.owner))
            ):
                found.append(_shown_record(change, change.value, names.get(change.owner, "")))

        self._cluster.watch(collect)()
        found.sort(key=lambda record: (record.node, record.owner, record.scope, record.table))
        return tuple(found)

    async def look(self) -> None:
        """See how things are now, for `health`."""
        await self._cluster.look()

    def health(self) -> ClusterHealth:
        return self._cluster.health()

    def counters(self) -> dict[str, int]:
        own = {"records_ignored": self._ignored, **self._cluster.counters()}
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
                self._problem_changed(change)

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
        facts = _read(value) if value is not None else None
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
            changed = self._nodes.put(node_id, member.name, facts.addresses)
        if changed:
            self._show_problems()

    def _problem_changed(self, problem: ProblemChange) -> None:
        key = (problem.code, problem.about)
        known = self._problems.pop(key, None)
        name = self._name_of(problem.about)
        if problem.detail:
            self._problems[key] = Condition(
                code=f"cluster-{problem.code}",
                severity="error",
                detail=problem.detail,
                remedy=_REMEDIES.get(problem.code, ""),
                since=known.since if known else self._parts.now(),
            )
            if known is None or known.detail != problem.detail:
                self._parts.events.emit(
                    "cluster.problem",
                    about=problem.about,
                    name=name,
                    detail=f"{problem.code}: {problem.detail}",
                )
        elif known is not None:
            self._parts.events.emit(
                "cluster.solved", about=problem.about, name=name, detail=problem.code
            )
        self._show_problems()

    def _show_problems(self) -> None:
        """One condition of the host for each kind of problem."""
        details: dict[str, list[str]] = {}
        for (code, _), condition in sorted(self._problems.items()):
            details.setdefault(code, []).append(condition.detail)
        zone = self._parts.settings.zone
        contested = sorted(self._nodes.contested().items())
        if contested:  # says more than what the protocol has found
            details["duplicate-name"] = []
        for name, ids in contested:
            who = " and ".join(f"{node_id} at {self._address_of(node_id)}" for node_id in ids)
            details["duplicate-name"].append(
                f"{who} are both called {name}; {name}.node.{zone} leads to {ids[0]}"
            )
        conditions = []
        for code, found in details.items():
            if len(found) > _DETAILS_SHOWN:
                found[_DETAILS_SHOWN:] = [f"and {len(found) - _DETAILS_SHOWN} more"]
            conditions.append(
                Condition(
                    code=f"cluster-{code}",
                    severity="error",
                    detail="; ".join(found),
                    remedy=_REMEDIES.get(code, ""),
                    since=self._parts.now(),
                )
            )
        self._parts.conditions.replace(HOST_OWNER, "cluster-", conditions)

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


def _read(value: bytes) -> NodeFacts | None:
    """The facts in a record; None for one that no netd would write."""
    try:
        facts = msgspec.json.decode(value, type=NodeFacts)
        check_labels(facts.tags)
        # A zone index (RFC 4007) would mean another link on each host, and may be any text.
        addresses = tuple(str(ipaddress.ip_address(text)) for text in facts.addresses)
        if any("%" in address for address in addresses):
            return None
    except (ValueError, RecursionError, NetdError):  # msgspec's errors are ValueErrors
        return None
    return msgspec.structs.replace(facts, addresses=addresses)


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
        encoding="json" if encoding == "json" else "base64",
        value=shown,
    )
