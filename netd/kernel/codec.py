"""Netlink messages by pyroute2, for all that is not done for every container.

pyroute2 knows the layout of every message, and takes 20 to 200 µs for each. Links, addresses,
routes and rules, of which there are thousands, are packed and read by netd itself (`rtnl_*`).
Either way they travel over `NetlinkSocket`: pyroute2's own sockets run an event loop each.
"""

from typing import Any

from netd.kernel.uapi import NLMSGHDR

Attribute = tuple[str, Any]
"""Name and value; a value that is made of attributes is what `nested` gives."""


def nested(*attributes: Attribute) -> dict[str, Any]:
    return {"attrs": list(attributes)}


def encoded(kind: type[Any], /, *attributes: Attribute, **fields: int) -> bytes:
    """The payload of a message of pyroute2's class `kind`; fields not given are 0."""
    message = kind()
    message.update(fields, **nested(*attributes))
    message.encode()
    return bytes(message.data[NLMSGHDR.size :])


def decoded(kind: type[Any], data: bytes, start: int) -> Any:
    """The message of pyroute2's class `kind` whose payload begins at `start`.

    Attributes are read when they are asked for; one that is not there is None.
    """
    message = kind(data, offset=start - NLMSGHDR.size)
    message.decode()
    return message
