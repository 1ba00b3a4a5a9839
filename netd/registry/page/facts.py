"""What the daemon has answered, and what of it the page shows."""

from typing import Final

import msgspec

from netd.model.condition import Condition
from netd.model.endpoint import PortMapping
from netd.model.network import Network
from netd.model.views import Finding, Member, PlannedOperation, Status


class OwnEndpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What only an endpoint's own host knows of it."""

    id: str
    name: str
    ports: tuple[PortMapping, ...] = ()
    conditions: tuple[Condition, ...] = ()


class OwnService(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What only an instance's own host knows of it."""

    id: str
    conditions: tuple[Condition, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The last answers; None: there has been none yet. `problem` is why there is none now, and
    `refused` says so for parts that the daemon itself could not tell.
    """

    status: Status | None = None
    members: tuple[Member, ...] | None = None
    networks: tuple[Network, ...] | None = None
    endpoints: dict[str, OwnEndpoint] | None = None  # of this host, by id
    services: tuple[OwnService, ...] | None = None  # of this host, those with conditions
    plan: tuple[PlannedOperation, ...] | None = None
    findings: tuple[Finding, ...] | None = None
    problem: str = ""
    refused: dict[str, str] = {}


PARTS: Final = ("status", "members", "networks", "endpoints", "services", "plan", "findings")
# Sections of the page that a part, or a kind of entry of the feed, is shown in.
SECTIONS_OF: Final = {
    "problem": ("overview",),
    "refused": ("overview",),
    "status": ("overview", "conditions", "drift"),
    "members": ("overview", "members", "topology", "conditions"),
    "networks": ("overview", "networks", "topology", "conditions"),
    "endpoints": ("overview", "endpoints", "conditions"),
    "services": ("overview", "conditions"),
    "plan": ("drift",),
    "findings": ("overview", "checks"),
    "endpoint": ("overview", "endpoints", "topology", "networks", "members"),
    "network": ("overview", "networks", "topology"),
    "service": ("overview", "services"),
    "virtual": ("overview", "virtuals", "conditions"),
    "zone": ("overview",),
}
# Parts that may be others after something that the feed or an event tells.
DUE_AFTER: Final = {
    "zone": PARTS,
    "node": ("members", "status"),
    "network": ("networks", "status"),
    "endpoint": ("endpoints", "networks", "status"),
    "condition": ("status", "members", "networks", "endpoints", "services"),
    "drift": ("status",),
    "member": ("members", "status"),
    "cluster": ("members", "status"),
    "key": ("members",),
    "daemon": PARTS,
    "stream": ("status", "members", "networks", "endpoints", "services"),  # of what came before it
}
