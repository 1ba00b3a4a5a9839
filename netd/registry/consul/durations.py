"""Times as Go writes them (`time.ParseDuration`, `time.Duration.String`)."""

import re
from typing import Final

MAX_S: Final = 292 * 365 * 86_400  # of 63 bits of nanoseconds
_UNITS_S: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,  # U+00B5
    "μs": 1e-6,  # U+03BC
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
# Digits are bounded so that no text becomes a number of a million digits.
_PART: Final = re.compile(r"(\d{1,19}(?:\.\d{0,19})?|\.\d{1,19})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_TEXT_MAX: Final = 128


def seconds_of(text: str) -> float:
    """The length of "1m30s", "100ms", "0". Raises ValueError for anything else."""
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0.0
    total = 0.0
    at = 0
    while at < len(rest) and len(rest) <= _TEXT_MAX:
        part = _PART.match(rest, at)
        if part is None:
            break
        total += float(part[1]) * _UNITS_S[part[2]]
        at = part.end()
    if not rest or at < len(rest) or total > MAX_S:
        raise ValueError(f"time: invalid duration {text[:_TEXT_MAX]!r}")
    return sign * total


def text_of(length_s: float) -> str:
    """As Go writes it: "1m30s", "1.5s", "100ms", "0s"."""
    nanoseconds = round(abs(length_s) * 1e9)
    sign = "-" if length_s < 0 and nanoseconds else ""
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if 0 < nanoseconds < 1_000_000_000 and nanoseconds < size * 1_000:
            return f"{sign}{_decimal(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    parts = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{parts}{_decimal(rest, 1_000_000_000)}s"


def _decimal(count: int, size: int) -> str:
    whole, rest = divmod(count, size)
    digits = str(rest).zfill(len(str(size)) - 1).rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def short_text_of(length_s: float) -> str:
    """In the unit that people write TTLs in: "30s", "0.5s"; the same length, not the same text."""
    return f"{round(length_s, 9):.9f}".rstrip("0").rstrip(".") + "s"
