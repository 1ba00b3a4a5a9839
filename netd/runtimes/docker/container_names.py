"""What the engine's containers are called, for netd's names. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from netd.model.errors import Invalid
from netd.model.names import check_endpoint_name

NAMES_MAX: Final = 32  # of one endpoint; engine/requests.py has the same bound
LABELS: Final = "netd."  # what container labels begin with that are netd's, too


class _Read(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Base of what the engine's API answers; unknown keys are ignored."""


class Attached(_Read, frozen=True):
    """A container of `GET /networks/{id}`."""

    name: str = ""
    endpoint_id: str = msgspec.field(default="", name="EndpointID")


class EngineNetwork(_Read, frozen=True):
    """`GET /networks/{id}`, and an element of `GET /networks`, which has no containers."""

    id: str
    containers: dict[str, Attached] | None = None

    @property
    def joined(self) -> dict[str, Attached]:
        """By the container's id. The engine shows an endpoint that no container has yet as if
        its own id, with `ep-` before it, were a container's.
        """
        found = self.containers or {}
        return {key: each for key, each in found.items() if not key.startswith("ep-")}


class Membership(_Read, frozen=True):
    endpoint_id: str = msgspec.field(default="", name="EndpointID")
    aliases: tuple[str, ...] | None = None


class _Settings(_Read, frozen=True):
    networks: dict[str, Membership] | None = None


class _Config(_Read, frozen=True):
    labels: dict[str, str] | None = None


class Container(_Read, frozen=True):
    """`GET /containers/{id}/json`."""

    id: str
    name: str
    config: _Config
    network_settings: _Settings

    @property
    def memberships(self) -> Iterable[Membership]:
        return (self.network_settings.networks or {}).values()

    @property
    def labels(self) -> dict[str, str]:
        """Those that are netd's, too."""
        found = self.config.labels or {}
        return {key: text for key, text in found.items() if key.startswith(LABELS)}


class _Actor(_Read, frozen=True):
    id: str = msgspec.field(default="", name="ID")
    attributes: Mapping[str, str] = {}


class Happening(_Read, frozen=True):
    """A line of `GET /events`."""

    type: str = ""
    action: str = ""
    actor: _Actor = _Actor()


def names_of(container_id: str, name: str, more: Iterable[str]) -> tuple[str, ...]:
    """What a container is found by: name, aliases, the first digits of its id, once each.

    What is no DNS label, such as a name with a dot, cannot be.
    """
    names: dict[str, None] = {}
    for text in (name.removeprefix("/"), *more, container_id[:12]):
        try:
            check_endpoint_name(text, "name")
        except Invalid:
            continue
        names.setdefault(text)
    return tuple(names)[:NAMES_MAX]
