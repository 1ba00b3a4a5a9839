"""HTML by functions. What is not `Markup` already is words, and is escaped; without exception."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from netd.client.printable import clean

WORD_MAX: Final = 400  # characters that are shown of one value

Attributes = Mapping[str, str | int | None]


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


NOTHING: Final = Markup("")
NONE: Final = Markup("-")  # where there is no value
Content = str | int | float


def words(value: Content) -> Markup:
    """A value as text: what does not print is shown as an escape, what is very long is cut."""
    if isinstance(value, Markup):
        return value
    shown = str(value)
    if shown.isalnum() and len(shown) <= WORD_MAX:  # most are, and thousands are on a page
        return Markup(shown)
    if len(shown) > WORD_MAX:
        shown = shown[: WORD_MAX - 1] + "…"
    return Markup(escape(clean(shown)))


def element(name: str, attributes: Attributes | None = None, *content: Content) -> Markup:
    """An element with an end tag. An attribute that is None is left out."""
    return Markup(f"<{name}{_written(attributes)}>{joined(content)}</{name}>")


def void(name: str, attributes: Attributes) -> Markup:
    """An element that has no content and no end tag."""
    return Markup(f"<{name}{_written(attributes)}>")


def joined(parts: Iterable[Content], between: str = "") -> Markup:
    """Parts after each other; `between` is words."""
    return Markup(words(between).join(words(part) for part in parts))


def listed(parts: Sequence[Content], most: int = 8) -> Markup:
    """Words with commas, at most so many of them; a dash for none."""
    if not parts:
        return NONE
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return Markup(joined(parts[:most], ", ") + more)


def _written(attributes: Attributes | None) -> str:
    if not attributes:
        return ""
    return "".join(
        f' {name}="{_value(value)}"' for name, value in attributes.items() if value is not None
    )


def _value(value: str | int) -> str:
    return escape(clean(str(value)))
