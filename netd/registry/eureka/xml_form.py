"""Eureka's XML: from instances to bytes."""

import re
from collections.abc import Iterable
from typing import Final

from netd.registry.eureka.instances import Instance
from netd.registry.eureka.objects import EMPTY_MAP, Object, compact, to_object

# XML 1.0, 2.2: characters that a document cannot have, not even as references.
_IMPOSSIBLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKUP: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}
)
# Names, of the characters that all readers take. The others are written as XStream does, and ":"
# with them, as it would begin the name of a namespace.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_OF_NAMES: Final = re.compile(r"[A-Za-z0-9_.-]")


def write_instance(instance: Instance, action: str, *, reduced: bool = False) -> bytes:
    fields = to_object(instance, action)
    parts: list[str] = ["<instance>"]
    for name, value in (compact(fields) if reduced else fields).items():
        _write(parts, "overriddenstatus" if name == "overriddenStatus" else name, value)
    parts.append("</instance>")
    return "".join(parts).encode()


def one_instance(written: bytes) -> bytes:
    return written


def application(name: str, written: Iterable[bytes]) -> bytes:
    return b"<application><name>%s</name>%s</application>" % (
        _escaped(name).encode(),
        b"".join(written),
    )


def one_application(written: bytes) -> bytes:
    return written


def applications(version: str, hashcode: str, written: Iterable[bytes]) -> bytes:
    return (
        b"<applications><versions__delta>%s</versions__delta>"
        b"<apps__hashcode>%s</apps__hashcode>%s</applications>"
    ) % (_escaped(version).encode(), _escaped(hashcode).encode(), b"".join(written))


def element_name(key: str) -> str:
    """The name of an element for a key of metadata; XStream's clients, and netd, read it back."""
    if _NAME.match(key):
        return key
    found = []
    for at, character in enumerate(key):
        plain = _OF_NAMES.match(character) and (at > 0 or character.isalpha() or character == "_")
        found.append(character if plain else _code(character))
    return "".join(found) or "_"


def _code(character: str) -> str:
    if character == "$":
        return "_-"
    units = character.encode("utf-16-be", "replace")
    return "".join(f"_.{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _escaped(text: str) -> str:
    return _IMPOSSIBLE.sub("\ufffd", text).translate(_MARKUP)


def _write(parts: list[str], name: str, value: object) -> None:
    if not isinstance(value, dict):
        parts.append(f"<{name}>{_escaped(str(value))}</{name}>")
    elif name == "metadata":
        _write_metadata(parts, value)
    elif "@enabled" in value:
        enabled = value["@enabled"]
        parts.append(f'<{name} enabled="{enabled}">{value["$"]}</{name}>')
    else:
        kind = value.get("@class")
        parts.append(f'<{name} class="{_escaped(kind)}">' if kind else f"<{name}>")
        for inner, each in value.items():
            if inner != "@class":
                _write(parts, inner, each)
        parts.append(f"</{name}>")


def _write_metadata(parts: list[str], fields: Object) -> None:
    if fields.get("@class") == EMPTY_MAP:
        parts.append(f'<metadata class="{EMPTY_MAP}"/>')
        return
    parts.append("<metadata>")
    for key, value in fields.items():
        name = element_name(key)
        parts.append(f"<{name}>{_escaped(value)}</{name}>")
    parts.append("</metadata>")
