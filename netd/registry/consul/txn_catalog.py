"""Operations on nodes, services and checks, of which a transaction is made."""

import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from netd.registry.catalog.records import Instance, Node
from netd.registry.consul.catalog_writes import (
    catalog_service,
    demand_datacenter,
    node_name,
    result_of,
)
from netd.registry.consul.check_bodies import told_check
from netd.registry.consul.draft import Draft
from netd.registry.consul.fields import Fields
from netd.registry.consul.parts import Parts
from netd.registry.consul.registrar import demand_host
from netd.registry.consul.txn_rows import Kind, Rows, Shown
from netd.registry.http.call import Failure
from netd.registry.http.caller import Caller

KINDS: Final[tuple[Kind, ...]] = ("Node", "Service", "Check")
_VERBS: Final = ("get", "set", "cas", "delete", "delete-cas")


Show = Callable[[], Shown | None]
"""A result as it is once all is done; None: it is gone again by then."""


class Step(NamedTuple):
    """One operation. `modify_index` is that of its row, for the verbs that ask so."""

    kind: Kind
    verb: str
    node: str
    body: Fields
    modify_index: int

    @property
    def writes(self) -> bool:
        return self.verb != "get"

    @property
    def puts(self) -> bool:
        return self.verb in ("set", "cas")


def step_of(kind: Kind, fields: Fields) -> Step:
    """Raises `Failure` 400 for what is none."""
    body = fields.fields(kind.lower()) or Fields({}, kind)
    node = (fields if kind == "Service" else body).text("node")
    return Step(kind, fields.text("verb"), node, body, body.number("modifyindex"))


class Steps:
    """Writes the operations of one transaction into a draft, one after the other. Each raises
    `Failure` if it cannot be done, as it leaves the rest.
    """

    def __init__(self, parts: Parts, caller: Caller, draft: Draft) -> None:
        self._parts = parts
        self._catalog = parts.catalog
        self._caller = caller
        self._draft = draft
        self._rows = Rows(parts, caller)
        self._written: set[tuple[Kind, str, str]] = set()  # rows with an index yet to come

    def take(self, step: Step) -> Show | None:
        """What it shows, if anything."""
        if step.verb not in _VERBS:
            raise Failure(400, f'unknown {step.kind} verb "{step.verb[:40]}"')
        if step.writes:
            demand_host(self._caller)
        step = step._replace(node=self._draft.name_of(step.node))
        match step.kind:
            case "Node":
                return self._node(step)
            case "Service":
                return self._service(step)
            case "Check":
                return self._check(step)

    # Nodes

    def _node(self, step: Step) -> Show | None:
        draft, ident = self._draft, step.body.text("id")
        demand_datacenter(step.body, self._parts.datacenter)
        if not step.writes:
            found = self._by_id(ident) if ident else self._catalog.node(step.node)
            name = step.node if found is None else found.name
            return self._got(step, ("Node", name.lower(), ""), lambda: self._rows.node(name))
        name = node_name(step.node)
        self._caller.rights.demand("node", name, "write")
        exists = draft.is_host(name) or draft.told_of(name) is not None
        known = self._catalog.node(name)
        self._compare(step, f'node "{name}"', "", exists, known)
        if not step.puts:
            if exists:
                draft.remove_node(name)
            return None
        self._put_node(name, step.body)
        return lambda: self._rows.node(name)

    def _put_node(self, name: str, body: Fields) -> None:
        draft, ident = self._draft, body.text("id")
        if ident and not _is_uuid(ident):
            raise Failure(400, f"Bad node ID: {ident[:80]!r} is no UUID")
        other = self._by_id(ident) if ident else None
        if other is not None and other.name.lower() != name.lower():
            raise Failure(400, f"node ID {ident} is that of node {other.name}")
        told = {
            "Address": body.text("address"),
            "NodeMeta": body.mapping("meta"),
            "TaggedAddresses": body.mapping("taggedaddresses"),
        }
        if draft.is_host(name):
            draft.demand_kept(name)
            self._demand_as_it_is(name, told | {"ID": ident})
            return
        told["Address"] = told["Address"] or (draft.told_of(name) or {}).get("Address", "")
        if not told["Address"]:
            raise Failure(400, "Must provide address")
        draft.put_node(name, told | {"ID": ident} if ident else told)

    def _demand_as_it_is(self, name: str, told: dict[str, Any]) -> None:
        """What a host is nobody sets; but it may be said, by who registers something on it."""
        node = self._catalog.node(name)
        now = (
            {}
            if node is None
            else {
                "Address": node.address,
                "NodeMeta": node.meta,
                "TaggedAddresses": node.tagged,
                "ID": node.node_id,
            }
        )
        for field, value in told.items():
            if value and value != now.get(field):
                raise Failure(400, f"{name} is a host of the cluster: its {field} is not set here")

    def _by_id(self, ident: str) -> Node | None:
        nodes = self._catalog.nodes.values()
        return next((each for each in nodes if each.node_id == ident), None)

    # Services

    def _service(self, step: Step) -> Show | None:
        node, draft = step.node, self._draft
        given = step.body.text("service") or step.body.text("name")
        ident = step.body.text("id") or given
        if not step.writes:
            key: tuple[Kind, str, str] = ("Service", node.lower(), ident)
            return self._got(step, key, lambda: self._rows.service(node, ident))
        known = self._catalog.find(node, ident)
        self._demand_service(node, {given, "" if known is None else known.name})
        exists = draft.service(node, ident) is not None
        self._compare(step, f'service "{ident}" on node "{node}"', ident, exists, known)
        if not step.puts:
            draft.remove_service(node, ident)
            return None
        draft.put_service(node, catalog_service(step.body))
        return lambda: self._rows.service(node, ident)

    # Checks

    def _check(self, step: Step) -> Show | None:
        node, body, draft = step.node, step.body, self._draft
        ident = body.text("checkid") or body.text("name")
        if not step.writes:
            key: tuple[Kind, str, str] = ("Check", node.lower(), ident)
            return self._got(step, key, lambda: self._shown_check(node, ident))
        holder, owner = draft.holder(node, ident), body.text("serviceid")
        self._demand_check(node, owner, body, holder)
        exists = draft.owner_of(node, ident) is not None
        self._compare(step, f'check "{ident}" on node "{node}"', ident, exists, holder)
        if not step.puts:
            draft.remove_check(node, ident)
            return None
        draft.put_check(node, owner, told_check(body), result_of(body))
        return lambda: self._shown_check(node, ident)

    def _demand_check(self, node: str, owner: str, body: Fields, holder: Instance | None) -> None:
        """Rights to what it is to be a check of, and to what it is one of now."""
        if owner:
            known = self._catalog.find(node, owner)
            given = body.text("servicename")
            self._demand_service(node, {given, "" if known is None else known.name})
        elif holder is None or holder.is_node:
            self._caller.rights.demand("node", node, "write")
        if holder is not None and not holder.is_node:
            self._caller.rights.demand("service", holder.name, "write")

    # What they have in common

    def _demand_service(self, node: str, names: set[str]) -> None:
        """Rights to the names that a service has and is to have; to the node, if it has none."""
        rights = self._caller.rights
        for name in sorted(names - {""}):
            rights.demand("service", name, "write")
        if names == {""}:
            rights.demand("node", node, "write")

    def _compare(
        self, step: Step, what: str, ident: str, exists: bool, known: Node | Instance | None
    ) -> None:
        """Raise `Failure` unless the row has the index that the operation asks for."""
        key = step.kind, step.node.lower(), ident
        index = None if known is None or key in self._written else known.modified
        to_come = step.verb == "cas" and step.modify_index == 0
        allowed = not exists if to_come else exists and index == step.modify_index
        if step.verb in ("cas", "delete-cas") and not allowed:
            doing = "set" if step.puts else "delete"
            raise Failure(409, f"failed to {doing} {what}, index is stale")
        self._written.add(key)

    def _got(self, step: Step, key: tuple[Kind, str, str], show: Show) -> Show:
        """What a `get` shows: how it is now, unless the transaction itself has changed it."""
        kind, node, ident = key
        if key in self._written:
            exists = {
                "Node": lambda: self._draft.told_of(node) is not None,
                "Service": lambda: self._draft.service(node, ident) is not None,
                "Check": lambda: self._draft.owner_of(node, ident) is not None,
            }
            if exists[kind]():
                return show
        else:
            found = show()
            if found is not None:
                return lambda: found
        what = f'node "{step.node}"' if kind == "Node" else f'{kind.lower()} "{ident}"'
        place = "" if kind == "Node" else f' on node "{step.node}"'
        raise Failure(404, f"{what}{place} doesn't exist")

    def _shown_check(self, node: str, ident: str) -> Shown | None:
        if ("Check", node.lower(), ident) not in self._written:
            return self._rows.check(node, ident, self._draft.holder(node, ident))
        planned = self._draft.owner_of(node, ident)
        holder = None if planned is None else self._catalog.instance(planned.id)
        return self._rows.check(node, ident, holder)


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
