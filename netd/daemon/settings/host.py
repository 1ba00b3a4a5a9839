"""The daemon on its host: its name, its socket, its state, its log, what it may do."""

import socket
from typing import Annotated, Final, Literal

import msgspec

from netd.daemon.settings.values import Table, WrongValue, check_absolute, check_socket
from netd.model.errors import Invalid
from netd.model.names import check_endpoint_name

TAGS_MAX: Final = 64
TAG_MAX_BYTES: Final = 256


def host_name() -> str:
    """The first label of the host's name."""
    return socket.gethostname().partition(".")[0]


class Node(Table, frozen=True):
    """`name` is what the others call this host: one DNS label, unique in the cluster.

    `tags` say what they should know of it, e.g. its rack or its purpose.
    """

    name: str = msgspec.field(default_factory=host_name)
    tags: dict[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            check_endpoint_name(self.name, "name")
        except Invalid as error:
            raise WrongValue("name", f"{error.detail}; the default is the host's name") from None
        if len(self.tags) > TAGS_MAX:
            raise WrongValue("tags", f"{len(self.tags)} tags; at most {TAGS_MAX} are told")
        for key, value in self.tags.items():
            if not key or max(len(key.encode()), len(value.encode())) > TAG_MAX_BYTES:
                raise WrongValue(
                    "tags",
                    f"tag {key[:40]!r}: keys have 1 to {TAG_MAX_BYTES} bytes, values at most "
                    f"{TAG_MAX_BYTES}",
                )


class Api(Table, frozen=True):
    """Who may talk to the daemon. Groups and users that do not exist admit nobody."""

    socket: str = "/run/netd/netd.sock"
    group: str = "netd"
    view_group: str = "netd-view"
    registry_user: str = "netd-registry"

    def __post_init__(self) -> None:
        check_socket("socket", self.socket)


class State(Table, frozen=True):
    """`dir` belongs to one daemon alone; it is made with mode 0700."""

    dir: str = "/var/lib/netd"

    def __post_init__(self) -> None:
        check_absolute("dir", self.dir)


class Host(Table, frozen=True):
    """What netd may do to the host beside its own objects.

    `docker_user_hook`: accept own traffic in Docker's chain DOCKER-USER.
    `forward_guard`: while netd switches forwarding on, refuse to forward what is not its own.
    `manage_forwarding`: switch IPv4 and IPv6 forwarding on when a network needs it.
    """

    docker_user_hook: bool = False
    forward_guard: bool = True
    manage_forwarding: bool = True


class Log(Table, frozen=True):
    """`auto` is the journal when standard error leads there, else text."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text", "journal"] = "auto"


class Reconcile(Table, frozen=True):
    """A pass over everything each `interval_s`, and `debounce_ms` after a kernel event."""

    interval_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 30.0
    debounce_ms: Annotated[int, msgspec.Meta(ge=0, le=500)] = 50
