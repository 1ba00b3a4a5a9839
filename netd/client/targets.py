"""What a call is asked of: paths and queries."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


def path(base: str, *segments: str) -> str:
    return "/".join([base, *map(_segment, segments)])


def query(fields: dict[str, Any]) -> str:
    """Those of the fields that are not None."""
    given = [f"{name}={_quoted(str(value))}" for name, value in fields.items() if value is not None]
    return "?" + "&".join(given) if given else ""


def _segment(text: str) -> str:
    # One that is only dots would be taken for a step in the path (RFC 3986, 5.2.4).
    return text.replace(".", "%2E") if text in (".", "..") else _quoted(text)


def _quoted(text: str) -> str:
    """Percent-encode all but RFC 3986's unreserved characters."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())
