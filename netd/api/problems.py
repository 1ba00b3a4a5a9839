"""Errors as `application/problem+json` (RFC 9457)."""

from collections.abc import Collection, Mapping
from typing import Final, Literal, cast

import msgspec

from netd.model.errors import Invalid, NetdError

MEDIA_TYPE: Final = "application/problem+json"

Code = Literal[
    "invalid",
    "not-found",
    "conflict",
    "exhausted",
    "unavailable",
    "kernel",
    "forbidden",
    "internal",
]

STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "invalid": 400,
    "forbidden": 403,
    "not-found": 404,
    "conflict": 409,
    "kernel": 500,
    "internal": 500,
    "unavailable": 503,
    "exhausted": 507,
}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong. `code` is stable; `field` is the JSON path of the input at fault."""

    type: str
    title: str
    status: int
    detail: str
    code: Code
    field: str | msgspec.UnsetType = msgspec.UNSET


class MethodNotAllowed(Invalid):
    """The path exists, but not for this method (RFC 9110, 15.5.6)."""

    title = "The path does not have this method"

    def __init__(self, method: str, allowed: Collection[str]) -> None:
        self.allow = ", ".join(sorted(allowed))
        super().__init__(f"{method} is not possible here; this path has {self.allow}")


class BodyTooLarge(Invalid):
    title = "The request's body is too large"


class BodyEncoded(Invalid):
    title = "The request's body has a content coding"


class BodyTooSlow(Invalid):
    title = "The request's body did not arrive in time"


class NotHttp(Invalid):
    title = "The request is not HTTP/1.1"


class Internal(NetdError):
    """A fault of netd itself. The log has the traceback under the request's id."""

    code = "internal"
    title = "A fault in netd"


# HTTP has finer words than `invalid` for what is wrong with a request as a whole.
_STATUS_OF_CLASS: Final[Mapping[type[NetdError], int]] = {
    MethodNotAllowed: 405,
    BodyTooSlow: 408,
    BodyTooLarge: 413,
    BodyEncoded: 415,
}


def status_of(error: type[NetdError]) -> int:
    """The HTTP status that tells of an error of this class."""
    return _STATUS_OF_CLASS.get(error) or STATUS_OF_CODE[error.code]


def problem_of(error: NetdError) -> Problem:
    """`error` as it is shown to a caller."""
    return Problem(
        type=f"urn:netd:problem:{error.code}",
        title=error.title,
        status=status_of(type(error)),
        detail=error.detail,
        code=cast(Code, error.code),
        field=msgspec.UNSET if error.field is None else error.field,
    )
