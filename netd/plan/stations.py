"""What a packet passes: one function for each step of its way, from values to a judgement."""

from typing import Final

from netd.model.explanation import Step
from netd.model.names import bridge_name
from netd.plan.compile import needs_routing
from netd.plan.objects import HOST, Address, Bridge, Link, Object, Ruleset, SetElement, Sysctl
from netd.plan.parties import Directory, Ends, Party, share_network
from netd.plan.passage import is_forwarded, refusal
from netd.plan.view import RECONCILE, View, failed, ok, skipped, trouble

_FORWARDING: Final = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def described(directory: Directory, party: Party, address: str) -> str:
    """Who it is and where, e.g. `web-1 is 10.20.0.2 on blue, on host-1`."""
    if party.kind == "outside":
        known = "" if party.name == address else f"{party.name} is "
        return f"{known}{address}, outside of this host's networks"
    network = f" on {party.network.name}" if party.network else ""
    if party.kind == "host" and party.record is None:
        return f"{party.name} is {address}{network}"
    member = directory.member(party.member)
    where = f", on {member.name}" if member else ""
    return f"{party.name} is {address}{network or ' in host mode'}{where}"


def policy(view: View, ends: Ends) -> Step:
    """Whether networks, rules and other programs' rules let it pass."""
    one, other = ends.source, ends.destination
    if view.reply:
        return skipped("policy", "not needed: what answers is let through")
    port = ""
    if view.published is not None:
        target = ":".join(view.published.value)
        port = f"port {view.port} of the host leads to {other.name} at {target}; "
        if found := trouble(view, [view.published]):
            return failed("policy", *found)
    if forbidden := refusal(one, other, published=view.published is not None):
        return failed("policy", forbidden.detail, forbidden.remedy)
    if is_forwarded(one, other):
        networks = {party.network.id for party in (one, other) if party.network}
        rules = [
            obj
            for obj in view.wanted.values()
            if isinstance(obj, Ruleset) or (isinstance(obj, SetElement) and obj.owner in networks)
        ]
        if found := trouble(view, rules):
            return failed("policy", *found)
        for chain in view.facts.foreign_chains:
            return failed(
                "policy",
                f"chain {chain.chain} of table {chain.table} ({chain.program}) drops forwarded "
                f"packets: {chain.verdict}",
                "netctl doctor says how to have them accepted",
            )
        return ok("policy", f"{port}the networks let it pass")
    if share_network(one, other):
        assert one.network is not None
        return ok("policy", f"{port}netd filters nothing within {one.network.name}")
    if other.kind == "host" and view.port is not None:
        return ok(
            "policy",
            f"no container has published port {view.port}: a program of the host has to listen",
        )
    return ok("policy", f"{port}netd filters nothing between the two")


def source(view: View, ends: Ends) -> Step:
    """Whether the one that sends is there, with its link up and its address."""
    party, address = ends.source, ends.source_address
    if party.kind == "outside":
        return skipped("source", f"{party.name} is outside: netd sees nothing of it")
    if party.member != view.directory.own:
        return skipped("source", f"{party.name} is on another host")
    if party.kind == "host":
        return ok("source", f"the host itself, as {address}")
    endpoint = party.record.endpoint if party.record else None
    if endpoint is None or party.network is None:
        return skipped("source", f"{party.name} is not of this host")
    if party.ns in view.missing:
        return failed(
            "source",
            f"the network namespace of {party.name}, {endpoint.netns or party.ns}, is gone",
            "start the container again; netd removes what is left of it",
        )
    if found := trouble(view, _of_endpoint(view, party)):
        return failed("source", *found)
    link = f"{endpoint.ifname} of {party.name} is up with {address}"
    if is_handed_over(party):
        link = f"{party.name} was given {address}, which its runtime sets up where netd cannot look"
    if needs_routing(party.network):
        link += f", {endpoint.host_ifname} connects it to {bridge_name(party.network.name)}"
    return ok("source", link)


def route(view: View, ends: Ends) -> Step:
    """Which way the container sends it, and then the host."""
    party, target = ends.source, ends.destination_address
    if party.kind == "outside" or party.member != view.directory.own:
        return skipped("route", f"not seen from here: how {party.name} sends it")
    said = []
    if party.ns is not None or is_handed_over(party):
        step = _route_inside(view, ends)
        if step.status == "failed" or not _is_routed_by_host(ends):
            return step
        said.append(step.detail)
        if found := trouble(view, _gateways(view, party)):
            return failed("route", *found)
        if ends.destination.member == view.directory.own and ends.destination.kind == "host":
            return step
        family = 6 if ":" in target else 4
        forwarding = [
            obj
            for obj in view.wanted.values()
            if isinstance(obj, Sysctl) and obj.name == _FORWARDING[family]
        ]
        if found := trouble(view, forwarding):
            return failed("route", *found)
        if view.facts.sysctls.get(_FORWARDING[family]) == "0" and not forwarding:
            return failed(
                "route",
                f"the host does not forward IPv{family}: {_FORWARDING[family]} is 0",
                f"sysctl -w {_FORWARDING[family].replace('/', '.')}=1",
            )
    step = _route_of_host(view, ends)
    if step.status == "failed":
        return step
    return ok("route", "; ".join([*said, step.detail]))


def _route_inside(view: View, ends: Ends) -> Step:
    party, target = ends.source, ends.destination_address
    if is_handed_over(party):
        detail = (
            f"which way {party.name} sends {target} its runtime has set, where netd cannot look"
        )
        return skipped("route", detail)
    assert party.record is not None
    assert party.ns is not None
    ifname = party.record.endpoint.ifname
    hop = view.hops.get((party.ns, target))
    if hop is None:
        assert party.network is not None
        internal = f": {party.network.name} is internal" if party.network.internal else ""
        return failed(
            "route",
            f"{party.name} has no route to {target}{internal}",
            RECONCILE if not internal else "use a network that is not internal",
        )
    if hop.link != ifname:
        return failed(
            "route",
            f"{party.name} sends {target} by {hop.link}, not by {ifname}",
            f"in the container: ip route get {target}",
        )
    way = f"via {hop.gateway}" if hop.gateway else "directly"
    return ok("route", f"{party.name} sends {target} by {ifname} {way}")


def _route_of_host(view: View, ends: Ends) -> Step:
    target, network = ends.destination_address, ends.destination.network
    hop = view.hops.get((HOST, target))
    if hop is None:
        return failed("route", f"the host has no route to {target}", f"ip route get {target}")
    if network is not None and needs_routing(network) and not hop.local:
        bridge = bridge_name(network.name)
        if hop.link != bridge:
            return failed(
                "route",
                f"the host sends {target} by {hop.link}, not by {bridge}",
                f"ip route get {target}; {RECONCILE}",
            )
    if hop.local:
        return ok("route", f"{target} is the host's own")
    link = view.facts.link(hop.link)
    if link is not None and not link.up:
        return failed("route", f"{hop.link} is down", f"ip link set {hop.link} up")
    way = f"via {hop.gateway}" if hop.gateway else "directly"
    return ok("route", f"the host sends {target} by {hop.link} {way}")


def is_handed_over(party: Party) -> bool:
    return party.record is not None and party.record.handed_over


def _is_routed_by_host(ends: Ends) -> bool:
    """Whether what a container sends leaves its network through the host."""
    network = ends.source.network
    if share_network(ends.source, ends.destination):
        return False
    return network is not None and needs_routing(network)


def _of_endpoint(view: View, party: Party) -> list[Object]:
    """What an endpoint consists of: its links and addresses, and the bridge it is on."""
    assert party.network is not None
    return [
        obj
        for obj in view.wanted.values()
        if (obj.owner == party.id and isinstance(obj, Link | Address))
        or (obj.owner == party.network.id and isinstance(obj, Bridge))
    ]


def _gateways(view: View, party: Party) -> list[Object]:
    assert party.network is not None
    owner = party.network.id
    return [obj for obj in view.wanted.values() if obj.owner == owner and isinstance(obj, Address)]
