"""What is wrong with the tunnels to other hosts, found by sending packets through them."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from netd.engine.interfaces import Kernel
from netd.model.errors import KernelFailure
from netd.model.network import Network
from netd.model.views import Finding, Member
from netd.plan.facts import Echo
from netd.plan.overlay import OVERHEAD_BYTES
from netd.plan.parties import Directory, underlay_address

SMALL_BYTES: Final = 100
ECHO_S: Final = 1.0
PEERS_MAX: Final = 64  # bounds how long a doctor takes where there are many hosts
AT_ONCE: Final = 16
_CHECK: Final = "tunnels"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a small and of a full packet to a host, by its address in a network.

    Where the small one got no answer, no `full` one was sent but a `plain` one, past the tunnel:
    a host that does not answer that either may answer none at all.
    """

    member: Member
    network: str
    mtu: int
    small: Echo
    full: Echo | None = None
    plain: Echo | None = None


async def try_tunnel(
    kernel: Kernel, member: Member, network: Network, address: str
) -> Trial | None:
    """Send them; None where nothing can be sent, which says nothing about the way."""
    mtu = network.mtu or 0
    full = plain = None
    try:
        small = await kernel.echo(address, SMALL_BYTES, ECHO_S)
        if small.rtt_ms is None:
            plain = await kernel.echo(underlay_address(member), SMALL_BYTES, ECHO_S)
        elif mtu:
            full = await kernel.echo(address, mtu, ECHO_S)
    except KernelFailure:
        return None
    return Trial(member=member, network=network.name, mtu=mtu, small=small, full=full, plain=plain)


async def try_tunnels(kernel: Kernel, directory: Directory) -> tuple[Trial, ...]:
    """Try the way to each live host that has a network open in common with this one, once each."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def attempt(member: Member, network: Network, address: str) -> Trial | None:
        async with turn:
            return await try_tunnel(kernel, member, network, address)

    trials = await asyncio.gather(*(attempt(*peer) for peer in _peers(directory)))
    return tuple(trial for trial in trials if trial is not None)


def examine_tunnels(trials: Sequence[Trial], port: int) -> tuple[Finding, ...]:
    """A finding for each host with trouble, or one that there is none. `port` is VXLAN's."""
    wrong = [finding for trial in trials if (finding := _judged(trial, port)) is not None]
    if wrong:
        return tuple(wrong)
    if not trials:
        detail = "no other host has a network in common with this one"
    else:
        detail = f"full packets pass to and from: {', '.join(t.member.name for t in trials[:5])}"
        detail += f" and {len(trials) - 5} more" if len(trials) > 5 else ""
    return (Finding(check=_CHECK, level="ok", detail=detail),)


def _judged(trial: Trial, port: int) -> Finding | None:
    name, address = trial.member.name, underlay_address(trial.member)
    if trial.small.rtt_ms is None and (trial.plain is None or trial.plain.rtt_ms is None):
        return Finding(
            check=_CHECK,
            level="warning",
            detail=f"{name} at {address} answers no echo requests, by the tunnel of "
            f"{trial.network} or otherwise: whether VXLAN (UDP port {port}) passes is not known",
            remedy=f"on {name}: iptables -I INPUT -p icmp -j ACCEPT (IPv6: ip6tables, icmpv6)",
        )
    if trial.small.rtt_ms is None:
        return Finding(
            check=_CHECK,
            level="error",
            detail=f"VXLAN (UDP port {port}) to {name} at {address} is blocked: nothing comes "
            f"back through the tunnel of {trial.network}",
            remedy=f"on {name}: iptables -I INPUT -p udp --dport {port} -j ACCEPT (ufw: ufw allow "
            f"{port}/udp; firewalld: firewall-cmd --add-port={port}/udp); the same here and on "
            "firewalls in between",
        )
    if trial.full is None or trial.full.rtt_ms is not None:
        return None
    needed = trial.mtu + OVERHEAD_BYTES[6 if ":" in address else 4]
    said = f"; the way said {trial.full.mtu}" if trial.full.mtu else ""
    return Finding(
        check=_CHECK,
        level="error",
        detail=f"packets of {trial.mtu} bytes to {name} vanish: an MTU smaller than {needed} on "
        f"the way{said}",
        remedy=f"set the MTU of the links between the hosts to {needed}, or that of this host's "
        f"link to {name} to what the way carries: netd follows it",
    )


def _peers(directory: Directory) -> Iterable[tuple[Member, Network, str]]:
    """The live hosts, each with one network in common and its address in that."""
    seen: set[str] = set()
    for opened in directory.opened:
        member = directory.member(opened.member)
        network = directory.networks.get(opened.network_id)
        if (
            member is None
            or network is None
            or member.id in seen | {directory.own}
            or member.state in ("dead", "left")
            or directory.vtep(directory.own, opened.network_id) is None
            or len(seen) == PEERS_MAX
        ):
            continue
        seen.add(member.id)
        yield member, network, opened.vtep.addresses[0].partition("/")[0]
