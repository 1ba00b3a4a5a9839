"""Points in time as text."""

from datetime import UTC, datetime


def rfc3339(wall_s: float) -> str:
    """Unix time as RFC 3339 in UTC with milliseconds, e.g. 2026-01-31T12:00:00.250Z."""
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
