"""The host as it is: links, addresses, routes and settings, in one observation."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from netd.kernel import capabilities, sysctl
from netd.kernel.netlink import NetlinkSocket
from netd.kernel.rtnl_decode import ADDRESSES, LINKS, ROUTES_4, ROUTES_6, LinkInfo, RouteInfo
from netd.plan.facts import AddressFact, Facts, LinkFact, RouteFact

RESOLV_CONF: Final = Path("/etc/resolv.conf")
# Where systemd-resolved names the servers behind its stub, see systemd-resolved.service(8).
RESOLVED_CONF: Final = Path("/run/systemd/resolve/resolv.conf")

SYSCTLS: Final = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/ipv4/conf/all/rp_filter",
)

_SCOPES: Final = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}


def observe_facts(rtnl: NetlinkSocket, node: str) -> Facts:
    """Look at the host, whose namespace both `rtnl` and the calling thread are in.

    `foreign_chains` is left empty. Unicast routes of all tables are given, except those that
    every host has (loopback, link-local, multicast). Raises NetlinkError when the kernel's
    tables cannot be read.
    """
    links = rtnl.dump(LINKS)
    names = {link.index: link.name for link in links}
    facts = Facts(
        node=node,
        boot_id=sysctl.read("kernel/random/boot_id") or "",
        kernel=os.uname().release,
        links=tuple(_link_fact(link, names) for link in links),
        addresses=tuple(
            AddressFact(
                link=names[found.index],
                address=found.address,
                scope=_SCOPES.get(found.scope, str(found.scope)),
            )
            for found in rtnl.dump(ADDRESSES)
            if found.index in names  # else it came after the links were read
        ),
        routes=tuple(
            _route_fact(route, names)
            for query in (ROUTES_4, ROUTES_6)
            for route in rtnl.dump(query)
            if not _is_everywhere(route.destination)
        ),
        nameservers=nameservers(),
        capabilities=capabilities.probe(),
    )
    of_uplinks = (f"net/ipv6/conf/{link.name}/accept_ra" for link in facts.uplinks())
    values = ((name, sysctl.read(name)) for name in (*SYSCTLS, *of_uplinks))
    return replace(facts, sysctls={name: value for name, value in values if value is not None})


def nameservers(
    resolv_conf: Path = RESOLV_CONF, resolved_conf: Path = RESOLVED_CONF
) -> tuple[str, ...]:
    """The host's name servers, most preferred first.

    A stub on a loopback address cannot be reached from a container; where there are only
    such ones, the servers that systemd-resolved asks are given, if it runs.
    """
    servers = _servers_in(resolv_conf)
    if all(ip_address(server).is_loopback for server in servers):
        return _servers_in(resolved_conf) or servers
    return servers


def _link_fact(link: LinkInfo, names: dict[int, str]) -> LinkFact:
    return LinkFact(
        index=link.index,
        name=link.name,
        mac=link.mac,
        mtu=link.mtu,
        kind=link.kind,
        up=link.up,
        ours=link.ours,
        master=None if link.master is None else names.get(link.master),
        wireless=not link.kind and _is_wireless(link.name),
    )


def _is_wireless(name: str) -> bool:
    # cfg80211 makes the first, old drivers with wireless extensions only the second.
    folder = Path("/sys/class/net", name)
    return (folder / "phy80211").exists() or (folder / "wireless").exists()


def _route_fact(route: RouteInfo, names: dict[int, str]) -> RouteFact:
    return RouteFact(
        destination=route.destination,
        link=None if route.index is None else names.get(route.index),
        gateway=route.gateway,
        table=route.table,
        protocol=route.protocol,
        metric=route.metric,
    )


def _is_everywhere(destination: str) -> bool:
    """Whether every host has such a route: loopback, link-local (IPv6) or multicast.

    On the text, because there may be thousands of them: each link with IPv6 has some.
    """
    if ":" in destination:
        first = int(destination.partition(":")[0] or "0", 16)
        return destination == "::1/128" or first & 0xFFC0 == 0xFE80 or first >> 8 == 0xFF
    octet = int(destination.partition(".")[0])
    return octet == 127 or 224 <= octet < 240


def _servers_in(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # a file that is missing or cannot be read names no servers
        return ()
    words = (line.split() for line in lines)
    named = (line[1] for line in words if len(line) > 1 and line[0] == "nameserver")
    return tuple(dict.fromkeys(server for server in named if _is_address(server)))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
