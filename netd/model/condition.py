"""Conditions: what is not as it should be, as data."""

from typing import Literal

import msgspec

Severity = Literal["info", "warning", "error"]


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with one object. Gone as soon as it is right again.

    `code` is stable and kebab-case, `detail` says what was seen, `remedy` what to do.
    """

    code: str
    severity: Severity
    detail: str
    remedy: str = ""
    since: str = ""
