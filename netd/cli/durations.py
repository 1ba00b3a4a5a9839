"""Times as people write them, e.g. `90s`, `15m`, `1h` or `7d`; a bare number is seconds."""

import re
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([1-9][0-9]{0,9})([a-z]?)", re.ASCII)


def parse_duration(text: str) -> int:
    """Read a duration; return seconds. Raises `ValueError`, which says what would be right."""
    found = _DURATION.fullmatch(text.lower())
    unit = _UNITS.get(found[2] or "s") if found else None
    if not found or unit is None:
        raise ValueError(f"{text!r} is not a duration: write e.g. 90s, 15m, 1h or 7d")
    return int(found[1]) * unit
