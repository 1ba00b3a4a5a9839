"""What is wrong with the cluster as this host sees it, and what to do. Pure."""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from netd.engine.interfaces import ClusterHealth, PeerHealth
from netd.model.views import Finding, Member, Status

CLOCK_OFFSET_MAX_S: Final = 1.0
_NAMED_MAX: Final = 5
_ALIVE: Final = ("alive", "suspect")


def examine_cluster(
    health: ClusterHealth, members: Sequence[Member], status: Status
) -> tuple[Finding, ...]:
    """All findings, one or more for each check. `members` begins with this host."""
    own, *others = members
    present = [peer for peer in health.peers if peer.state in _ALIVE]
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _members(health, own, others),
        lambda: _ports(present),
        lambda: _clock(own.name, present),
        lambda: _versions(own, health, present),
        lambda: _keys(health, present),
        lambda: _problems(status),
    ]
    return tuple(finding for check in checks for finding in check())


def _members(health: ClusterHealth, own: Member, others: Sequence[Member]) -> Iterator[Finding]:
    check = "cluster-members"
    fine = True
    later = {own.name, *(member.name for member in others if member.state != "dead")}
    for member in others:
        who = f"{member.name} at {member.address}"
        if member.state == "dead" and member.name in later:
            continue  # the host was replaced, or had lost its disk
        if member.state == "dead":
            fine = False
            yield Finding(
                check=check,
                level="warning",
                detail=f"{who} is dead since {member.since}",
                remedy=f"on {member.name}: systemctl start netd. A host that does not come back "
                "is forgotten after 30 days",
            )
        elif member.state == "suspect":
            fine = False
            yield Finding(
                check=check,
                level="warning",
                detail=f"{who} does not answer since {member.since}; it is dead soon unless it "
                "says otherwise",
                remedy=f"on {member.name}: systemctl status netd",
            )
        elif member.state == "alive" and not member.reachable:
            fine = False
            yield Finding(
                check=check,
                level="error",
                detail=f"{who} is alive, as others say, but does not answer this host",
                remedy=f"look for what is between the two: ping {_host(member.address)}",
            )
    for address, why in sorted(health.unanswered.items()):
        fine = False
        yield Finding(
            check=check,
            level="warning",
            detail=f"joining by {address} has not succeeded: {why}",
            remedy="start netd there, or take it out of cluster.join (cluster.join_token_file)",
        )
    if fine:
        count = sum(member.state == "alive" for member in others)
        shown = f"alive: {count} and this host, at {health.advertised}"
        yield Finding(
            check=check, level="ok", detail=shown if health.bound else "this host is on its own"
        )


def _ports(peers: Iterable[PeerHealth]) -> Iterator[Finding]:
    fine = True
    for peer in peers:
        for works, fails, protocol in (
            (peer.tcp_ok, peer.udp_ok, "udp"),
            (peer.udp_ok, peer.tcp_ok, "tcp"),
        ):
            if works is not True or fails is not False:
                continue
            fine = False
            port = peer.address.rpartition(":")[2]
            other = "tcp" if protocol == "udp" else "udp"
            yield Finding(
                check="cluster-ports",
                level="error",
                detail=f"{peer.name} at {_host(peer.address)}: port {port}/{protocol} does not "
                f"answer, {port}/{other} does; something drops {protocol.upper()} between here "
                "and there",
                remedy=f"on {peer.name}: iptables -I INPUT -p {protocol} --dport {port} -j ACCEPT "
                f"(ufw: ufw allow {port}/{protocol}; firewalld: firewall-cmd --add-port="
                f"{port}/{protocol}); the same here and on firewalls in between",
            )
    if fine:
        yield Finding(check="cluster-ports", level="ok", detail="no port is known to be blocked")


def _clock(own_name: str, peers: Iterable[PeerHealth]) -> Iterator[Finding]:
    fine = True
    for peer in peers:
        offset_s = peer.clock_offset_s
        if offset_s is None or abs(offset_s) <= CLOCK_OFFSET_MAX_S:
            continue
        fine = False
        relation = "ahead of" if offset_s > 0 else "behind"
        yield Finding(
            check="cluster-clock",
            level="warning",
            detail=f"the clock of {peer.name} is {abs(offset_s):.1f} s {relation} that of "
            f"{own_name}",
            remedy=f"on {peer.name} and {own_name}: timedatectl set-ntp true",
        )
    if fine:
        yield Finding(check="cluster-clock", level="ok", detail="no clock is known to be off")


def _versions(own: Member, health: ClusterHealth, peers: Sequence[PeerHealth]) -> Iterator[Finding]:
    check = "cluster-versions"
    fine = True
    for peer in peers:
        if not peer.protocol_max or not health.protocol_max:  # not known yet
            continue
        if peer.protocol_min > health.protocol_max or peer.protocol_max < health.protocol_min:
            fine = False
            older = peer.name if peer.protocol_max < health.protocol_min else own.name
            yield Finding(
                check=check,
                level="error",
                detail=f"{peer.name} speaks the versions {peer.protocol_min} to "
                f"{peer.protocol_max} of the protocol, {own.name} {health.protocol_min} to "
                f"{health.protocol_max}: they cannot talk",
                remedy=f"upgrade netd on {older}, then there: systemctl restart netd",
            )
    by_version: dict[str, list[str]] = {}
    for peer in peers:
        if peer.version and peer.version != own.version:
            by_version.setdefault(peer.version, []).append(peer.name)
    if by_version:
        fine = False
        others = "; ".join(
            f"{version} on {_named(names)}" for version, names in sorted(by_version.items())
        )
        yield Finding(
            check=check,
            level="warning",
            detail=f"this host has netd {own.version}, others {others}",
            remedy="upgrade the older ones, then there: systemctl restart netd",
        )
    if fine:
        detail = f"all have netd {own.version}" if peers else f"netd {own.version}"
        yield Finding(check=check, level="ok", detail=detail)


def _keys(health: ClusterHealth, peers: Sequence[PeerHealth]) -> Iterator[Finding]:
    check = "cluster-keys"
    fine = True
    if health.bound and not health.secured and not _is_loopback(health.bound):
        fine = False
        yield Finding(
            check=check,
            level="error",
            detail=f"there is no key: everybody who reaches {health.bound} can enter the cluster",
            remedy="netctl key generate --output /etc/netd/cluster.key; copy it to all hosts, set "
            "cluster.key_file there, and: systemctl restart netd",
        )
    without = [peer.name for peer in peers if health.primary in peer.keys_missing]
    if without:
        fine = False
        yield Finding(
            check=check,
            level="error",
            detail=f"the key {health.primary}, which this host sends with, is missing on "
            f"{_named(without)}",
            remedy=f"with a token of 'netctl member token' from here, on {without[0]}: "
            f"netctl member join --token-file FILE {health.advertised}",
        )
    behind = [peer.name for peer in peers if peer.keys_missing and peer.name not in without]
    if behind:
        fine = False
        yield Finding(
            check=check,
            level="warning",
            detail=f"a key that this host has, and does not send with, is missing on "
            f"{_named(behind)}",
            remedy="wait until 'netctl key ls' shows them before: netctl key use",
        )
    if fine:
        detail = f"the primary key is {health.primary}" if health.secured else "none is needed"
        yield Finding(check=check, level="ok", detail=detail)


def _problems(status: Status) -> Iterator[Finding]:
    fine = True
    for condition in status.conditions:
        if condition.code.startswith("cluster-"):
            fine = False
            yield Finding(
                check="cluster-problems",
                level=condition.severity if condition.severity != "info" else "ok",
                detail=condition.detail,
                remedy=condition.remedy,
            )
    if fine:
        yield Finding(check="cluster-problems", level="ok", detail="no host contradicts another")


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return ", ".join(names[:_NAMED_MAX]) + more


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(_host(address)).is_loopback
