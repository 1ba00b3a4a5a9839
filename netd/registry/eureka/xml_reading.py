"""Eureka's XML as it comes from clients, into the objects that its JSON has.

Expat reads it. What could make a short document a long one, or have files read, needs a document
type or entities of its own: both end the reading at once, and so does what is deeper or has more
elements than any instance.
"""

import re
from typing import Any, Final
from xml.parsers import expat

from netd.registry.eureka.instances import Instance, Malformed
from netd.registry.eureka.objects import Object, from_object

DEPTH_MAX: Final = 8
ELEMENTS_MAX: Final = 1_000
ATTRIBUTES_MAX: Final = 16
BYTES_MAX: Final = 256 * 1024

# What XStream, which Java's clients write XML with, makes of characters that a name cannot have:
# XmlFriendlyNameCoder.
_ESCAPED: Final = re.compile(r"__|_-|((?:_\.[0-9a-fA-F]{4})+)")
_FREE: Final = ("metadata",)  # elements whose children may have any name
_WITH_ATTRIBUTES: Final = ("port", "securePort", "dataCenterInfo")


class _Element:
    __slots__ = ("attributes", "children", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.children: list[_Element] = []
        self.text: list[str] = []


def read_instance(data: bytes) -> Instance:
    """Raises `Malformed`."""
    root = _read(data)
    if root.name != "instance":
        raise Malformed(f"the root is {root.name[:40]!r}, not 'instance'")
    return from_object(_value(root))


class _Reading:
    """What the parser calls; the elements that are open, outermost first."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self.root: _Element | None = None
        self._open: list[_Element] = []
        self._count = 0
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._take
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.UnparsedEntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse
        parser.SkippedEntityHandler = self._refuse

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > ELEMENTS_MAX or len(self._open) >= DEPTH_MAX:
            raise Malformed(f"more than {ELEMENTS_MAX} elements, or deeper than {DEPTH_MAX}")
        if len(attributes) > ATTRIBUTES_MAX:
            raise Malformed(f"more than {ATTRIBUTES_MAX} attributes")
        element = _Element(name, attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, name: str) -> None:
        self._open.pop()

    def _take(self, text: str) -> None:
        if self._open:
            self._open[-1].text.append(text)

    def _refuse(self, *_: object) -> int:
        raise Malformed("document types and entities are not read")


def _read(data: bytes) -> _Element:
    if len(data) > BYTES_MAX:
        raise Malformed(f"more than {BYTES_MAX} bytes")
    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    reading = _Reading(parser)
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Malformed(f"the body is no XML: {error}") from None
    except (LookupError, ValueError) as error:  # an encoding that Python does not know
        raise Malformed(f"the body cannot be decoded: {error}") from None
    if reading.root is None:
        raise Malformed("the body is empty")
    return reading.root


def _value(element: _Element) -> Any:
    """An element as JSON has it: an object where it has children, else its text."""
    if element.name in _FREE:
        return {_unescaped(child.name): _text(child) for child in element.children}
    attributes: Object = {f"@{name}": value for name, value in element.attributes.items()}
    if not element.children:
        text = "".join(element.text).strip()
        return {"$": text, **attributes} if element.name in _WITH_ATTRIBUTES else text
    return attributes | {child.name: _value(child) for child in element.children}


def _text(element: _Element) -> str:
    if element.children:
        raise Malformed(f"{element.name[:40]!r} has more than text")
    return "".join(element.text)


def _unescaped(name: str) -> str:
    return _ESCAPED.sub(_character, name)


def _character(found: re.Match[str]) -> str:
    if found[1] is not None:
        units = bytes.fromhex(found[1].replace("_.", ""))
        return units.decode("utf-16-be", "replace")
    return "_" if found[0] == "__" else "$"
