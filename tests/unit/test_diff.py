"""The plan that leads from what is to what is wanted."""

from msgspec.structs import replace

from netd.plan.diff import creation, diff, difference, removal
from netd.plan.objects import (
    Address,
    Bridge,
    Ifb,
    Loopback,
    Object,
    Redirect,
    Route,
    Ruleset,
    SetElement,
    Shaper,
    Sysctl,
    Veth,
    VethPeer,
    state_of,
)
from netd.plan.operations import Operation
from netd.plan.tunnels import ALL_HOSTS, FdbEntry, Neighbour, Vxlan

BOX = "net:[4026531841]"
BLUE = Bridge(owner="net-1", name="nd-blue", mac="02:42:0a:14:00:01", mtu=1500)
GATEWAY = Address(owner="net-1", link="nd-blue", address="10.20.0.1/24")
OUTER = Veth(
    owner="ep-1",
    name="nv1",
    mtu=1500,
    master="nd-blue",
    peer_ns=BOX,
    peer_name="eth0",
    peer_mac="02:42:0a:14:00:02",
)
INNER = VethPeer(ns=BOX, owner="ep-1", name="eth0", mac="02:42:0a:14:00:02", mtu=1500)
LO = Loopback(ns=BOX)
ADDRESS = Address(ns=BOX, owner="ep-1", link="eth0", address="10.20.0.2/24")
DEFAULT = Route(ns=BOX, owner="ep-1", destination="0.0.0.0/0", link="eth0", gateway="10.20.0.1")
ENDPOINT: list[Object] = [OUTER, INNER, LO, ADDRESS, DEFAULT]
TUNNEL = Vxlan(
    owner="net-1",
    name="nx-blue",
    mtu=1450,
    vni=5000,
    port=4789,
    mac="02:42:0a:14:00:fe",
    master="nd-blue",
)
FAR = FdbEntry(link="nx-blue", mac="02:42:0a:14:00:07", destination="192.0.2.7")
TO_ALL = FdbEntry(link="nx-blue", mac=ALL_HOSTS, destination="192.0.2.7")
NEIGHBOUR = Neighbour(link="nd-blue", address="10.20.0.7", mac="02:42:0a:14:00:07")
OVERLAY: list[Object] = [BLUE, TUNNEL, FAR, TO_ALL, NEIGHBOUR]


def steps(plan: list[Operation]) -> list[str]:
    return [f"{op.verb} {' '.join(op.object.key[1:]).strip()}: {op.reason}" for op in plan]


def plan(
    desired: list[Object], observed: list[Object], owners: set[str] | None = None
) -> list[str]:
    return steps(diff(state_of(desired), state_of(observed), owners=owners))


def test_nothing_to_do() -> None:
    assert plan([BLUE, *ENDPOINT], [BLUE, *ENDPOINT]) == []


def test_creation_goes_by_rank() -> None:
    assert plan([*reversed(ENDPOINT), BLUE], []) == [
        "add link nd-blue: missing",
        "add link nv1: missing",
        "add link eth0: missing",
        "add link lo: missing",
        "add address eth0 10.20.0.2/24: missing",
        "add route 254 0.0.0.0/0 eth0: missing",
    ]


def test_deletion_goes_the_other_way_and_spares_what_dies_anyway() -> None:
    rule = SetElement(owner="net-1", set_name="bridges", element=("nd-blue",))
    assert plan([], [BLUE, GATEWAY, rule]) == [
        "delete element bridges nd-blue: not wanted",
        "delete link nd-blue: not wanted",
    ]


def test_deletion_comes_before_creation() -> None:
    red = replace(BLUE, name="nd-red")
    assert plan([red], [BLUE]) == ["delete link nd-blue: not wanted", "add link nd-red: missing"]


def test_what_is_permanent_is_not_deleted() -> None:
    forward = Sysctl(name="net/ipv4/ip_forward", value="1")
    assert plan([], [LO, forward]) == []
    assert removal([LO, forward], "detached") == []


def test_a_change_tells_what_differs_and_what_was() -> None:
    was = replace(BLUE, mtu=1400, up=False)
    (change,) = diff(state_of([BLUE]), state_of([was]))
    assert (change.verb, change.was) == ("change", was)
    assert change.reason == "mtu is 1400, not 1500; up is False, not True"


def test_what_is_left_to_the_kernel_makes_no_difference() -> None:
    assert difference(replace(BLUE, mtu=None), BLUE) == ""
    assert difference(replace(DEFAULT, gateway=None), DEFAULT) == ""


def test_a_ruleset_is_compared_by_its_digest() -> None:
    wanted = Ruleset(digest="new", script="table inet netd {}")
    assert difference(wanted, Ruleset(digest="new")) == ""
    assert difference(wanted, Ruleset(digest="old")) == "digest is old, not new"


def test_a_link_of_the_wrong_kind_is_made_anew_with_all_on_it() -> None:
    wrong = Ifb(owner="net-1", name="nd-blue")
    assert plan([BLUE, GATEWAY], [wrong, GATEWAY]) == [
        "delete link nd-blue: is a ifb",
        "add link nd-blue: went with another",
        "add address nd-blue 10.20.0.1/24: went with another",
    ]


def test_a_new_pair_has_a_new_inner_end() -> None:
    """The one that is seen there belongs to the pair that goes."""
    other = replace(OUTER, name="nv0", owner="ep-0")
    assert plan(ENDPOINT, [other, *ENDPOINT[1:]]) == [
        "delete link nv0: not wanted",
        "add link nv1: missing",
        "add link eth0: went with another",
        "add address eth0 10.20.0.2/24: went with another",
        "add route 254 0.0.0.0/0 eth0: went with another",
    ]


def test_routes_are_made_again_where_an_address_goes() -> None:
    old = replace(ADDRESS, address="10.20.0.3/24")
    assert plan(ENDPOINT, [old, *[obj for obj in ENDPOINT if obj is not ADDRESS]]) == [
        "delete address eth0 10.20.0.3/24: not wanted",
        "add address eth0 10.20.0.2/24: missing",
        "add route 254 0.0.0.0/0 eth0: went with another",
    ]


def test_a_redirect_is_made_again_with_its_target() -> None:
    ifb = Ifb(owner="ep-1", name="ni1")
    redirect = Redirect(owner="ep-1", link="nv1", target="ni1")
    wrong = replace(BLUE, name="ni1")
    assert plan([OUTER, ifb, redirect], [OUTER, wrong, redirect]) == [
        "delete link ni1: is a bridge",
        "add link ni1: went with another",
        "add redirect nv1: went with another",
    ]


def test_only_the_given_owners_are_looked_at() -> None:
    stray = replace(BLUE, name="nd-stray", owner="net-9")
    shaper = Shaper(owner="ep-1", link="nv1", rate_bps=8000, burst_bytes=1600, latency_us=1000)
    desired: list[Object] = [BLUE, GATEWAY, OUTER, shaper]
    observed: list[Object] = [replace(BLUE, mtu=1400), stray, OUTER]
    assert plan(desired, observed, {"ep-1"}) == ["add shaper nv1: missing"]
    assert plan(desired, observed, {"net-9"}) == ["delete link nd-stray: not wanted"]
    assert plan(desired, observed, set()) == []


def test_what_goes_with_another_is_made_again_whoever_owns_it() -> None:
    wrong = Ifb(owner="net-1", name="nd-blue")
    other = replace(GATEWAY, owner="net-2", address="10.21.0.1/24")
    missing = replace(GATEWAY, owner="net-2", address="10.22.0.1/24")
    assert plan([BLUE, other, missing], [wrong, other], {"net-1"}) == [
        "delete link nd-blue: is a ifb",
        "add link nd-blue: went with another",
        "add address nd-blue 10.21.0.1/24: went with another",
    ]


def test_creation_and_removal_of_one_endpoint() -> None:
    shaper = Shaper(owner="ep-1", link="nv1", rate_bps=8000, burst_bytes=1600, latency_us=1000)
    assert [op.object for op in creation([shaper, *reversed(ENDPOINT)], "attach")] == [
        OUTER,
        LO,
        INNER,
        ADDRESS,
        DEFAULT,
        shaper,
    ]
    assert steps(removal([shaper, *ENDPOINT], "detach")) == [
        "delete link eth0: detach",
        "delete link nv1: detach",
    ]


def test_a_tunnel_with_another_vni_is_made_anew_with_its_entries() -> None:
    assert plan([BLUE, replace(TUNNEL, vni=5001), FAR, TO_ALL, NEIGHBOUR], OVERLAY) == [
        "change link nx-blue: vni is 5000, not 5001",
        f"add fdb nx-blue {ALL_HOSTS} 192.0.2.7: went with another",
        "add fdb nx-blue 02:42:0a:14:00:07: went with another",
    ]


def test_a_tunnel_that_moves_to_another_bridge_loses_the_bridges_half_of_entries() -> None:
    red = replace(BLUE, name="nd-red")
    moved = replace(TUNNEL, master="nd-red")
    assert plan([red, moved, FAR, NEIGHBOUR, BLUE], [*OVERLAY, red])[1:] == [
        "change link nx-blue: master is nd-blue, not nd-red",
        "add fdb nx-blue 02:42:0a:14:00:07: went with another",
    ]


def test_a_bridge_with_another_mac_has_lost_its_neighbours() -> None:
    other = replace(BLUE, mac="02:42:0a:14:00:99")
    assert plan([other, TUNNEL, FAR, TO_ALL, NEIGHBOUR], OVERLAY)[1:] == [
        "add neighbour nd-blue 10.20.0.7: went with another"
    ]
    assert len(plan([replace(BLUE, mtu=1400), TUNNEL, FAR, TO_ALL, NEIGHBOUR], OVERLAY)) == 1


def test_half_an_entry_is_a_difference() -> None:
    assert "bridged is False" in difference(FAR, replace(FAR, bridged=False))
    assert "destination is , not 192.0.2.7" in difference(FAR, replace(FAR, destination=""))


def test_entries_go_with_the_tunnel_and_neighbours_with_the_bridge() -> None:
    assert plan([], OVERLAY) == [
        "delete link nx-blue: not wanted",
        "delete link nd-blue: not wanted",
    ]
    assert plan([BLUE], OVERLAY) == [
        "delete neighbour nd-blue 10.20.0.7: not wanted",
        "delete link nx-blue: not wanted",
    ]
