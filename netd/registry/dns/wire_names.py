"""Domain names in messages, and as text.

The text of a name is in lower case, its labels are separated by dots, and there is none at the
end; the root is "". What is neither printable nor plain in a label is written as `\\.` or `\\046`
(RFC 1035, 5.1; RFC 4343), so that different names never look the same.
"""

from typing import Final

NAME_MAX_BYTES: Final = 255
LABEL_MAX_BYTES: Final = 63
_POINTER: Final = 0xC0

_SPECIAL: Final = b'."\\();@$'
_PLAIN: Final = bytes(char for char in range(0x21, 0x7F) if char not in _SPECIAL)
_ESCAPES: Final = {
    char: f"\\{char:c}" if char in _SPECIAL else f"\\{char:03d}"
    for char in range(256)
    if char not in _PLAIN
}


class Malformed(ValueError):
    """Bytes that are no name, record or message."""


def skip_name(data: bytes, at: int) -> int:
    """Where the name at `at` ends. Each pointer must lead to before what it is the end of, so
    none leads round in a circle. Raises `Malformed`.
    """
    start = at
    end = 0
    size = 1
    try:
        while length := data[at]:
            if length >= _POINTER:
                end = end or at + 2
                at = (length & 0x3F) << 8 | data[at + 1]
                if at >= start:
                    raise Malformed("a pointer that does not lead backwards")
                start = at
                continue
            if length > LABEL_MAX_BYTES:
                raise Malformed("a label of an unknown kind")
            at += length + 1
            size += length + 1
            if size > NAME_MAX_BYTES:
                raise Malformed("a name of more than 255 bytes")
    except IndexError:
        raise Malformed("a name that goes past the end") from None
    return end or at + 1


def end_of_plain_name(data: bytes, at: int) -> int:
    """Where the name at `at` ends, which must not be compressed. Raises `Malformed`."""
    start = at
    try:
        while length := data[at]:
            if length > LABEL_MAX_BYTES:
                raise Malformed("a label that is no plain one")
            at += length + 1
            if at - start >= NAME_MAX_BYTES:
                raise Malformed("a name of more than 255 bytes")
    except IndexError:
        raise Malformed("a name that goes past the end") from None
    return at + 1


def name_text(wire: bytes) -> str:
    """The text of a whole, uncompressed name, which has been checked."""
    labels = []
    at = 0
    while length := wire[at]:
        at += 1
        labels.append(wire[at : at + length])
        at += length
    if not b"".join(labels).translate(None, _PLAIN):
        return b".".join(labels).lower().decode("ascii")
    return ".".join(
        "".join(_ESCAPES.get(char) or chr(char) for char in label.lower()) for label in labels
    )
