"""Rates in the notation of tc(8), e.g. `10mbit`: decimal multiples of bits per second."""

import re
from typing import Final

# tc reads `bps` as bytes per second, everybody else as bits: it is refused, not guessed.
_UNITS: Final = {
    "tbit": 1_000_000_000_000,
    "gbit": 1_000_000_000,
    "mbit": 1_000_000,
    "kbit": 1_000,
    "bit": 1,
}
_RATE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,12}))?([a-z]*)", re.ASCII)


def parse_rate(text: str) -> int:
    """Read a rate; return bits per second. A bare number is in bits per second.

    Raises `ValueError`, whose text says what would be right.
    """
    found = _RATE.fullmatch(text.lower())
    unit = _UNITS.get((found[3] or "bit") if found else "")
    if not found or unit is None:
        raise ValueError(f"{text!r} is not a rate: write e.g. 500kbit, 10mbit or 1.5gbit")
    fraction = found[2] or ""
    scale = int("1" + "0" * len(fraction))
    rate, rest = divmod(int(found[1] + fraction) * unit, scale)
    if rest:
        raise ValueError(f"{text} is not a whole number of bits per second")
    return rate


def format_rate(rate_bps: int) -> str:
    """Write a rate in the largest unit that needs no fraction."""
    fitting = (name for name, unit in _UNITS.items() if rate_bps >= unit and rate_bps % unit == 0)
    name = next(fitting, "bit")
    return f"{rate_bps // _UNITS[name]}{name}"
