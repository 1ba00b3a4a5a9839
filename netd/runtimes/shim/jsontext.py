"""JSON by the interpreter's own parts.

The module `json` imports regular expressions and enumerations, which takes as long as the whole
of an ADD; its C parts do without. Where an interpreter has none, `json` does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SPACE = " \t\n\r"


def loads(data: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError."""
    text = data.decode()
    start = len(text) - len(text.lstrip(_SPACE))
    try:
        value, end = _scan(text, start)
    except StopIteration as stop:
        raise ValueError(f"a value is expected at character {stop.value}") from None
    except SystemError:
        # The scanner takes its error from json.decoder, and has none where that is not imported.
        raise ValueError("it is no JSON, or ends too early") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text[end:].strip(_SPACE):
        raise ValueError(f"there is more after its end, from character {end} on")
    return value


def dumps(value: Any) -> str:
    """A value made of dicts with text as keys, lists, text, numbers, bools and None."""
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        pairs = [f"{_quoted(key)}:{dumps(item)}" for key, item in value.items()]
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([dumps(item) for item in value]) + "]"
    return repr(value)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class _Rules:
    """What the scanner asks for: see json/decoder.py."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse)


_scan: Callable[[str, int], tuple[Any, int]]
_quoted: Callable[[str], str]
try:
    from _json import encode_basestring_ascii as _quoted
    from _json import make_scanner as _make

    # It asks for these fields, whatever the type of what has them.
    _scan = _make(_Rules())  # type: ignore[arg-type]
except ImportError:
    import json

    _scan = json.JSONDecoder(parse_constant=_refuse).raw_decode
    _quoted = json.dumps
