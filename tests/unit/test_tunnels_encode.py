"""Requests about tunnels and their entries: what another implementation reads in them."""

from typing import Any

import pytest
from msgspec.structs import replace
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from netd.kernel import rtnl_encode, tag, uapi
from netd.kernel import tunnels_encode as encode
from netd.plan.tunnels import ALL_HOSTS, FdbEntry, Neighbour, Vxlan
from tests.unit.test_rtnl_encode import read

TUNNEL = Vxlan(
    owner="net1",
    name="nx-blue",
    mtu=1450,
    vni=5000,
    port=4789,
    mac="0e:00:00:00:00:02",
    master="nd-blue",
)
ENTRY = FdbEntry(link="nx-blue", mac="0e:00:00:00:00:07", destination="192.0.2.7")
NEIGHBOUR = Neighbour(link="nd-blue", address="fd20::7", mac="0e:00:00:00:00:07")


@pytest.mark.parametrize("family", [4, 6])
def test_a_tunnel_is_made_down_in_its_bridge(family: Any) -> None:
    seen = read(rtnl_encode.new_vxlan(replace(TUNNEL, family=family), master=7), ifinfmsg)
    assert (seen["flags"], seen["change"]) == (0, uapi.IFF_UP)
    assert (seen.get("ifname"), seen.get("mtu"), seen.get("master")) == ("nx-blue", 1450, 7)
    assert (seen.get("address"), seen.get("group")) == (TUNNEL.mac, tag.LINK_GROUP)
    data = seen.get(("linkinfo", "data"))
    assert seen.get(("linkinfo", "kind")) == "vxlan"
    assert (data.get("vxlan_id"), data.get("vxlan_port")) == (5000, 4789)
    assert (data.get("vxlan_ttl"), data.get("vxlan_learning")) == (64, 0)
    assert data.get("vxlan_group") is None
    assert data.get("vxlan_group6") == ("::" if family == 6 else None)


@pytest.mark.parametrize("flood", [True, False])
def test_its_port_is_quiet_from_the_moment_it_is_up(flood: bool) -> None:
    link = replace(TUNNEL, flood=flood)
    for message in (rtnl_encode.finish_link(link), rtnl_encode.set_port(link, 9)):
        seen = read(message, ifinfmsg)
        assert seen["header"]["type"] == uapi.RTM_NEWLINK
        assert seen.get(("linkinfo", "data", "vxlan_learning")) == 0
        port = seen.get(("linkinfo", "slave_data"))
        assert port.get("IFLA_BRPORT_LEARNING") == port.get("IFLA_BRPORT_UNICAST_FLOOD") == 0
        assert port.get("IFLA_BRPORT_MCAST_FLOOD") == int(flood)
        assert port.get("IFLA_BRPORT_BCAST_FLOOD") == int(flood)
        assert port.get("IFLA_BRPORT_NEIGH_SUPPRESS") == 1


def test_an_entry_is_written_to_bridge_and_tunnel_at_once_and_replaced() -> None:
    seen = read(encode.set_fdb_entry(ENTRY, 9), ndmsg)
    assert seen["header"]["flags"] == uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE
    assert (seen["family"], seen["ifindex"]) == (7, 9)
    assert seen["flags"] == uapi.NTF_SELF | uapi.NTF_MASTER | uapi.NTF_STICKY
    # NUD_PERMANENT would make it one of the host's own MACs.
    assert seen["state"] == uapi.NUD_NOARP | uapi.NUD_REACHABLE
    assert seen.get("lladdr") == ENTRY.mac
    assert seen.get("dst") == "192.0.2.7"


def test_what_goes_to_all_hosts_is_appended_to_the_tunnel_alone() -> None:
    entry = replace(ENTRY, mac=ALL_HOSTS, destination="2001:db8::7")
    seen = read(encode.set_fdb_entry(entry, 9), ndmsg)
    assert seen["header"]["flags"] == uapi.NLM_F_CREATE | uapi.NLM_F_APPEND
    assert seen["flags"] == uapi.NTF_SELF
    assert (seen.get("lladdr"), seen.get("dst")) == (ALL_HOSTS, "2001:db8::7")
    (message,) = encode.delete_fdb_entry(entry, 9, bridged=True)
    assert read(message, ndmsg).get("dst") == "2001:db8::7"


def test_halves_are_deleted_one_by_one_wherever_they_lead() -> None:
    halves = [read(each, ndmsg) for each in encode.delete_fdb_entry(ENTRY, 9, bridged=True)]
    assert [half["flags"] for half in halves] == [uapi.NTF_SELF, uapi.NTF_MASTER]
    assert {half.get("dst") for half in halves} == {None}
    assert len(encode.delete_fdb_entry(ENTRY, 9, bridged=False)) == 1


@pytest.mark.parametrize(("address", "family"), [("fd20::7", 10), ("10.20.0.7", 2)])
def test_a_neighbour_is_permanent_and_netds(address: str, family: int) -> None:
    neighbour = replace(NEIGHBOUR, address=address)
    seen = read(encode.set_neighbour(neighbour, 7), ndmsg)
    assert seen["header"]["flags"] == uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE
    assert (seen["family"], seen["ifindex"]) == (family, 7)
    assert seen["state"] == uapi.NUD_PERMANENT
    assert (seen.get("dst"), seen.get("lladdr")) == (address, NEIGHBOUR.mac)
    assert uapi.NLATTR.pack(5, uapi.NDA_PROTOCOL) + bytes((tag.PROTOCOL, 0, 0, 0)) in (
        encode.set_neighbour(neighbour, 7).payload
    )
    gone = read(encode.delete_neighbour(neighbour, 7), ndmsg)
    assert (gone["header"]["type"], gone.get("dst")) == (uapi.RTM_DELNEIGH, address)
