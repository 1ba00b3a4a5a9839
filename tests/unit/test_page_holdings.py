"""What the feed says, in order; and how checks have been."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from netd.model.directory import Entry
from netd.model.service import NODE_SERVICE, Check
from netd.registry.page.history import SPELLS_MAX, History, Spell
from netd.registry.page.holdings import Holdings
from tests.unit.page_lab import endpoint, entry, service

_NAMES = st.sampled_from(["a", "b", "ab", "z", "a\x01"])
_STATUSES = st.sampled_from(["passing", "warning", "critical"])


@st.composite
def _entries(draw: st.DrawFn) -> Entry:
    ident = draw(st.sampled_from(["1", "2", "3", "4"]))
    kind = draw(st.sampled_from(["endpoint", "service"]))
    if draw(st.integers(0, 3)) == 0:
        return entry(kind, ident, None)
    name, node, network = draw(_NAMES), draw(_NAMES), draw(_NAMES)
    if kind == "endpoint":
        return entry(kind, ident, endpoint(name, node=node, network=network))
    name = draw(st.sampled_from([name, NODE_SERVICE]))
    return entry(kind, ident, service(ident, draw(_STATUSES), name=name, node=node))


@given(st.lists(_entries(), max_size=30))
def test_changes_one_by_one_are_the_same_as_all_at_once(changes: list[Entry]) -> None:
    kinds: list[str] = []
    one, other = Holdings(kinds.append), Holdings(lambda _: None)
    table: dict[tuple[Any, str], Entry] = {}
    for change in changes:
        old = table.pop((change.kind, change.id), None)
        if change.endpoint is not None or change.service is not None:
            table[change.kind, change.id] = change
        one.change(old, change)
    other.replace(table)
    assert one.endpoint_order == other.endpoint_order == sorted(one.endpoint_order)
    assert one.service_order == other.service_order
    assert one.endpoints == other.endpoints
    assert one.services == other.services
    assert +one.by_status == +other.by_status
    assert kinds == [change.kind for change in changes]
    ends = [each.endpoint for each in table.values() if each.endpoint is not None]
    for network in ("a", "b", "ab", "z", "a\x01"):
        here = [end for end in ends if end.network == network]
        assert one.count_on(network) == len(here)
        assert one.nodes_of(network) == sorted({end.node for end in here})
        for node in ("a", "b", "ab", "z", "a\x01"):
            there = [end for end in here if end.node == node]
            assert len(one.endpoints_at(network, node)) == len(there)


def told(history: History, ident: str, *statuses: str) -> None:
    for status in statuses:
        history.change(None, entry("service", ident, service(ident, status)))


def spells(history: History, ident: str, status: str = "passing") -> tuple[Spell, ...]:
    check = Check(id="tcp", name="tcp", kind="tcp", status=status)  # type: ignore[arg-type]
    return history.of(ident, check)


def test_a_check_keeps_its_last_changes() -> None:
    times = iter(range(1000))
    history = History(lambda: f"t{next(times)}")
    told(history, "web-1", "passing", "passing")
    assert spells(history, "web-1") == (Spell("", "passing"),)
    assert len(history) == 0
    told(history, "web-1", "critical", "critical", "passing")
    assert spells(history, "web-1") == (
        Spell("", "passing"),
        Spell("t0", "critical"),
        Spell("t1", "passing"),
    )
    told(history, "web-1", *["warning", "passing"] * 50)
    kept = spells(history, "web-1")
    assert len(kept) == SPELLS_MAX
    assert kept[-1] == Spell("t101", "passing")


def test_what_is_gone_has_no_history() -> None:
    history = History(lambda: "t")
    told(history, "web-1", "passing", "critical")
    told(history, "web-2", "passing", "critical")
    history.change(None, entry("service", "web-1", None))
    history.change(None, entry("service", "web-1", None))
    assert len(history) == 1
    bare = entry("service", "web-2", service("web-2", checks=()))
    history.change(None, bare)
    assert len(history) == 0


def test_another_table_is_a_change_like_any_other() -> None:
    history = History(lambda: "t")
    told(history, "web-1", "passing", "critical")
    told(history, "web-2", "passing", "critical")
    again = entry("service", "web-1", service("web-1", "passing"))
    history.replace({("service", "web-1"): again})
    assert [spell.status for spell in spells(history, "web-1")] == [
        "passing",
        "critical",
        "passing",
    ]
    assert len(history) == 1


def test_there_is_a_bound_to_all_of_it() -> None:
    history = History(lambda: "t", checks_max=2)
    for ident in ("web-1", "web-2", "web-3"):
        told(history, ident, "passing", "critical")
    assert len(history) == 2
    assert spells(history, "web-1", "critical") == (Spell("", "critical"),)
    told(history, "web-2", "passing")  # it has changed last, so it stays
    told(history, "web-1", "passing")
    assert len(spells(history, "web-2")) == 3
    assert len(spells(history, "web-3", "critical")) == 1


def test_nothing_is_kept_of_a_page_that_is_switched_off() -> None:
    history = History(lambda: "t")
    told(history, "web-1", "passing", "critical")
    history.enabled = False
    history.replace({})
    told(history, "web-1", "passing", "critical")
    assert len(history) == 0
