"""What each node tells of itself: a record in a table of its own."""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from netd.engine.interfaces import Record
from netd.model.errors import NetdError
from netd.model.names import check_labels
from netd.plan.addresses import bare

TABLE: Final = "node"  # of that record; its key is ""
ADDRESSES_MAX: Final = 64


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a node tells of itself, as JSON. Fields that are not known are of a newer netd."""

    addresses: Annotated[tuple[str, ...], msgspec.Meta(max_length=ADDRESSES_MAX)] = ()
    tags: dict[str, str] = {}
    version: str = ""


def facts_of(addresses: tuple[str, ...], tags: Mapping[str, str], version: str) -> NodeFacts:
    """What this node tells; `addresses` in CIDR form."""
    return NodeFacts(addresses=bare(addresses[:ADDRESSES_MAX]), tags=dict(tags), version=version)


def record_of(facts: NodeFacts) -> Record:
    return Record(table=TABLE, key="", value=msgspec.json.encode(facts))


def read(value: bytes) -> NodeFacts | None:
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
