"""The ruleset's text and the elements that are put into scripts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.errors import Invalid
from netd.model.network import Network
from netd.plan.firewall import (
    SETS,
    element_text,
    key_text,
    network_elements,
    own_elements,
    ruleset,
)
from netd.plan.objects import SetElement, state_of
from netd.plan.virtual_rules import VirtualPools

NETWORK = Network(
    id="0123456789abcdef",
    name="blue",
    driver="bridge",
    subnets=("10.20.0.0/24", "fd00:1::/64"),
)


POOLS = VirtualPools("10.191.0.0/16", "fd6e:6574:6400::/112")


def sets_of(network: Network) -> set[str]:
    return {element.set_name for element in network_elements(network, "nd-blue")}


def element(set_name: str, *key: str, value: tuple[str, ...] = (), owner: str = "e1") -> SetElement:
    return SetElement(owner=owner, set_name=set_name, element=key, value=value)


def test_the_digest_stands_for_the_text() -> None:
    plain, guarded = ruleset(forward_guard=False), ruleset(forward_guard=True)
    assert plain == ruleset(forward_guard=False)
    assert plain.digest != guarded.digest
    assert all(re.fullmatch("[0-9a-f]{16}", rules.digest) for rules in (plain, guarded))


def test_the_guard_is_two_more_rules() -> None:
    plain, guarded = (ruleset(forward_guard=guard).script.splitlines() for guard in (False, True))
    assert [line for line in guarded if line not in plain] == [
        f'\t\tiifname != @bridges oifname != @bridges meta {kind} != "bridge" drop'
        for kind in ("iifkind", "oifkind")
    ]
    assert [line for line in guarded if line in plain] == plain


def test_the_rules_use_every_set_and_no_other() -> None:
    script = ruleset(forward_guard=True, tunnel_port=4789, virtual=POOLS).script
    assert set(re.findall(r"@(\w+)", script)) == SETS.keys()
    assert set(re.findall(r"^\t(?:set|map) (\w+) ", script, re.MULTILINE)) == SETS.keys()


def test_every_set_has_a_bound_but_those_that_would_take_memory_for_it() -> None:
    declared = re.findall(
        r"^\t(?:set|map) (\w+) (.*)$",
        ruleset(forward_guard=True, virtual=POOLS).script,
        re.MULTILINE,
    )
    assert len(declared) == len(SETS)
    for name, text in declared:
        assert bool(re.search(r"size \d+;", text)) == (SETS[name].slots == 0)


def test_rules_for_virtual_addresses_are_there_where_there_are_some() -> None:
    without, with_ = (ruleset(forward_guard=True, virtual=each).script for each in (None, POOLS))
    assert not {line for line in without.splitlines() if line not in with_}
    assert "10.191.0.0/16" in with_
    assert "10.191.0.0/16" not in without
    assert "virtual4" not in without
    assert "typeof" not in without  # which nft 1.0.2 does not take with numbers in a key


def test_each_map_of_slots_is_asked_with_a_number_below_its_size() -> None:
    script = ruleset(forward_guard=True, virtual=POOLS).script
    asked = re.findall(r" mod (\d+) (?:seed 0x[0-9a-f]+ )?map @(\w+)$", script, re.MULTILINE)
    slots = {name: spec.slots for name, spec in SETS.items() if spec.slots}
    assert {name: int(number) for number, name in asked} == slots
    # Where the client is, is asked for each protocol, and of containers and of the host.
    assert len(asked) == sum(4 if name.startswith("near_") else 1 for name in slots)


def test_own_addresses_are_those_of_the_bridge() -> None:
    elements = own_elements(NETWORK, "nd-blue", ("10.20.0.9/24", "fd00:1::9/64"))
    assert [(each.set_name, element_text(each)) for each in elements] == [
        ("own4", '"nd-blue" comment "0123456789abcdef" : 10.20.0.9'),
        ("own6", '"nd-blue" comment "0123456789abcdef" : fd00:1::9'),
    ]


def test_priorities_are_numbers_because_old_nft_lacks_names_for_some_hooks() -> None:
    priorities = re.findall(r"priority ([^;]+);", ruleset(forward_guard=True).script)
    assert len(priorities) == 5
    assert all(re.fullmatch(r"-?\d+", priority) for priority in priorities)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"isolated", "masqueraded"}),
        ({"isolated": False}, {"masqueraded"}),
        ({"internal": True}, {"isolated", "internal"}),
        ({"internal": True, "isolated": False}, {"internal"}),
        ({"options": {"masquerade": False}}, {"isolated"}),
        ({"options": {"masquerade": True}}, {"isolated", "masqueraded"}),
    ],
)
def test_a_network_is_in_the_sets_of_what_it_is(
    changes: dict[str, object], expected: set[str]
) -> None:
    fields = {name: getattr(NETWORK, name) for name in NETWORK.__struct_fields__}
    assert sets_of(Network(**{**fields, **changes})) == {
        "bridges",
        "intra",
        "local4",
        "local6",
        *expected,
    }


def test_a_networks_elements_are_its_own_and_can_be_written() -> None:
    elements = network_elements(NETWORK, "nd-blue")
    assert {one.owner for one in elements} == {NETWORK.id}
    assert len(state_of(elements)) == len(elements)
    assert [element_text(one) for one in elements] == [
        '"nd-blue" comment "0123456789abcdef"',
        '"nd-blue" . "nd-blue" comment "0123456789abcdef"',
        '10.20.0.0/24 . "nd-blue" comment "0123456789abcdef"',
        'fd00:1::/64 . "nd-blue" comment "0123456789abcdef"',
        '"nd-blue" comment "0123456789abcdef"',
        '"nd-blue" comment "0123456789abcdef"',
    ]


def test_an_element_of_a_map_has_its_value_behind_its_owner() -> None:
    port = element("ports4", "192.0.2.1", "tcp", "80", value=("10.20.0.2", "8080"))
    assert key_text(port) == "192.0.2.1 . tcp . 80"
    assert element_text(port) == '192.0.2.1 . tcp . 80 comment "e1" : 10.20.0.2 . 8080'


@pytest.mark.parametrize(
    "wrong",
    [
        element("nowhere", "nd-blue"),
        element("bridges"),
        element("bridges", "nd-blue", "nd-blue"),
        element("bridges", ""),
        element("bridges", "nd-blue\n"),
        element("bridges", 'nd-"blue'),
        element("bridges", "nd-*"),
        element("bridges", "nd-\\"),
        element("bridges", "nd blue"),
        element("bridges", "nd-\0blue"),
        element("bridges", "nd-blüe"),
        element("bridges", "sixteen-bytes-xx"),
        element("local4", "10.20.0.1/24", "nd-blue"),
        element("local6", "fe80::%eth0/64", "nd-blue"),
        element("ports4_any", "icmp", "80", value=("10.0.0.2", "80")),
        element("ports4_any", "256", "80", value=("10.0.0.2", "80")),
        element("ports4_any", "tcp", "65536", value=("10.0.0.2", "80")),
        element("ports4_any", "tcp", "-1", value=("10.0.0.2", "80")),
        element("ports4_any", "tcp", "80-90", value=("10.0.0.2", "80")),
        element("ports4", "fd00::2", "tcp", "80", value=("10.0.0.2", "80")),
        element("ports4", "10.0.0.0/8", "tcp", "80", value=("10.0.0.2", "80")),
        element("ports6", "fe80::1%eth0", "tcp", "80", value=("fd00::2", "80")),
        element("spread3_4", "10.191.0.1", "tcp", "80", "-1", value=("10.0.0.2", "80")),
        element("spread3_4", "10.191.0.1", "tcp", "80", "0x1", value=("10.0.0.2", "80")),
        element("spread3_4", "10.191.0.1", "tcp", "80", "4294967296", value=("10.0.0.2", "80")),
        element("spread3_4", "10.191.0.1", "tcp", "80", value=("10.0.0.2", "80")),
    ],
)
def test_what_is_not_of_the_sets_type_is_refused(wrong: SetElement) -> None:
    with pytest.raises(Invalid):
        key_text(wrong)
    with pytest.raises(Invalid):
        element_text(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        element("ports4_any", "tcp", "80"),
        element("ports4_any", "tcp", "80", value=("fd00::2", "80")),
        element("ports4_any", "tcp", "80", value=("10.0.0.2", "80 }")),
        element("bridges", "nd-blue", owner=""),
        element("bridges", "nd-blue", owner='"'),
        element("bridges", "nd-blue", owner="E1"),
        element("bridges", "nd-blue", owner="e1\n"),
        element("bridges", "nd-blue", owner="e" * 81),
    ],
)
def test_a_wrong_value_or_owner_is_refused(wrong: SetElement) -> None:
    assert key_text(wrong)
    with pytest.raises(Invalid):
        element_text(wrong)


@given(
    set_name=st.sampled_from(sorted(SETS)),
    key=st.lists(st.text(max_size=20), min_size=1, max_size=3),
    value=st.lists(st.text(max_size=20), max_size=2),
    owner=st.text(max_size=20),
)
def test_no_text_breaks_out_of_an_element(
    set_name: str, key: list[str], value: list[str], owner: str
) -> None:
    try:
        text = element_text(element(set_name, *key, value=tuple(value), owner=owner))
    except Invalid:
        return
    outside = re.sub(r'"[^"\\\n]*"', "", text)
    assert re.fullmatch(r"[0-9a-z.:/ ]+|[0-9a-z.:/ ]* comment ?[0-9a-z.:/ ]*", outside)
    assert text.isascii()


@given(st.text(min_size=1, max_size=15))
def test_an_interface_name_stays_within_its_quotes(name: str) -> None:
    try:
        text = key_text(element("bridges", name))
    except Invalid:
        return
    assert text == f'"{name}"'
    assert not set(name) & set('"*\\ \t\n\0/')
