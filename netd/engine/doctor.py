"""What is wrong with this host, and what to do about it. Pure: from facts to findings."""

from collections.abc import Callable, Container, Iterable, Iterator

from netd.engine.settings import Reload
from netd.model.directory import RegistryState
from netd.model.endpoint import Endpoint
from netd.model.network import Network
from netd.model.service import Service
from netd.model.views import Finding, PlannedOperation, Status
from netd.plan.facts import Facts
from netd.plan.objects import HOST
from netd.plan.ports import Family

KERNEL_MIN = (5, 10)
_NEEDED = {
    "veth": "bridge networks need it",
    "bridge": "bridge networks need it",
    "nft": "published ports and isolation need it",
}
_USEFUL = {
    "macvlan": "macvlan networks need it",
    "virtual": "virtual addresses of services need it (libnftables 1.0.3)",
    "ifb": "limits on what containers send need it",
    "ipv6": "networks are IPv4 only without it",
    "netns-cookie": "without it (Linux 5.14) a reused namespace inode may go unnoticed",
}
# As in OPERATIONS.md, "Beside other programs".
_INSTALL = {
    "NetworkManager": (
        "install -D -m 644 systemd/netd-networkmanager.conf "
        "/usr/lib/NetworkManager/conf.d/10-netd.conf",
        "systemctl reload NetworkManager",
    ),
    "systemd-networkd": (
        "install -D -m 644 -t /usr/lib/systemd/network "
        "systemd/10-netd-unmanaged.network systemd/10-netd.link",
        "networkctl reload",
    ),
}
_FORWARDING: dict[Family, str] = {
    4: "net/ipv4/ip_forward",
    6: "net/ipv6/conf/all/forwarding",
}


def examine(
    facts: Facts,
    status: Status,
    planned: tuple[PlannedOperation, ...],
    *,
    reload: Reload,
    owners: Container[str],
    retired: int,
    forwarded: frozenset[Family],
) -> tuple[Finding, ...]:
    """All findings, one or more for each check.

    `owners` has all that an object may belong to, `retired` counts links that wait for removal,
    `forwarded` has the address families that the host must forward for its networks.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _kernel(facts),
        lambda: _capabilities(facts),
        lambda: _forwarding(facts, forwarded),
        lambda: _bridge_filter(facts),
        lambda: _foreign_chains(facts, status),
        lambda: _docker(status),
        lambda: _managers(facts),
        lambda: _drift(planned),
        lambda: _leftovers(planned, owners, retired),
        lambda: _configuration(reload),
    ]
    return tuple(finding for check in checks for finding in check())


def examine_objects(objects: Iterable[Network | Endpoint | Service]) -> tuple[Finding, ...]:
    """What is wrong with single networks, endpoints and services."""
    return tuple(
        Finding(
            check="conditions",
            level="error" if condition.severity == "error" else "warning",
            detail=f"{_kind(shown)} {shown.name or shown.id}: {condition.code}: {condition.detail}",
            remedy=condition.remedy,
        )
        for shown in objects
        for condition in shown.conditions
    )


def _kind(shown: Network | Endpoint | Service) -> str:
    return type(shown).__name__.lower()


def _kernel(facts: Facts) -> Iterator[Finding]:
    numbers = [int(part) for part in facts.kernel.split("-")[0].split(".")[:2] if part.isdigit()]
    if tuple(numbers) < KERNEL_MIN:
        yield Finding(
            check="kernel-version",
            level="error",
            detail=f"Linux {facts.kernel}: netd needs 5.10 or newer",
            remedy="boot a newer kernel",
        )
    else:
        yield Finding(check="kernel-version", level="ok", detail=f"Linux {facts.kernel}")


def _capabilities(facts: Facts) -> Iterator[Finding]:
    missing = False
    for name, why in {**_NEEDED, **_USEFUL}.items():
        if name in facts.capabilities:
            continue
        missing = True
        yield Finding(
            check="kernel-features",
            level="error" if name in _NEEDED else "warning",
            detail=f"the kernel has no {name}: {why}",
            remedy=f"modprobe {name}" if name in ("veth", "bridge", "macvlan", "ifb") else "",
        )
    if not missing:
        yield Finding(
            check="kernel-features", level="ok", detail=", ".join(sorted(facts.capabilities))
        )


def _forwarding(facts: Facts, forwarded: frozenset[Family]) -> Iterator[Finding]:
    for family in sorted(forwarded):
        name = _FORWARDING[family]
        key = name.replace("/", ".")
        if facts.sysctls.get(name) == "0":
            yield Finding(
                check="forwarding",
                level="error",
                detail=f"{key} is 0: containers do not reach the outside",
                remedy=f"sysctl -w {key}=1, or host.manage_forwarding = true in netd.toml",
            )
        else:
            yield Finding(check="forwarding", level="ok", detail=f"{key} is on")
    if not forwarded:
        yield Finding(check="forwarding", level="ok", detail="no network needs forwarding")


def _bridge_filter(facts: Facts) -> Iterator[Finding]:
    on = [
        name.replace("/", ".")
        for name in ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")
        if facts.sysctls.get(name) == "1"
    ]
    if not on:
        yield Finding(
            check="bridge-netfilter", level="ok", detail="bridged frames are not filtered"
        )
    else:
        yield Finding(
            check="bridge-netfilter",
            level="error" if facts.foreign_chains else "warning",
            detail=(
                f"{', '.join(on)} is 1: frames between containers of one network pass through "
                "all firewall chains of the host"
            ),
            remedy=" && ".join(f"sysctl -w {key}=0" for key in on)
            + " (unless another program, such as Kubernetes, relies on it)",
        )


def _docker(status: Status) -> Iterator[Finding]:
    for condition in status.conditions:
        if condition.code.startswith("docker-"):
            yield Finding(
                check="docker-driver",
                level="error",
                detail=condition.detail,
                remedy=condition.remedy,
            )


def _foreign_chains(facts: Facts, status: Status) -> Iterator[Finding]:
    for condition in status.conditions:
        if condition.code.startswith("foreign-"):
            yield Finding(
                check="foreign-firewall",
                level="error",
                detail=condition.detail,
                remedy=condition.remedy,
            )
    if not facts.foreign_chains:
        yield Finding(
            check="foreign-firewall", level="ok", detail="no other program drops forwarded packets"
        )


def _managers(facts: Facts) -> Iterator[Finding]:
    for manager in sorted(facts.managers):
        yield Finding(
            check="network-managers",
            level="warning",
            detail=f"{manager} runs and is not told to leave netd's links alone",
            remedy=" && ".join(_INSTALL.get(manager, ())),
        )
    if not facts.managers:
        yield Finding(check="network-managers", level="ok", detail="no program claims netd's links")


def _drift(planned: tuple[PlannedOperation, ...]) -> Iterator[Finding]:
    if planned:
        first = planned[0]
        yield Finding(
            check="drift",
            level="warning",
            detail=f"{len(planned)} operations are due, first: {first.verb} {first.object} "
            f"({first.reason})",
            remedy="netctl reconcile",
        )
    else:
        yield Finding(check="drift", level="ok", detail="the kernel is as wanted")


def _leftovers(
    planned: tuple[PlannedOperation, ...], owners: Container[str], retired: int
) -> Iterator[Finding]:
    stray = [
        op
        for op in planned
        if op.verb == "delete"
        and op.ns == HOST
        and op.object.startswith("link ")
        and op.owner not in owners
    ]
    if stray:
        yield Finding(
            check="leftovers",
            level="warning",
            detail=f"{len(stray)} links of netd's belong to nobody, first: {stray[0].object}",
            remedy="netctl reconcile",
        )
    if retired > 1000:
        yield Finding(
            check="leftovers",
            level="warning",
            detail=f"{retired} links wait for their removal",
            remedy="look for kernel errors in the log: journalctl -u netd",
        )
    elif not stray:
        yield Finding(check="leftovers", level="ok", detail=f"{retired} links wait for removal")


def _configuration(reload: Reload) -> Iterator[Finding]:
    if reload.refused:
        yield Finding(
            check="configuration",
            level="error",
            detail=f"the last reload was refused: {reload.refused}",
            remedy="netd config check",
        )
    if reload.needs_restart:
        yield Finding(
            check="configuration",
            level="warning",
            detail=f"changed, and not in force yet: {', '.join(reload.needs_restart)}",
            remedy="systemctl restart netd (containers stay connected)",
        )
    if reload == Reload():
        yield Finding(check="configuration", level="ok", detail="the configuration is in force")


def examine_registry(state: RegistryState) -> tuple[Finding, ...]:
    """Whether names are answered by DNS, and where they cannot be."""
    if not state.connected:
        if not state.wanted:
            return (Finding(check="registry", level="ok", detail="no registry is to answer names"),)
        return (
            Finding(
                check="registry",
                level="error",
                detail="no registry is connected: containers get no names by DNS, and health "
                "checks do not run",
                remedy="see why it ends: journalctl -u netd-registry -u netd",
            ),
        )
    failing = tuple(
        Finding(
            check="registry",
            level="warning",
            detail=f"the registry cannot listen at {where}: {why}",
            remedy=f"see who does: ss -lunp 'sport = :{where.rpartition(':')[2]}'; or have it "
            "listen elsewhere: dns.host_address, dns.port",
        )
        for where, why in sorted(state.problems.items())
    )
    detail = f"names are answered; sockets: {len(state.listening)}"
    return failing or (Finding(check="registry", level="ok", detail=detail),)
