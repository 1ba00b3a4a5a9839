"""Which names are allowed, and names derived from other names."""

import hashlib
import re
from typing import Annotated, Final

import msgspec

from netd.model.errors import Invalid

IFNAME_MAX_BYTES: Final = 15  # IFNAMSIZ - 1, include/uapi/linux/if.h
LABELS_MAX: Final = 64
LABEL_MAX_BYTES: Final = 1024

# Bounds for what a refusal may have to repeat: none of these is as long when it is right.
Word = Annotated[str, msgspec.Meta(max_length=256)]
PathName = Annotated[str, msgspec.Meta(max_length=4096)]  # PATH_MAX, include/uapi/linux/limits.h

_NETWORK = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?\Z")
_ID = re.compile(r"[0-9a-f]{16}\Z")
_DNS_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z", re.IGNORECASE)
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}\Z")
_ENDPOINT_LINK = re.compile(r"n[vpi][0-9a-f]{12}\Z")  # veth_name, peer_name and ifb_name
# dev_valid_name() in net/core/dev.c refuses '/', ':' and white space; '%' is expanded as a
# template by dev_alloc_name(), so it must never reach the kernel.
_IFNAME = re.compile(r"[A-Za-z0-9_.@+-]{1,15}\Z")


def check_network_name(name: str) -> None:
    """Raise `Invalid` unless `name` may name a network."""
    if not _NETWORK.match(name):
        raise Invalid(
            f"network name {name!r}: use 1 to 63 lower-case letters, digits, '-', '_' or '.', "
            "beginning and ending with a letter or digit",
            field="name",
        )
    if _ID.match(name):
        raise Invalid(
            f"network name {name!r}: 16 hexadecimal digits are an id; choose another name",
            field="name",
        )


def check_container_id(container_id: str) -> None:
    """Raise `Invalid` unless `container_id` may identify a container."""
    if not _CONTAINER.match(container_id):
        raise Invalid(
            f"container_id {container_id!r}: use 1 to 128 letters, digits or one of '_.:@-', "
            "beginning with a letter or digit",
            field="container_id",
        )


def check_endpoint_name(name: str, field: str) -> None:
    """Raise `Invalid` unless `name` is one DNS label (RFC 1035, with '_' allowed)."""
    if not _DNS_LABEL.match(name):
        raise Invalid(
            f"{name!r} is not a DNS label: use 1 to 63 letters, digits, '-' or '_', "
            "not beginning or ending with '-'",
            field=field,
        )


def check_ifname(ifname: str, field: str = "ifname") -> None:
    """Raise `Invalid` unless the kernel takes `ifname` literally as an interface name."""
    if not _IFNAME.match(ifname) or ifname in {".", "..", "lo", "all", "default"}:
        raise Invalid(
            f"interface name {ifname!r}: use 1 to {IFNAME_MAX_BYTES} letters, digits or one of "
            "'_.@+-'; not 'lo', 'all', 'default', '.' or '..'",
            field=field,
        )


def check_labels(labels: dict[str, str], field: str = "labels") -> None:
    """Raise `Invalid` when there are too many labels or one is too long."""
    if len(labels) > LABELS_MAX:
        raise Invalid(f"{len(labels)} labels; at most {LABELS_MAX} are kept", field=field)
    for key, value in labels.items():
        if not key or len(key.encode()) > LABEL_MAX_BYTES or len(value.encode()) > LABEL_MAX_BYTES:
            raise Invalid(
                f"label {key[:40]!r}: keys have 1 to {LABEL_MAX_BYTES} bytes, values at most "
                f"{LABEL_MAX_BYTES}",
                field=f"{field}.{key[:40]}",
            )


def bridge_name(network: str) -> str:
    """The name of a network's bridge: `nd-<network>`, with a hash where that is too long."""
    return _link_name("nd-", network)


def tunnel_name(network: str) -> str:
    """The name of an overlay network's VXLAN link."""
    return _link_name("nx-", network)


def shim_name(network: str) -> str:
    """The name of a macvlan network's host-side link."""
    return _link_name("ns-", network)


def veth_name(endpoint_id: str) -> str:
    """The name of an endpoint's host-side veth."""
    return "nv" + endpoint_id[:12]


def peer_name(endpoint_id: str) -> str:
    """The name that a veth's other end has on the host, until a runtime moves it from there."""
    return "np" + endpoint_id[:12]


def ifb_name(endpoint_id: str) -> str:
    """The name of the ifb that shapes what an endpoint sends."""
    return "ni" + endpoint_id[:12]


def is_endpoint_link(name: str) -> bool:
    """Whether a link of this name is, or was, one that netd made for an endpoint."""
    return _ENDPOINT_LINK.match(name) is not None


def _link_name(prefix: str, network: str) -> str:
    if len(prefix) + len(network) <= IFNAME_MAX_BYTES:
        return prefix + network
    digest = hashlib.sha256(network.encode()).hexdigest()[:7]
    return f"{prefix}{network[:4]}-{digest}"
