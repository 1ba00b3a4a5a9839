"""Subnets, gateways and MAC addresses: parsing, choosing, deriving."""

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from netd.model.errors import Conflict, Exhausted, Invalid
from netd.plan.facts import Facts

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# Not for containers: "this" network, loopback, link-local, multicast, reserved (RFC 6890,
# RFC 4291).
_SPECIAL: tuple[IPNetwork, ...] = (
    *map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    *map(IPv6Network, ("::/8", "fe80::/10", "ff00::/8")),
)
# VPNs take over the default route by routes to its halves. No range that a network could
# collide with is as wide: the widest are 10.0.0.0/8 and fc00::/7.
_WIDEST = {4: 8, 6: 7}

DERIVED_MACS = "0e:"  # locally administered, and used by no hypervisor or container engine
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")


def bare(addresses: Iterable[str]) -> tuple[str, ...]:
    """Addresses without the lengths of their prefixes."""
    return tuple(address.partition("/")[0] for address in addresses)


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A range that subnets of `prefix` bits are cut from when a network names none."""

    base: str
    prefix: int

    def subnets(self, start: int = 0) -> Iterable[IPNetwork]:
        """All of them once, from number `start` (modulo their number) on."""
        base = ipaddress.ip_network(self.base)
        width = base.max_prefixlen - self.prefix
        count = 1 << (self.prefix - base.prefixlen)
        for number in range(count):
            offset = (start + number) % count << width
            yield type(base)((int(base.network_address) + offset, self.prefix))


class Taken(msgspec.Struct, frozen=True):
    """A range that a new subnet must not overlap: what takes it, in words, and by which link."""

    subnet: IPNetwork
    by: str
    link: str = ""


def parse_subnet(text: str, field: str) -> IPNetwork:
    """Read a subnet in CIDR form. Raises `Invalid` naming the nearest right form."""
    _refuse_zone(text, field)
    try:
        subnet = ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise Invalid(
                f"{text!r} is not a subnet; write one like 10.20.0.0/24 or fd20::/64", field=field
            ) from None
        raise Invalid(f"{text!r} has host bits set; write {meant}", field=field) from None
    if "/" not in text:
        raise Invalid(f"{text!r} has no prefix length; write {text}/24, for example", field=field)
    if any(overlap(subnet, special) for special in _SPECIAL):
        raise Invalid(f"{subnet} cannot be used for containers", field=field)
    if subnet.num_addresses < 4:
        raise Invalid(f"{subnet} has no room for a gateway and a container", field=field)
    return subnet


def parse_address(text: str, field: str) -> IPAddress:
    """Read an address, with or without a prefix length. Raises `Invalid`."""
    _refuse_zone(text, field)
    try:
        return ipaddress.ip_interface(text).ip
    except ValueError:
        raise Invalid(
            f"{text!r} is not an IP address; write one like 10.20.0.5 or fd20::5", field=field
        ) from None


def address_within(
    text: str, subnets: Iterable[IPNetwork], field: str
) -> tuple[IPAddress, IPNetwork]:
    """Read an address of one of a network's subnets; return it and its subnet.

    Raises `Invalid`, also when it comes with another prefix length than the subnet's.
    """
    address = parse_address(text, field)
    known = list(subnets)
    subnet = next((subnet for subnet in known if address in subnet), None)
    if subnet is None:
        names = ", ".join(map(str, known)) or "none"
        raise Invalid(f"{address} is in no subnet of the network ({names})", field=field)
    if "/" in text and ipaddress.ip_interface(text).network != subnet:
        raise Invalid(f"{text}: its subnet is {subnet}; write {address}", field=field)
    return address, subnet


def parse_mac(text: str, field: str) -> str:
    """Read a unicast MAC address; return it in lower case. Raises `Invalid`."""
    mac = text.lower().replace("-", ":")
    if not _MAC.match(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise Invalid(f"{text!r} is not a unicast MAC address like 02:00:5e:10:00:01", field=field)
    return mac


def derive_mac(network: str, address: IPAddress) -> str:
    """The MAC address of `address` on `network`: locally administered, always the same.

    An IPv4 address is contained whole, so two addresses of one network never share a MAC.
    """
    salt = hashlib.sha256(network.encode()).digest()
    if isinstance(address, IPv4Address):
        tail = salt[:1] + address.packed
    else:
        tail = hashlib.sha256(salt + address.packed).digest()[:5]
    return DERIVED_MACS + tail.hex(":")


def link_local(mac: str) -> IPv6Address:
    """The link-local address of a MAC (RFC 4291, appendix A), as the kernel would make it."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + identifier)


def ula_prefix(seed: str) -> IPv6Network:
    """A unique local /48 (RFC 4193) that depends on `seed` only."""
    digest = hashlib.sha256(seed.encode()).digest()
    return IPv6Network((b"\xfd" + digest[:5] + bytes(10), 48))


def ula_subnets(prefix: str) -> Pool:
    """The pool that IPv6 subnets of the /48 `prefix` are cut from."""
    return Pool(prefix, 64)


def ranges_in_use(facts: Facts, own_links: Iterable[str]) -> list[Taken]:
    """What of the host a new subnet must not overlap: routes, addresses, name servers.

    Default routes and their halves are left out, since they cover everything, and so is what
    is reached by netd's own links.
    """
    mine = {link.name for link in facts.links if link.ours} | set(own_links)
    taken = []
    for route in facts.routes:
        subnet = ipaddress.ip_network(route.destination)
        if subnet.prefixlen >= _WIDEST[subnet.version] and route.link not in mine:
            by = f"the host's route {subnet}" + (f" dev {route.link}" if route.link else "")
            taken.append(Taken(subnet, by, route.link or ""))
    for address in facts.addresses:
        if address.link not in mine and address.scope == "global":
            interface = ipaddress.ip_interface(address.address)
            by = f"the address {interface} of {address.link}"
            taken.append(Taken(interface.network, by, address.link))
    for server in facts.nameservers:
        subnet = ipaddress.ip_network(server)
        if not subnet.is_loopback:
            taken.append(Taken(subnet, f"the name server {server}"))
    return taken


def check_free(subnet: IPNetwork, taken: Iterable[Taken], field: str) -> None:
    """Raise `Conflict` when `subnet` overlaps something that is taken."""
    for other in taken:
        if overlap(subnet, other.subnet):
            raise Conflict(f"{subnet} overlaps {other.by}", field=field)


def choose_subnet(
    pools: Sequence[Pool],
    taken: Sequence[Taken],
    start: int = 0,
    kept: Sequence[IPNetwork] = (),
) -> IPNetwork:
    """The first subnet of the pools, from number `start` of each on, that overlaps nothing taken,
    and nothing kept if there is such a one.

    Raises `Exhausted`.
    """
    fallback: IPNetwork | None = None
    for pool in pools:
        base = ipaddress.ip_network(pool.base)
        near = [other.subnet for other in taken if overlap(base, other.subnet)]
        spared = _blocks(pool, [subnet for subnet in kept if overlap(base, subnet)])
        for subnet in pool.subnets(start):
            if not any(overlap(subnet, other) for other in near):
                if subnet not in spared:
                    return subnet
                fallback = fallback or subnet
    if fallback is not None:
        return fallback
    bases = ", ".join(f"{pool.base} in /{pool.prefix}" for pool in pools)
    raise Exhausted(
        f"no free subnet is left in {bases}; give one with `subnets`, or set "
        "networks.ipv4_pools or networks.ula of the configuration to a range with room",
        field="subnets",
    )


def _blocks(pool: Pool, subnets: Iterable[IPNetwork]) -> set[IPNetwork]:
    """The pool's subnets that these overlap."""
    blocks: set[IPNetwork] = set()
    for subnet in subnets:
        if subnet.prefixlen >= pool.prefix:
            blocks.add(subnet.supernet(new_prefix=pool.prefix))
        else:
            blocks.update(each for each in pool.subnets() if overlap(each, subnet))
    return blocks


def _refuse_zone(text: str, field: str) -> None:
    # Python takes zones (RFC 4007) for part of an address; no network's address needs one.
    if "%" in text:
        raise Invalid(f"{text!r}: write it without the zone that begins with '%'", field=field)


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    """Whether the two share an address; networks of different families never do."""
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    if isinstance(one, IPv6Network) and isinstance(other, IPv6Network):
        return one.overlaps(other)
    return False
