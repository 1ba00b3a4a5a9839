"""Bodies and queries: from text to checked values, and from faults to what the caller reads."""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect

from netd.model.errors import Invalid

T = TypeVar("T")

_QUERY_FIELDS_MAX: Final = 16
_SHOWN_MAX: Final = 200  # characters of a caller's own text that a fault repeats

_PLACE = re.compile(r" - at `\$\.?(?P<path>.*)`\Z", re.DOTALL)
_FIELD_FAULT = re.compile(
    r"Object (?P<fault>contains unknown|missing required) field `(?P<name>.*)`\Z", re.DOTALL
)
_ENUM_FAULT = "Invalid enum value "
_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")


class Input(Generic[T]):
    """Reads values of one type. All faults become `Invalid` with the field's JSON path."""

    def __init__(self, model: type[T]) -> None:
        self._model = model
        self._decode = msgspec.json.Decoder(model).decode

    def from_json(self, body: bytes) -> T:
        """A value from UTF-8 JSON (RFC 8259). Names that occur twice are refused (RFC 7493)."""
        try:
            value = self._decode(body)
        except msgspec.ValidationError as error:
            raise _invalid(str(error), self._model) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(_malformed(body, error)) from None
        # msgspec keeps the last of two equal names; another reader might keep the first.
        _UNIQUE_NAMES.decode(body.decode())
        return value

    def from_query(self, query: str) -> T:
        """A value from a percent-encoded query string; numbers and booleans are text there."""
        fields: dict[str, str] = {}
        if query:
            for name, text in _pairs(query):
                if name in fields:
                    raise Invalid(f"the query has {_shown(name)} twice", field=_shown(name))
                fields[name] = text
        try:
            return msgspec.convert(fields, self._model, strict=False)
        except msgspec.ValidationError as error:
            raise _invalid(str(error), self._model) from None


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_QUERY_FIELDS_MAX,
        )
    except UnicodeDecodeError:
        raise Invalid("the query is not UTF-8") from None
    except ValueError as error:
        raise Invalid(f"the query is malformed: {_shown(str(error))}") from None


def _unique(pairs: Sequence[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Invalid(f"the body has {_shown(name)} twice in one object", field=_shown(name))
        seen.add(name)


_UNIQUE_NAMES = json.JSONDecoder(object_pairs_hook=_unique)


def _malformed(body: bytes, error: Exception) -> str:
    if not body.strip():
        return "the body is empty; send a JSON object"
    if isinstance(error, UnicodeDecodeError):
        return f"the body is not UTF-8: {error.reason}"
    if "truncated" in str(error):
        return f"the body is not JSON: it ends too early, after byte {len(body)}"
    return f"the body is not JSON: {str(error).removeprefix('JSON is malformed: ')}"


def _invalid(message: str, model: type) -> Invalid:
    """Turn what msgspec says into a fault with a field, and say what would be right."""
    place = _PLACE.search(message)
    path = place["path"].replace("[...]", "") if place else ""
    what = message[: place.start()] if place else message
    here = _types_at(model, path)
    if (fault := _FIELD_FAULT.match(what)) is not None:
        name = fault["name"]
        field = f"{path}.{name}" if path else name
        if fault["fault"] == "missing required":
            return Invalid(f"{_shown(field)} is required", field=_shown(field))
        return Invalid(
            f"{_shown(field)} is not a known field; {_known(name, here)}", field=_shown(field)
        )
    if what.startswith(_ENUM_FAULT):
        given = _shown(what.removeprefix(_ENUM_FAULT))
        what = f"must be one of {', '.join(_literals(here))}, not {given}"
    else:
        what = what[:1].lower() + what[1:].replace("`", "")
    return Invalid(f"{path or 'the body'}: {what}", field=path or None)


def _known(name: str, here: Iterable[inspect.Type]) -> str:
    names = [
        field.encode_name
        for found in here
        if isinstance(found, inspect.StructType)
        for field in found.fields
    ]
    near = difflib.get_close_matches(name[:_SHOWN_MAX], names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(names)}" if names else "none is known here"


def _literals(here: Iterable[inspect.Type]) -> list[str]:
    return [
        str(value)
        for found in here
        if isinstance(found, inspect.LiteralType)
        for value in found.values
    ]


def _types_at(model: type, path: str) -> list[inspect.Type]:
    """The types a value may have at `path`, e.g. `ports[0].protocol`, inside `model`."""
    here = _branches(inspect.type_info(model))
    for step in _STEP.findall(path):
        here = [branch for found in here for branch in _children(found, step)]
    return here


def _children(parent: inspect.Type, step: str) -> list[inspect.Type]:
    match parent:
        case inspect.StructType(fields=fields):
            return [
                branch
                for field in fields
                if field.encode_name == step
                for branch in _branches(field.type)
            ]
        case inspect.VarTupleType(item_type=item) if step.startswith("["):
            return _branches(item)
        case _:
            return []


def _branches(found: inspect.Type) -> list[inspect.Type]:
    match found:
        case inspect.UnionType(types=types):
            return list(types)
        case inspect.Metadata(type=inner):
            return _branches(inner)
        case _:
            return [found]


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"
