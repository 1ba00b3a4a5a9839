"""How netd recognises its own objects in the kernel."""

LINK_GROUP = 28260
RETIRED_GROUP = 28261
GUEST_GROUP = 28262
"""Of links in containers: another number, lest a netd in there takes them for its own."""

PROTOCOL = 110
"""The routing protocol number of netd's routes and rules (free in iproute2's rt_protos)."""

_PREFIX = "netd:1:"


def alias(owner: str) -> str:
    """The IFLA_IFALIAS of a link of `owner`. 1 is the version of this format."""
    return _PREFIX + owner


def owner_by(group: int, alias_text: str) -> str:
    """The owner by the whole tag of a link of the host; "" where some of it is missing."""
    return owner_of(alias_text) or "" if group == LINK_GROUP else ""


def owner_of(alias_text: str) -> str | None:
    """The owner that an alias names, or None when it is not netd's."""
    return alias_text[len(_PREFIX) :] if alias_text.startswith(_PREFIX) else None
