"""ADD, but for its calls of the daemon: what to ask for, and what to tell the runtime then."""

from __future__ import annotations

from netd.runtimes.cni.result import check
from netd.runtimes.cni.wishes import attach_body, check_keys, network_body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from netd.runtimes.cni.call import Call


class Addition:
    """`network` is the local network to make first, None where there is none to make; `name` the
    network to attach to, `body` the attach. Raises `Failure` for what cannot be had.
    """

    def __init__(self, call: Call) -> None:
        check_keys(call.config)
        check(call)
        self.body: dict[str, Any] = attach_body(call)
        self.network: dict[str, Any] | None = network_body(call)
        named = call.config["network"] if self.network is None else self.network["name"]
        self.name = str(named)
