"""The nftables adapter against the kernel."""

import errno
import select
import subprocess
from collections.abc import Iterator

import pytest

from netd.kernel.nft import ALTERED, Nftables
from netd.model.network import Network
from netd.plan.diff import difference
from netd.plan.firewall import SETS, has_set, network_elements, ruleset
from netd.plan.objects import Object, Ruleset, SetElement, State, state_of
from netd.plan.operations import Operation, Verb
from netd.plan.virtual_rules import VirtualPools, client_number
from tests.netns.conftest import HAS_SLOTS, needs_slots, run

POOLS = VirtualPools(ipv4="10.191.0.0/16", ipv6="fd6e:6574:6400::/112")
RULES = ruleset(forward_guard=True, virtual=POOLS if HAS_SLOTS else None)
BLUE = network_elements(
    Network(id="b" * 16, name="blue", driver="bridge", subnets=("10.20.0.0/20", "fd00:1::/64")),
    "nd-blue",
)


@pytest.fixture
def nft() -> Iterator[Nftables]:
    adapter = Nftables()
    yield adapter
    adapter.close()


def operation(verb: Verb, obj: Object) -> Operation:
    return Operation(verb=verb, object=obj, reason="test")


def add(nft: Nftables, *objects: Object) -> None:
    assert nft.apply([operation("add", obj) for obj in objects]) == []


def port(number: int, target: str = "10.20.0.2", owner: str = "e1") -> SetElement:
    return SetElement(
        owner=owner, set_name="ports4_any", element=("tcp", str(number)), value=(target, "80")
    )


def loaded(nft: Nftables) -> str:
    found = nft.observe()[RULES.key]
    assert isinstance(found, Ruleset)
    return found.digest


EVERY_KIND = [
    *BLUE,
    SetElement(owner="b1", set_name="local4", element=("10.9.9.9/32", "nd-one")),
    SetElement(owner="host", set_name="internal", element=("nd+a.b@c_d-e",)),
    SetElement(owner="host", set_name="vteps4", element=("198.18.0.2",)),
    SetElement(owner="host", set_name="vteps6", element=("2001:db8::2",)),
    SetElement(
        owner="e1",
        set_name="ports4",
        element=("192.0.2.1", "udp", "53"),
        value=("10.20.0.2", "5353"),
    ),
    port(8080),
    SetElement(
        owner="e-2", set_name="ports6", element=("2001:db8::1", "sctp", "1"), value=("fd00::2", "2")
    ),
    SetElement(owner="e1", set_name="ports6_any", element=("tcp", "65535"), value=("fd00::2", "1")),
    SetElement(owner="n1", set_name="own4", element=("nd-blue",), value=("10.20.0.9",)),
    SetElement(owner="n1", set_name="own6", element=("nd-blue",), value=("fd00:1::9",)),
    *(
        SetElement(
            owner="virtual-my_web.site",
            set_name=name,
            element=(
                "10.191.255.9" if name.endswith("4") else "fd6e::9",
                str(client_number("nd-blue", "udp")) if name.startswith("near_") else "udp",
                "53",
                str(slot),
            ),
            value=("10.20.0.2" if name.endswith("4") else "::ffff:1:2:3", "65535"),
        )
        for name, spec in SETS.items()
        if spec.slots and HAS_SLOTS
        for slot in {0, spec.slots // 2, spec.slots - 1}
    ),
]


def test_nothing_is_observed_without_the_table(nft: Nftables) -> None:
    run("nft", "add table ip netd")  # nft asks whether this one was meant
    assert nft.observe() == {}
    assert nft.apply([operation("delete", port(80)), operation("delete", RULES)]) == []
    run("nft", "list", "table", "ip", "netd")


def test_what_is_added_is_observed_and_goes_again(nft: Nftables) -> None:
    assert {element.set_name for element in EVERY_KIND} == {
        name for name in SETS if has_set(RULES, name)
    }
    add(nft, RULES, *EVERY_KIND)
    seen = nft.observe()
    wanted = state_of([RULES, *EVERY_KIND])
    assert seen.keys() == wanted.keys()
    assert [difference(wanted[key], seen[key]) for key in wanted] == [""] * len(wanted)
    assert nft.apply([operation("delete", element) for element in EVERY_KIND]) == []
    assert list(nft.observe()) == [RULES.key]
    assert nft.apply([operation("delete", RULES)]) == []
    assert nft.observe() == {}
    assert nft.apply([operation("delete", RULES)]) == []


def test_another_adapter_observes_the_same(nft: Nftables) -> None:
    add(nft, RULES, *EVERY_KIND)
    later = Nftables()
    assert later.observe() == nft.observe()
    later.close()


def test_an_element_that_is_there_can_be_added_again(nft: Nftables) -> None:
    add(nft, RULES, port(80), port(81))
    add(nft, port(81), port(82))
    assert len(nft.observe()) == 4


def test_an_element_with_another_value_is_replaced(nft: Nftables) -> None:
    add(nft, RULES, port(80, "10.20.0.2"), port(81))
    add(nft, port(82), port(80, "10.20.0.3", owner="e2"))
    assert nft.observe()[port(80).key] == port(80, "10.20.0.3", owner="e2")


@pytest.mark.parametrize("there", [True, False])
def test_a_change_sets_value_and_owner(nft: Nftables, there: bool) -> None:
    add(nft, RULES, *([port(80)] if there else []))
    wanted = port(80, "10.20.0.9", owner="e9")
    assert nft.apply([operation("change", wanted)]) == []
    assert nft.observe()[wanted.key] == wanted


def test_deleting_what_is_not_there_is_no_failure(nft: Nftables) -> None:
    assert nft.apply([operation("delete", port(80))]) == []  # not even the table
    add(nft, RULES, port(80), port(81))
    assert nft.apply([operation("delete", port(number)) for number in (80, 99, 81)]) == []
    assert list(nft.observe()) == [RULES.key]


def test_deletes_and_adds_keep_their_order(nft: Nftables) -> None:
    add(nft, RULES, port(80))
    moved = port(80, "10.20.0.7", owner="e7")
    assert nft.apply([operation("delete", port(80)), operation("add", moved)]) == []
    assert nft.observe()[moved.key] == moved


@pytest.mark.parametrize(
    "bad",
    [
        SetElement(owner="e1", set_name="bridges", element=('x"; flush ruleset; #',)),
        SetElement(owner='e1" }; flush ruleset', set_name="bridges", element=("nd-x",)),
        SetElement(owner="e1", set_name="ports4_any", element=("tcp", "80; x"), value=("::", "1")),
        SetElement(owner="e1", set_name="no-such-set", element=("nd-x",)),
        SetElement(
            owner="e1",
            set_name="ports6",
            element=("fe80::1%x } ; flush ruleset", "tcp", "1"),
            value=("fd00::2", "2"),
        ),
    ],
)
def test_a_malformed_element_fails_alone_and_never_reaches_nft(
    nft: Nftables, bad: SetElement
) -> None:
    add(nft, RULES)
    failures = nft.apply([operation("add", obj) for obj in (port(80), bad, port(81))])
    assert [(failure.operation.object, failure.errno) for failure in failures] == [
        (bad, errno.EINVAL)
    ]
    assert nft.observe().keys() == {RULES.key, port(80).key, port(81).key}


def test_what_the_kernel_refuses_fails_alone(nft: Nftables) -> None:
    add(nft, ruleset(forward_guard=True))
    run("nft", "flush chain inet netd filter_forward")
    run("nft", "delete set inet netd internal")
    refused = SetElement(owner="e1", set_name="internal", element=("nd-x",))
    failures = nft.apply([operation("add", obj) for obj in (port(80), refused, port(81))])
    assert [failure.operation.object for failure in failures] == [refused]
    assert failures[0].errno == errno.ENOENT
    assert "No such file or directory" in failures[0].message
    assert {port(80).key, port(81).key} <= nft.observe().keys()


def test_adding_without_the_table_fails_with_its_reason(nft: Nftables) -> None:
    (failure,) = nft.apply([operation("add", port(80))])
    assert failure.errno == errno.ENOENT


def test_a_ruleset_without_text_is_refused(nft: Nftables) -> None:
    (failure,) = nft.apply([operation("add", Ruleset(digest=ALTERED))])
    assert "text" in failure.message


@pytest.mark.parametrize(
    "command",
    [
        "flush chain inet netd nat_postrouting",
        "add rule inet netd filter_forward drop",
        "insert rule inet netd publish return",
        "delete rule inet netd filter_forward handle LAST",
        "add chain inet netd mine { type filter hook forward priority 5 ; policy drop ; }",
        "chain inet netd filter_forward { policy drop ; }",
        "add set inet netd mine { type mark ; }",
        "flush set inet netd digests",
        "delete table inet netd; add table inet netd",
    ],
)
def test_an_altered_table_is_seen_and_repaired_with_its_elements(
    nft: Nftables, command: str
) -> None:
    add(nft, RULES, *EVERY_KIND)
    assert loaded(nft) == RULES.digest
    rules = run("nft", "-a", "list", "chain", "inet", "netd", "filter_forward")
    last = rules.rpartition("handle ")[0].rpartition("handle ")[2].split()[0]
    before = nft.observe()
    run("nft", command.replace("LAST", last))
    assert loaded(nft) == ALTERED
    kept = {key: obj for key, obj in nft.observe().items() if isinstance(obj, SetElement)}
    assert nft.apply([operation("change", RULES)]) == []
    assert loaded(nft) == RULES.digest
    assert nft.observe() == {RULES.key: before[RULES.key], **kept}


def test_elements_do_not_change_the_digest(nft: Nftables) -> None:
    add(nft, RULES)
    add(nft, *EVERY_KIND)
    assert loaded(nft) == RULES.digest
    run("nft", "flush set inet netd bridges")
    assert loaded(nft) == RULES.digest


def test_an_element_put_in_by_hand_is_the_hosts_and_can_be_deleted(nft: Nftables) -> None:
    add(nft, RULES)
    run("nft", 'add element inet netd bridges { "lo", "eth0" comment "by hand" }')
    run("nft", "add element inet netd ports4_any { icmp . 0 : 10.0.0.1 . 0 }")
    strange = [obj for obj in nft.observe().values() if isinstance(obj, SetElement)]
    assert [element.owner for element in strange] == ["host"] * 3
    assert nft.apply([operation("delete", element) for element in strange]) == []
    assert list(nft.observe()) == [RULES.key]


def test_another_text_takes_the_elements_over(nft: Nftables) -> None:
    old = Ruleset(
        digest="0" * 16,
        script="table inet netd {\n"
        " set bridges { type ifname; size 7; }\n"
        " set gone { type mark; elements = { 1 } }\n"
        ' chain c { type filter hook forward priority 3; iifname @bridges counter comment "x"; }\n'
        "}\n",
    )
    add(nft, old, BLUE[0])
    assert loaded(nft) == "0" * 16
    assert nft.apply([operation("change", RULES)]) == []
    assert loaded(nft) == RULES.digest
    assert nft.observe()[BLUE[0].key] == BLUE[0]


def test_elements_that_the_new_text_does_not_take_are_left_out(nft: Nftables) -> None:
    add(nft, RULES, *EVERY_KIND)
    new = Ruleset(
        digest="1" * 16, script="table inet netd {\n set bridges { type ipv4_addr; }\n}\n"
    )
    assert nft.apply([operation("change", new)]) == []
    assert list(nft.observe()) == [RULES.key]
    assert loaded(nft) == "1" * 16


def test_a_text_that_does_not_load_leaves_the_old_one(nft: Nftables) -> None:
    add(nft, RULES, *EVERY_KIND)
    before = nft.observe()
    broken = Ruleset(digest="2" * 16, script="table inet netd { chain c { accept drop } }")
    (failure,) = nft.apply([operation("change", broken)])
    assert failure.errno == 0
    assert "syntax error" in failure.message
    assert nft.observe() == before


def test_other_tables_are_left_alone(nft: Nftables) -> None:
    run("nft", "add table inet other; add set inet other bridges { type ifname ; }")
    run("nft", "add table ip netd; add chain ip netd mine")
    others = [run("nft", "list", "table", *name) for name in (("inet", "other"), ("ip", "netd"))]
    add(nft, RULES, *EVERY_KIND)
    assert nft.apply([operation("change", RULES), operation("delete", RULES)]) == []
    after = [run("nft", "list", "table", *name) for name in (("inet", "other"), ("ip", "netd"))]
    assert after == others


def test_many_elements_are_one_transaction(nft: Nftables) -> None:
    add(nft, RULES)
    with subprocess.Popen(["nft", "monitor"], stdout=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout is not None
        # The monitor says nothing when it is ready: give it something until it does.
        while not has_line(monitor):
            run("nft", "add table inet ready; delete table inet ready")
        run("nft", "add table inet start")
        add(nft, *(port(number) for number in range(1, 2001)))
        run("nft", "add table inet end")
        lines = iter(monitor.stdout.readline, "")
        for line in lines:
            if line.startswith("add table inet start"):
                break
        generations = 0
        for line in lines:
            if line.startswith("add table inet end"):
                break
            generations += line.startswith("# new generation")
        monitor.kill()
    assert generations == 2  # the start's own and the elements'
    assert len(nft.observe()) == 2001


@pytest.mark.parametrize(
    ("set_name", "element"),
    [
        ("local4", '10.9.0.1-10.9.0.6 . "nd-x"'),
        ("local6", 'fd09::1-fd09::6 . "nd-x"'),
        ("local4", '10.9.0.0/24 . "nd-x"'),
        pytest.param(
            "spread3_4", "10.191.0.1 . 99 . 80 . 4294967295 : 10.0.0.1 . 1", marks=needs_slots
        ),
        pytest.param(
            "near_spread3_4",
            "10.191.0.1 . 4294967295 . 80 . 4294967295 : 10.0.0.1 . 1",
            marks=needs_slots,
        ),
        pytest.param("spread1_6", "::ffff:10.0.0.1 . udp . 80 . 0 : ::1 . 1", marks=needs_slots),
    ],
)
def test_what_netd_would_never_put_in_can_be_taken_out(
    nft: Nftables, set_name: str, element: str
) -> None:
    add(nft, RULES)
    run("nft", f"add element inet netd {set_name} {{ {element} }}")
    (found,) = [obj for obj in nft.observe().values() if isinstance(obj, SetElement)]
    assert (found.owner, found.set_name) == ("host", set_name)
    assert nft.apply([operation("delete", found)]) == []
    assert list(nft.observe()) == [RULES.key]
    fresh = Nftables()
    assert list(fresh.observe()) == [RULES.key]
    fresh.close()


def test_what_netd_alone_has_changed_is_known_without_a_look(
    nft: Nftables, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(nft, RULES, port(80))
    before = nft.observe()
    looks = []
    look = nft._look

    def counted() -> State:
        looks.append(1)
        return look()

    monkeypatch.setattr(nft, "_look", counted)
    add(nft, port(81), port(82))
    moved = port(81, "10.20.0.9", owner="e9")
    assert nft.apply([operation("delete", port(82)), operation("change", moved)]) == []
    add(nft, port(80, owner="e7"))  # which is there, and stays as it is
    assert nft.observe() == {**before, moved.key: moved}
    assert looks == []
    later = Nftables()
    assert later.observe() == nft.observe()
    later.close()


@pytest.mark.parametrize(
    "change",
    [
        "add element inet netd ports4_any { udp . 9 : 10.20.0.2 . 80 }",
        "delete element inet netd ports4_any { tcp . 80 }",
        "flush map inet netd ports4_any",
        "add rule inet netd filter_forward drop",
        "delete table inet netd",
        "flush ruleset",
    ],
)
@pytest.mark.parametrize("own_after", [False, True])
def test_what_others_change_is_seen_whatever_netd_does_then(
    nft: Nftables, change: str, own_after: bool
) -> None:
    add(nft, RULES, port(80))
    nft.observe()
    run("nft", change)
    if own_after:
        nft.apply([operation("add", port(90))])
    fresh = Nftables()
    assert nft.observe() == fresh.observe()
    assert nft.observe() == fresh.observe()
    fresh.close()


def test_a_transaction_that_the_kernel_refused_changes_nothing_of_what_is_known(
    nft: Nftables,
) -> None:
    add(nft, RULES, port(80))
    nft.observe()
    missing = operation("change", port(81))
    assert nft.apply([missing, operation("delete", port(80))]) == []  # each alone, then
    fresh = Nftables()
    assert nft.observe() == fresh.observe()
    fresh.close()


def has_line(process: "subprocess.Popen[str]") -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0.05)[0])
