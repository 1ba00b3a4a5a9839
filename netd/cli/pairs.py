"""`key=value` arguments: labels, whose values are text, and options, whose values are typed."""

import re
from collections.abc import Iterable

OptionValue = str | int | bool

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)


def parse_labels(pairs: Iterable[str]) -> dict[str, str]:
    """Read `key=value` pairs. Raises `ValueError` for one without a key, or given twice."""
    labels: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ValueError(f"{pair!r} is not of the form KEY=VALUE")
        if key in labels:
            raise ValueError(f"{key!r} is given twice")
        labels[key] = value
    return labels


def parse_options(pairs: Iterable[str]) -> dict[str, OptionValue]:
    """Read `key=value` pairs; `true`, `false` and integers become what they look like."""
    return {key: _typed(value) for key, value in parse_labels(pairs).items()}


def _typed(text: str) -> OptionValue:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if _INTEGER.fullmatch(text) else text
