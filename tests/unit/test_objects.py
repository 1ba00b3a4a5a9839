"""Kernel objects as values: keys, texts, and what they die with."""

import pytest

from netd.plan.objects import (
    Address,
    Bridge,
    Link,
    Loopback,
    Macvlan,
    Object,
    Redirect,
    Route,
    Rule,
    Ruleset,
    SetElement,
    Shaper,
    Sysctl,
    Veth,
    VethPeer,
    render,
    state_of,
)

BOX = "net:[4026531841]"
BLUE = Bridge(name="nd-blue", mac="02:42:0a:14:00:01", mtu=1450)
VETH = Veth(
    name="nv1",
    mtu=1450,
    master="nd-blue",
    peer_ns=BOX,
    peer_name="eth0",
    peer_mac="02:42:0a:14:00:02",
)
OBJECTS: list[tuple[Object, str]] = [
    (BLUE, "link nd-blue type bridge address 02:42:0a:14:00:01 mtu 1450 up"),
    (
        VETH,
        "link nv1 type veth mtu 1450 master nd-blue up "
        f"peer eth0 netns {BOX} address 02:42:0a:14:00:02",
    ),
    (
        VethPeer(ns=BOX, name="eth0", mac="02:42:0a:14:00:02", mtu=1450),
        "link eth0 address 02:42:0a:14:00:02 mtu 1450 up",
    ),
    (
        Macvlan(name="ns-wan", parent="eth0", mode="bridge", mac="02:42:0a:14:00:03", mtu=1500),
        "link ns-wan link eth0 type macvlan mode bridge address 02:42:0a:14:00:03 mtu 1500 up",
    ),
    (
        Macvlan(name="ns-wan", kind="ipvlan", parent="eth0", mode="l2", mac=None, mtu=1500),
        "link ns-wan link eth0 type ipvlan mode l2 mtu 1500 up",
    ),
    (Loopback(ns=BOX), "link lo up"),
    (Address(ns=BOX, link="eth0", address="10.20.0.2/24"), "address 10.20.0.2/24 dev eth0"),
    (
        Route(ns=BOX, destination="::/0", link="eth0", gateway="fd20::1"),
        "route ::/0 via fd20::1 dev eth0",
    ),
    (
        Route(destination="10.9.0.0/16", link="eth0", source="10.20.0.2", table=100),
        "route 10.9.0.0/16 dev eth0 src 10.20.0.2 table 100",
    ),
    (
        Rule(ns=BOX, source="10.20.0.2/32", table=100, priority=110, link="eth0"),
        "rule from 10.20.0.2/32 lookup 100 priority 110",
    ),
    (Sysctl(name="net/ipv4/ip_forward", value="1"), "sysctl net.ipv4.ip_forward = 1"),
    (
        Shaper(link="nv1", rate_bps=8000, burst_bytes=1600, latency_us=50_000),
        "qdisc tbf dev nv1 rate 8000bit burst 1600",
    ),
    (Redirect(link="nv1", target="ni1"), "filter ingress dev nv1 mirred redirect dev ni1"),
    (Ruleset(digest="abc"), "table inet netd digest abc"),
    (SetElement(set_name="bridges", element=("nd-blue",)), "element bridges { nd-blue }"),
    (
        SetElement(set_name="ports4_any", element=("tcp", "80"), value=("10.20.0.2", "8080")),
        "element ports4_any { tcp . 80 : 10.20.0.2 . 8080 }",
    ),
]


@pytest.mark.parametrize(("obj", "text"), OBJECTS)
def test_text_reads_like_the_tools(obj: Object, text: str) -> None:
    assert obj.text() == text


def test_the_base_has_neither_key_nor_text() -> None:
    with pytest.raises(TypeError, match="Object has no key"):
        _ = Object().key
    with pytest.raises(TypeError, match="Object has no text"):
        Object().text()


def test_keys_differ_where_the_kernel_keeps_two() -> None:
    one = Address(link="eth0", address="10.20.0.2/24")
    route = Route(destination="0.0.0.0/0", link="eth0")
    different = [
        *(obj for obj, _ in OBJECTS[:4]),
        one,
        Address(ns=BOX, link="eth0", address="10.20.0.2/24"),
        Address(link="eth1", address="10.20.0.2/24"),
        Address(link="eth0", address="10.20.0.2/16"),
        route,
        Route(destination="0.0.0.0/0", link="eth1"),
        Route(destination="0.0.0.0/0", link="eth0", table=100),
        Route(destination="0.0.0.0/0", link="eth0", metric=5),
        SetElement(set_name="bridges", element=("a",)),
        SetElement(set_name="isolated", element=("a",)),
        SetElement(set_name="intra", element=("a", "a")),
    ]
    assert len(state_of(different)) == len(different)


def test_links_of_all_kinds_share_their_names() -> None:
    assert BLUE.key == Macvlan(name="nd-blue", parent="eth0", mode="bridge", mac=None).key
    assert BLUE.key != Bridge(ns=BOX, name="nd-blue", mac=BLUE.mac).key


def test_what_lives_on_a_link_dies_with_it() -> None:
    for obj, _ in OBJECTS:
        match obj:
            case Address() | Route() | Shaper() | Redirect():
                assert obj.link_key == (obj.ns, "link", obj.link)
            case _:
                assert obj.link_key is None


def test_only_what_others_may_rely_on_is_permanent() -> None:
    assert {type(obj) for obj, _ in OBJECTS if obj.permanent} == {Loopback, Sysctl}


def test_what_others_rest_on_comes_first() -> None:
    before: list[tuple[type[Object], type[Object]]] = [
        (Bridge, Veth),
        (Veth, VethPeer),
        (VethPeer, Address),
        (Address, Route),
        (Ruleset, SetElement),
        (Veth, Shaper),
        (Loopback, Address),
    ]
    assert all(first.rank < second.rank for first, second in before)


def test_render_is_sorted_and_says_where() -> None:
    inner = VethPeer(ns=BOX, name="eth0", mac="02:42:0a:14:00:02", mtu=1450)
    address = Address(link="nd-blue", address="10.20.0.1/24")
    assert render(state_of([inner, address, VETH, BLUE])) == "\n".join(
        [
            f"host              {BLUE.text()}",
            f"host              {VETH.text()}",
            f"host              {address.text()}",
            f"{BOX}  {inner.text()}",
        ]
    )


def test_a_later_object_takes_the_place_of_an_earlier_one() -> None:
    other = Link(name="nd-blue")
    assert state_of([BLUE, other]) == {BLUE.key: other}
