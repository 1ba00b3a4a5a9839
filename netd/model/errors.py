"""Errors that a caller can act on. Each has a stable code that the API shows.

An error of this module never leaves anything half-done: whoever raises it has undone
what it had begun.
"""

from typing import ClassVar


class NetdError(Exception):
    """Base of all errors meant for a caller.

    `detail` says what was wrong and what would be right; `field` is the JSON path of the
    offending input, e.g. `ports[0].host_port`.
    """

    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class Invalid(NetdError):
    code = "invalid"
    title = "The request is not valid"


class NotFound(NetdError):
    code = "not-found"
    title = "No such object"


class Conflict(NetdError):
    code = "conflict"
    title = "The request contradicts what exists"


class Exhausted(NetdError):
    code = "exhausted"
    title = "A finite resource is used up"


class Unavailable(NetdError):
    code = "unavailable"
    title = "Not possible now; trying again later may help"


class KernelFailure(NetdError):
    code = "kernel"
    title = "The kernel refused an operation"


class Forbidden(NetdError):
    code = "forbidden"
    title = "Not allowed for this user"
