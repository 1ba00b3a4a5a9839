"""Slots of virtual addresses, and which address each service has."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.service import Transport, VirtualPort
from netd.plan.firewall import SETS, element_text
from netd.plan.objects import Bridge, Route, state_of
from netd.plan.virtual import (
    addresses_of,
    elements,
    flows_of,
    host_objects,
    numbers_of,
    spread,
    wished,
)
from netd.plan.virtual_numbers import Claim, Numbers, assign
from netd.plan.virtual_rules import (
    SPREADS,
    STICKY_SPREADS,
    VirtualPools,
    client_number,
    protocol_of,
)
from netd.plan.virtual_views import LINK, OTHERS, Backend, Bridged, Networks, views

POOLS = VirtualPools("10.191.0.0/16", "fd6e:6574:6400::/112")
ADDRESSES = ("10.191.0.9", "fd6e:6574:6400::9")


def backend(
    name: str, weight: int = 1, port: int = 8080, address: str = "10.20.0.2", **more: Any
) -> Backend:
    return Backend(id=name, address=address, port=port, weight=weight, **more)


def named(number: int) -> list[Backend]:
    return [backend(f"web-{at}") for at in range(number)]


backends = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(1, 65_535)),
    min_size=1,
    max_size=40,
    unique_by=lambda each: each[0],
).map(lambda found: [backend(f"web-{ident}", weight) for ident, weight in found])


@given(backends, st.sampled_from([SPREADS, *((size,) for size in STICKY_SPREADS)]))
def test_every_slot_leads_somewhere_and_every_instance_has_one(
    some: list[Backend], sizes: tuple[int, ...]
) -> None:
    slots = spread(some, sizes)
    assert len(slots) in sizes
    assert {each.id for each in slots} == {each.id for each in some}


@given(backends, st.randoms())
def test_slots_depend_on_nothing_but_the_instances(some: list[Backend], random: object) -> None:
    mixed = list(some)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert spread(mixed, SPREADS) == spread(some, SPREADS)


@given(backends)
def test_shares_are_as_the_weights_say(some: list[Backend]) -> None:
    slots = spread(some, SPREADS)
    total = sum(each.weight for each in some)
    has = Counter(each.id for each in slots)
    for each in some:
        share = each.weight / total
        # A tenth off, unless even the most slots are too few for it: then one slot.
        assert abs(has[each.id] - share * len(slots)) <= max(0.1 * share * len(slots), len(some))


@pytest.mark.parametrize("number", range(1, 9))
def test_few_instances_of_the_same_weight_have_one_slot_each(number: int) -> None:
    slots = spread([backend(f"web-{at}", 100) for at in range(number)], SPREADS)
    assert sorted(each.id for each in slots) == [f"web-{at}" for at in range(number)]


@pytest.mark.parametrize(
    ("weights", "slots"),
    [
        ((1, 2), {"web-0": 1, "web-1": 2}),
        ((10, 30), {"web-0": 1, "web-1": 3}),
        ((1, 9), {"web-0": 13, "web-1": 115}),
        ((1, 60_000), {"web-0": 1, "web-1": 1023}),
    ],
)
def test_the_fewest_slots_that_do_the_weights_justice(
    weights: tuple[int, ...], slots: dict[str, int]
) -> None:
    some = [backend(f"web-{at}", weight) for at, weight in enumerate(weights)]
    assert Counter(each.id for each in spread(some, SPREADS)) == slots


def test_of_more_instances_than_slots_some_have_one() -> None:
    slots = spread(named(1500), SPREADS)
    assert len({each.id for each in slots}) == len(slots) == SPREADS[-1]


@pytest.mark.parametrize("number", [2, 3, 5, 8, 15])
def test_who_stays_keeps_nearly_all_slots_when_another_comes(number: int) -> None:
    before = spread(named(number), (128,))
    after = spread(named(number + 1), (128,))
    new = f"web-{number}"
    moved = [old for old, now in zip(before, after, strict=True) if now.id not in (new, old.id)]
    assert len(moved) <= 0.15 * len(before)


def test_elements_lead_to_the_instances_of_each_family() -> None:
    some = [backend("a"), backend("b", address="10.20.0.3"), backend("c", address="fd00::2")]
    ports = (VirtualPort(port=80), VirtualPort(port=53, protocol="udp", target_port=5353))
    found = elements("virtual-web", ADDRESSES, ports, some, "none")
    assert len(state_of(found)) == len(found)
    assert all(element_text(each) for each in found)
    assert {(each.set_name, *each.element[:3], *each.value) for each in found} == {
        ("spread2_4", "10.191.0.9", "tcp", "80", "10.20.0.2", "8080"),
        ("spread2_4", "10.191.0.9", "tcp", "80", "10.20.0.3", "8080"),
        ("spread2_4", "10.191.0.9", "udp", "53", "10.20.0.2", "5353"),
        ("spread2_4", "10.191.0.9", "udp", "53", "10.20.0.3", "5353"),
        ("spread1_6", "fd6e:6574:6400::9", "tcp", "80", "fd00::2", "8080"),
        ("spread1_6", "fd6e:6574:6400::9", "udp", "53", "fd00::2", "5353"),
    }


def test_slots_are_numbered_from_0_on() -> None:
    found = elements("virtual-web", ADDRESSES[:1], [VirtualPort(port=80)], named(3), "none")
    assert [each.element[3] for each in found] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("number", "affinity", "expected"),
    [
        (0, "none", set()),
        (1, "source", {"spread1_4"}),
        (2, "source", {"sticky128_4"}),
        (16, "source", {"sticky128_4"}),
        (17, "source", {"sticky1024_4"}),
        (9, "none", {"spread128_4"}),
    ],
)
def test_a_service_is_in_one_map(number: int, affinity: str, expected: set[str]) -> None:
    found = elements(
        "virtual-web",
        ADDRESSES[:1],
        [VirtualPort(port=80)],
        named(number),
        affinity,  # type: ignore[arg-type]
    )
    assert {each.set_name for each in found} == expected
    assert all(SETS[name].slots == len(found) for name in expected)


def test_an_instance_without_a_port_takes_what_has_a_target_port() -> None:
    ports = (VirtualPort(port=80), VirtualPort(port=81, target_port=8081))
    found = elements("virtual-web", ADDRESSES[:1], ports, [backend("a", port=0)], "none")
    assert [(each.element[2], each.value[1]) for each in found] == [("81", "8081")]


networks = st.dictionaries(
    st.sampled_from(["blue", "red", "green", "grey"]),
    st.tuples(st.booleans(), st.booleans()),
).map(
    lambda found: {
        name: Bridged(link=f"nd-{name}", isolated=isolated, internal=internal)
        for name, (isolated, internal) in found.items()
    }
)


@st.composite
def hosts(draw: st.DrawFn) -> tuple[Networks, list[Backend]]:
    """A host's networks, and instances in them, at the host and elsewhere."""
    known = draw(networks)
    places = draw(st.lists(st.sampled_from(["", "host", *known]), max_size=6))
    found = [
        backend(f"web-{at}", network="" if place == "host" else place, at_host=place == "host")
        for at, place in enumerate(places)
    ]
    return Networks(known), found


def passes(client: Bridged, target: Backend, known: Networks) -> bool:
    """What the chain `filter_forward` does with a packet from the client that was led there."""
    if target.at_host:
        return True  # it does not come there
    out = known.by_name.get(target.network)
    if out == client:
        return True
    if client.internal or (out is not None and (out.internal or out.isolated)):
        return False
    return not (client.isolated and out is not None)


@given(hosts())
def test_clients_are_led_to_all_that_they_reach_and_nowhere_else(
    host: tuple[Networks, list[Backend]],
) -> None:
    known, some = host
    found = views(some, known)
    for client in known.by_name.values():
        others = [] if client.internal else found[OTHERS]
        assert found.get(client.link, others) == [
            each for each in some if passes(client, each, known)
        ]
    assert found.get(LINK, found[OTHERS]) == some
    assert set(found) <= {OTHERS, LINK, *(each.link for each in known.by_name.values())}


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_goes_by_a_link_has_a_protocol_nevertheless(protocol: Transport) -> None:
    known = Networks({name: Bridged(link=f"nd-{name}") for name in map(str, range(50))})
    some = [backend(each, network=each, address=f"10.0.{each}.2") for each in known.by_name]
    port = VirtualPort(port=80, protocol=protocol)
    found = elements("o", ADDRESSES[:1], [port], some, "none", networks=known)
    assert len(state_of(found)) == len(found)
    assert {protocol_of(each) for each in found} == {protocol}
    assert {each.target for each in flows_of(found)} == {each.address for each in some}


def test_only_where_it_makes_a_difference_a_network_has_elements_of_its_own() -> None:
    known = Networks(
        {
            "blue": Bridged(link="nd-blue"),
            "red": Bridged(link="nd-red"),
            "a": Bridged(link="nd-a", isolated=False),
            "b": Bridged(link="nd-b", isolated=False),
            "green": Bridged(link="nd-green", internal=True),
        }
    )

    def links(*some: Backend) -> set[str]:
        found = elements("o", ADDRESSES[:1], [VirtualPort(port=80)], some, "none", networks=known)
        assert all(element_text(each) for each in found)
        every = (LINK, *map("nd-{}".format, known.by_name))
        names = {str(client_number(each, "tcp")): each for each in every} | {"tcp": ""}
        return {names[each.element[1]] for each in found}

    assert links(backend("x")) == {""}
    assert links(backend("x", network="blue")) == {LINK, "nd-blue"}
    assert links(backend("x", network="blue"), backend("y")) == {"", LINK, "nd-blue"}
    assert links(backend("x", network="a")) == {LINK, "nd-a", "nd-b"}
    assert links(backend("x", at_host=True)) == {"", "nd-green"}


def test_the_host_has_a_way_to_the_pools() -> None:
    objects = host_objects(POOLS, ipv6=True)
    assert [type(each) for each in objects] == [Bridge, Route, Route]
    assert [each.text() for each in objects[1:]] == [
        f"route 10.191.0.0/16 dev {LINK}",
        f"route fd6e:6574:6400::/112 dev {LINK}",
    ]
    assert len(host_objects(POOLS, ipv6=False)) == 2


def test_addresses_of_one_number_are_one_of_each_pool() -> None:
    assert addresses_of(POOLS, 258) == ("10.191.1.2", "fd6e:6574:6400::102")
    assert numbers_of(POOLS) == range(1, 65_535)


def claim(name: str, at: int, wanted: int | None = None) -> Claim:
    return Claim(name=name, rank=(at, "m"), wanted=wanted)


def test_a_service_has_what_it_claims_unless_an_earlier_claim_has_it() -> None:
    numbers = range(1, 100)
    first = claim("a", 1, wished("b", 0, numbers))
    assert assign([claim("b", 2), first], numbers) == {
        "a": first.wanted,
        "b": wished("b", 1, numbers),
    }


steps = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"), st.integers(0, 5), st.one_of(st.none(), st.integers(0, 9))
    ),
    max_size=30,
)


@given(steps, st.integers(3, 12))
def test_numbers_are_those_of_the_claims_in_whatever_order_they_come(
    changes: list[tuple[str, int, int | None]], size: int
) -> None:
    numbers = Numbers(range(1, 1 + size))
    claims: dict[str, Claim] = {}
    shown: dict[str, int | None] = {}
    for name, at, wanted in changes:
        if at == 0:
            changed = numbers.drop(name)
            claims.pop(name, None)
        else:
            claims[name] = claim(name, at, wanted)
            changed = numbers.put(claims[name])
        shown |= {each: numbers.of(each) for each in changed}
        assert {each: numbers.of(each) for each in claims} == {
            each: assign(claims.values(), range(1, 1 + size)).get(each) for each in claims
        }
        assert {each: number for each, number in shown.items() if number is not None} == assign(
            claims.values(), range(1, 1 + size)
        )


def test_a_number_that_nobody_has_is_found_for_a_new_service() -> None:
    numbers = Numbers(range(1, 5))
    for at, name in enumerate("abcd"):
        free = numbers.free_choice(name)
        assert free is not None
        assert numbers.put(claim(name, at, free)) == {name}
        assert numbers.of(name) == free
    assert numbers.free_choice("e") is None
    assert sorted(numbers.of(name) or 0 for name in "abcd") == [1, 2, 3, 4]
