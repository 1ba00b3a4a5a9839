"""Errors as the CNI specification has them: a code and a text, and as JSON on standard output."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netd.runtimes.shim.daemon import Refused

# https://www.cni.dev/docs/spec/#error, and those that its library adds.
VERSION = 1
UNSUPPORTED = 2
UNKNOWN_CONTAINER = 3
ENVIRONMENT = 4
INPUT = 5
DECODING = 6
CONFIG = 7
NETNS = 8
TRY_LATER = 11
NOT_READY = 50
INTERNAL = 999

# Of this plugin.
CONFLICT = 100
KERNEL = 101
FORBIDDEN = 102
DIFFERS = 103
INCOMPLETE = 104

_BY_PROBLEM = {
    "invalid": CONFIG,
    "conflict": CONFLICT,
    "exhausted": TRY_LATER,
    "unavailable": TRY_LATER,
    "kernel": KERNEL,
    "forbidden": FORBIDDEN,
    "not-found": CONFIG,
}


class Failure(Exception):
    """What a runtime is told instead of a result."""

    def __init__(self, code: int, text: str, details: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.details = details

    def shown(self, version: str) -> dict[str, object]:
        """The error object of that version of the specification."""
        told: dict[str, object] = {"cniVersion": version, "code": self.code, "msg": self.text}
        if self.details:
            told["details"] = self.details
        return told


def told(refused: Refused) -> Failure:
    """A problem that the daemon has answered with, in the specification's words."""
    code = _BY_PROBLEM.get(refused.problem, INTERNAL)
    if refused.field == "netns":
        code = NETNS
    return Failure(code, str(refused), f"field {refused.field}" if refused.field else "")
