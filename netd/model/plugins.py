"""What plugins that runtimes start hand over to the daemon."""

from typing import Any

import msgspec


class CniAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An ADD as a runtime asks for it: `environment` has the variables that begin with CNI_,
    `config` is the plugin's standard input. `socket` is where the plugin took the daemon to be.
    """

    socket: str
    environment: dict[str, str]
    config: dict[str, Any]


class NetavarkSetup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A set-up as netavark asks its plugin for it: `execution` is the standard input."""

    socket: str
    netns: str
    execution: dict[str, Any]
