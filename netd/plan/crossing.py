"""The steps of a packet's way that lead to another host, through an overlay network's tunnel."""

from netd.model.explanation import Step
from netd.model.names import bridge_name
from netd.model.network import Network
from netd.plan.facts import Echo, NextHop
from netd.plan.objects import HOST, Object, SetElement
from netd.plan.overlay import OVERHEAD_BYTES, remote_objects
from netd.plan.parties import Ends, underlay_address
from netd.plan.tunnels import FdbEntry, Neighbour, Vxlan
from netd.plan.view import View, failed, ok, skipped, trouble


def neighbour(view: View, ends: Ends) -> Step:
    """Who answers for the destination's address: the bridge, in an overlay network."""
    if not _is_tunnelled(view, ends):
        return skipped("neighbour", "not needed: who has the address answers for it itself")
    wanted = [obj for obj in _entries(view, ends) if isinstance(obj, Neighbour)]
    if found := trouble(view, wanted):
        return failed("neighbour", *found)
    (entry,) = wanted
    return ok("neighbour", f"{entry.link} answers that {entry.address} is at {entry.mac}")


def tunnel(view: View, ends: Ends) -> Step:
    """Whether the network's tunnel is there, here and on the other host."""
    network = ends.destination.network
    if network is None or not _is_tunnelled(view, ends):
        return skipped("tunnel", "not needed: it stays on this host, or leaves netd's networks")
    link = _vxlan(view, network)
    if link is None:
        return failed(
            "tunnel",
            f"this host has {network.name} not open: no endpoint of its own is on it",
            f"attach a container here: netctl endpoint attach {network.name} …",
        )
    if found := trouble(view, [link]):
        return failed("tunnel", *found)
    peer = _peer_name(view, ends)
    if view.directory.vtep(ends.destination.member, network.id) is None:
        return failed(
            "tunnel",
            f"{peer} has not said that it has {network.name} open",
            f"on {peer}: netctl status, netctl endpoint ls --network {network.name}",
        )
    address = _peer_address(view, ends)
    admitted = [
        obj
        for obj in view.wanted.values()
        if isinstance(obj, SetElement)
        and obj.set_name.startswith("vteps")
        and obj.element == (address,)
    ]
    if found := trouble(view, admitted):
        return failed("tunnel", *found)
    return ok("tunnel", f"{link.name} is up: VNI {link.vni}, UDP port {link.port}, MTU {link.mtu}")


def forwarding(view: View, ends: Ends) -> Step:
    """Whether frames to the destination's MAC are sent to its host."""
    if not _is_tunnelled(view, ends):
        return skipped("forwarding", "not needed: bridges learn who is on this host")
    wanted = [obj for obj in _entries(view, ends) if isinstance(obj, FdbEntry)]
    if found := trouble(view, wanted):
        return failed("forwarding", *found)
    (entry,) = wanted
    return ok(
        "forwarding",
        f"frames to {entry.mac} go by {entry.link} to {entry.destination}, "
        f"{_peer_name(view, ends)}",
    )


def underlay(view: View, ends: Ends) -> Step:
    """Whether the other host lives, is reached, and gets packets of full size."""
    network = ends.destination.network
    member = view.directory.member(ends.destination.member)
    if network is None or not _is_tunnelled(view, ends):
        return skipped("underlay", "not needed: no other host of the cluster takes part")
    if member is None or (member.state in ("dead", "left") and not _forwards(view)):
        state = f"is {member.state} since {member.since}" if member else "is not a member"
        return failed(
            "underlay",
            f"{_peer_name(view, ends)} {state}",
            f"on {_peer_name(view, ends)}: systemctl start netd",
        )
    address = underlay_address(member)
    hop = view.hops.get((HOST, address))
    if hop is None:
        return failed(
            "underlay",
            f"this host has no route to {address}, {member.name}",
            f"ip route get {address}",
        )
    if not member.reachable and not _forwards(view):
        return failed(
            "underlay",
            f"{member.name} at {address} does not answer this host, though others hear it",
            f"look for what is between the two: ping {address}",
        )
    if wrong := _size(view, network, member.name, address, hop):
        return wrong
    heard = "" if member.rtt_ms is None else f", round trip {member.rtt_ms:.1f} ms"
    by = f"by {hop.link}" + (f" via {hop.gateway}" if hop.gateway else "")
    full = ", full packets pass" if view.full is not None else ""
    if _is_lost(view.small):
        full = ", it answers no echo requests: the tunnel could not be tried"
    suspect = "" if member.state == "alive" else f"; netd there is {member.state}"
    return ok("underlay", f"{member.name} is {address} {by}{heard}{full}{suspect}")


def _is_lost(echo: Echo | None) -> bool:
    """Whether it was sent and nothing came back."""
    return echo is not None and echo.rtt_ms is None


def _forwards(view: View) -> bool:
    """Whether the other host's kernel answers, whatever is said of its netd."""
    return view.small is not None and view.small.rtt_ms is not None


def _size(view: View, network: Network, peer: str, address: str, hop: NextHop) -> Step | None:
    """What is wrong with what the way to the other host carries, by facts and by trial."""
    link, tunnel_link = view.facts.link(hop.link), _vxlan(view, network)
    assert tunnel_link is not None
    mtu = tunnel_link.mtu or network.mtu or 0
    needed = mtu + OVERHEAD_BYTES[6 if ":" in address else 4]
    if link is not None and link.mtu < needed:
        return failed(
            "underlay",
            f"{hop.link} carries {link.mtu} bytes, a full packet of {network.name} needs {needed}",
            f"ip link set {hop.link} mtu {needed}",
        )
    if _is_lost(view.small) and not _is_lost(view.plain):
        return failed(
            "underlay",
            f"{peer} answers, but not through the tunnel: something drops VXLAN, UDP port "
            f"{tunnel_link.port}",
            f"on {peer} and here: iptables -I INPUT -p udp --dport {tunnel_link.port} -j ACCEPT; "
            "the same on firewalls in between",
        )
    if _is_lost(view.full):
        return failed(
            "underlay",
            f"packets of {mtu} bytes to {peer} vanish, small ones do not: on the way somebody "
            f"carries less than {needed} bytes",
            f"let all links between the hosts carry {needed} bytes, or make {network.name} with "
            "a smaller --mtu",
        )
    return None


def _is_tunnelled(view: View, ends: Ends) -> bool:
    """Whether the destination is on another host's end of an overlay network."""
    party = ends.destination
    return (
        party.network is not None
        and party.network.driver == "overlay"
        and (party.member != view.directory.own)
    )


def _entries(view: View, ends: Ends) -> list[Object]:
    """What leads to the destination, as this host has to have it."""
    party = ends.destination
    assert party.network is not None
    address = _peer_address(view, ends)
    return remote_objects(party.network, "", party.mac, (ends.destination_address,), address)


def _vxlan(view: View, network: Network) -> Vxlan | None:
    bridge = bridge_name(network.name)
    links = (obj for obj in view.wanted.values() if isinstance(obj, Vxlan))
    return next((link for link in links if link.master == bridge), None)


def _peer_name(view: View, ends: Ends) -> str:
    member = view.directory.member(ends.destination.member)
    return member.name if member else ends.destination.member


def _peer_address(view: View, ends: Ends) -> str:
    member = view.directory.member(ends.destination.member)
    return underlay_address(member) if member else ""
