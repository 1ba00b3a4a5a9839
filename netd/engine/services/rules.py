"""What a registration may say."""

import ipaddress
import re
from typing import Any, Final

import msgspec

from netd.model.errors import Invalid

TAGS_MAX: Final = 128
META_MAX: Final = 64
META_KEY_MAX: Final = 128  # characters
META_VALUE_MAX: Final = 512
EXTRA_MAX: Final = 16 * 1024  # bytes of JSON

_ID = re.compile(r"[A-Za-z0-9_.:@-]{1,128}\Z")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")


def check_id(text: str, field: str = "id") -> None:
    """Raise `Invalid` unless `text` may be the id of an instance or of a check."""
    if not _ID.match(text):
        raise Invalid(
            f"{text!r} is not an id: use 1 to 128 letters, digits or one of '_.:@-'", field=field
        )


def check_name(name: str, field: str = "name") -> None:
    """Raise `Invalid` unless `name` may be a service's: a DNS label in lower case."""
    if not _NAME.match(name):
        raise Invalid(
            f"service name {name!r}: use 1 to 63 lower-case letters, digits, '-' or '_', "
            "not beginning or ending with '-'",
            field=field,
        )


def checked_address(text: str) -> str:
    """An IP address as it is usually written. Raises `Invalid` for what nobody could reach."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Invalid(f"{text!r} is not an IP address", field="address") from None
    if address.is_unspecified or address.is_multicast or "%" in text:
        raise Invalid(f"{text!r} is not the address of one host", field="address")
    return str(address)


def check_tags(tags: tuple[str, ...]) -> None:
    """Raise `Invalid` when there are too many tags, or an empty one."""
    if len(tags) > TAGS_MAX:
        raise Invalid(f"{len(tags)} tags; at most {TAGS_MAX} are kept", field="tags")
    for index, tag in enumerate(tags):
        if not tag:
            raise Invalid("a tag is empty", field=f"tags[{index}]")


def check_meta(meta: dict[str, str]) -> None:
    """Raise `Invalid` when there is too much in `meta`."""
    if len(meta) > META_MAX:
        raise Invalid(f"{len(meta)} keys; at most {META_MAX} are kept", field="meta")
    for key, value in meta.items():
        if not 0 < len(key) <= META_KEY_MAX or len(value) > META_VALUE_MAX:
            raise Invalid(
                f"meta {key[:40]!r}: keys have 1 to {META_KEY_MAX} characters, values at most "
                f"{META_VALUE_MAX}",
                field=f"meta.{key[:40]}",
            )


def check_extra(extra: dict[str, Any]) -> None:
    """Raise `Invalid` when there is too much in `extra`."""
    size = len(msgspec.json.encode(extra))
    if size > EXTRA_MAX:
        raise Invalid(f"{size} bytes; at most {EXTRA_MAX} are kept", field="extra")
