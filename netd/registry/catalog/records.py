"""Instances and nodes as they are looked up, with when they came and changed."""

import re
import uuid
from typing import Any, Final

import msgspec

from netd.model.directory import NodeEntry
from netd.model.service import NODE_IDS, Check, Service, shown_on, stands_for_node
from netd.model.service import NODE_SERVICE as NODE_SERVICE
from netd.model.service import node_record as node_record

MAINTENANCE: Final = "maintenance"  # kind of the check that keeps an instance out
_PLAIN: Final = re.compile(r"[A-Za-z0-9.-]{1,100}\Z")


class Instance(msgspec.Struct, frozen=True):
    """`ident` and `name` are what it is called in Consul, which allows more than netd does: the
    id is unique on its node only. `node` is the node that it is shown on: the host that owns it,
    or one that the host has been told of. `extra` is what Consul's API has kept of it.
    """

    service: Service
    ident: str
    name: str
    node: str
    created: int
    modified: int
    extra: dict[str, Any]

    @property
    def id(self) -> str:
        """netd's own, unique in the cluster."""
        return self.service.id

    @property
    def key(self) -> str:
        """Names are the same whatever their case."""
        return self.name.lower()

    @property
    def is_node(self) -> bool:
        """Whether it stands for a node."""
        return stands_for_node(self.service)

    @property
    def order(self) -> tuple[str, str, str]:
        return self.node, self.ident, self.service.id

    def check_ident(self, check: Check) -> str:
        """The id of one of its checks in Consul, unique on its node."""
        if check.kind == MAINTENANCE:
            return "_node_maintenance" if self.is_node else f"_service_maintenance:{self.ident}"
        kept = self.check_extra(check).get("CheckID")
        if isinstance(kept, str) and kept:
            return kept
        return check.id if self.is_node else f"service:{self.ident}:{check.id}"

    def check_extra(self, check: Check) -> dict[str, Any]:
        """What Consul's API has kept of one of its checks."""
        kept = self.extra.get("checks")
        found = kept.get(check.id) if isinstance(kept, dict) else None
        return found if isinstance(found, dict) else {}


class Node(msgspec.Struct, frozen=True):
    """A host of the cluster, or a node that one of the hosts was told of (`is_foreign`)."""

    name: str
    node_id: str  # as a UUID
    address: str
    meta: dict[str, str]
    tagged: dict[str, str]
    created: int
    modified: int
    is_foreign: bool = False


def extra_of(service: Service, key: str) -> dict[str, Any]:
    """What the API `key` has kept of an instance."""
    found = service.extra.get(key)
    return found if isinstance(found, dict) else {}


def instance_of(service: Service, index: int, known: Instance | None) -> Instance:
    extra = extra_of(service, "consul")
    return Instance(
        service=service,
        ident=_text(extra.get("id")) or service.id,
        name=_text(extra.get("name")) or service.name,
        node=shown_on(service),
        created=index if known is None else known.created,
        modified=index,
        extra=extra,
    )


def node_of(name: str, entry: NodeEntry, index: int, known: Node | None) -> Node:
    address = entry.addresses[0] if entry.addresses else ""
    return Node(
        name=name,
        node_id=str(uuid.uuid5(NODE_IDS, entry.node_id)),
        address=address,
        meta=entry.tags,
        tagged=_tagged(address),
        created=index if known is None else known.created,
        modified=index,
    )


def foreign_node(record: Instance, known: Node | None) -> Node | None:
    """The node that the instance of a node tells of; None for a host's own."""
    told = record.extra.get("node")
    if not record.is_node or not isinstance(told, dict) or record.node == record.service.node:
        return None
    address = _text(told.get("Address")) or record.service.address
    return Node(
        name=record.node,
        node_id=_text(told.get("ID")),
        address=address,
        meta=_texts(told.get("NodeMeta")),
        tagged=_texts(told.get("TaggedAddresses")) or _tagged(address),
        created=record.modified if known is None else known.created,
        modified=record.modified,
        is_foreign=True,
    )


def _tagged(address: str) -> dict[str, str]:
    if not address:
        return {}
    family = "ipv6" if ":" in address else "ipv4"
    keys = ("lan", f"lan_{family}", "wan", f"wan_{family}")
    return dict.fromkeys(keys, address)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}
