"""What holds of the catalogue whatever is told to it, in whatever order."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.model.directory import Entry, NodeEntry, ZoneEntry
from netd.model.service import Check
from netd.naming.values import Scope
from netd.registry.catalog import catalog as module
from netd.registry.catalog.catalog import Catalog
from netd.registry.catalog.records import Instance, node_record
from netd.registry.consul.forms import Forms
from tests.unit.consul_lab import Extended

EVERYTHING = Scope(None)
BLUE = Scope(frozenset(("blue",)))
FORMS = Forms("dc1")
NODES = ("host-1", "host-2", "printer")
NAMES = ("web", "Db")

Table = dict[tuple[Any, str], Entry]


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(("service", "service", "record", "node", "zone")))
    if kind == "zone":
        node = draw(st.sampled_from(NODES[:2]))
        return Entry(revision=1, kind="zone", zone=ZoneEntry(zone="z", node=node, node_id="1"))
    if kind == "node":
        return _node(draw)
    return _service(draw, is_record=kind == "record")


def _node(draw: st.DrawFn) -> Entry:
    name = draw(st.sampled_from(NODES[:2]))
    address = draw(st.sampled_from(("", "10.0.0.1", "10.0.0.2")))
    if not address:
        return Entry(revision=1, kind="node", id=name)
    return Entry(
        revision=1, kind="node", id=name, node=NodeEntry(node_id=name, addresses=(address,))
    )


def _service(draw: st.DrawFn, *, is_record: bool) -> Entry:
    shown_on = draw(st.sampled_from(NODES))
    ident = node_record(shown_on) if is_record else draw(st.sampled_from(("i1", "i2", "i3")))
    if draw(st.booleans()) and draw(st.booleans()):
        return Entry(revision=1, kind="service", id=ident)
    owner = shown_on if shown_on in NODES[:2] else "host-1"
    name = draw(st.sampled_from(NAMES))
    extra: dict[str, Any] = {"id": draw(st.sampled_from(("a", "b"))), "name": name}
    if owner != shown_on:
        extra["node"] = {
            "Node": shown_on,
            "Address": draw(st.sampled_from(("10.7.0.1", "10.7.0.2"))),
        }
    checks = tuple(
        Check(id=each, name=each, kind="ttl", status=draw(st.sampled_from(("passing", "critical"))))
        for each in draw(st.sets(st.sampled_from(("c1", "c2"))))
    )
    service = Extended(
        id=ident,
        name="_node" if is_record else name.lower(),
        node=owner,
        address="10.0.0.9",
        port=draw(st.sampled_from((1, 2))),
        tags=draw(st.sampled_from(((), ("v1",)))),
        network=draw(st.sampled_from(("", "blue"))),
        checks=checks,
        extra={"consul": extra},
    )
    return Entry(revision=1, kind="service", id=ident, service=service)


def answers(catalog: Catalog) -> dict[str, Any]:
    """All that is answered, by topic."""
    found: dict[str, Any] = {
        "nodes": [FORMS.node(node) for node in catalog.all_nodes()],
        "services": sorted({(i.name, i.service.tags) for i in catalog.all(EVERYTHING)}),
        "instances": sorted(
            _encoded(_without_indexes([FORMS.service(i), FORMS.checks(i)]))
            for i in catalog.all(EVERYTHING)
        ),
    }
    for name in NAMES:
        of = catalog.of_service(name, EVERYTHING)
        nodes = [catalog.node_or_stand_in(each) for each in of]
        places = [FORMS.catalog_service(*pair) for pair in zip(of, nodes, strict=True)]
        found["service/" + name.lower()] = places
        records = [catalog.record_of(each.node) for each in of]
        checks = [FORMS.checks(each) for each in [*of, *records] if each is not None]
        found["health/" + name.lower()] = [places, checks]
    for name in NODES:
        node = catalog.node(name)
        of = catalog.of_node(name, EVERYTHING)
        record = catalog.record_of(name)
        found["node/" + name] = [
            None if node is None else FORMS.node(node),
            [[FORMS.service(each), FORMS.checks(each)] for each in of],
            [] if record is None else FORMS.checks(record),
        ]
    return {topic: _encoded(_without_indexes(value)) for topic, value in found.items()}


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


def _without_indexes(value: Any) -> Any:
    """`service/` and `health/` differ in these alone when only how an instance is has changed."""
    value = msgspec.to_builtins(value)
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in ("CreateIndex", "ModifyIndex")}
        return {key: _without_indexes(each) for key, each in kept.items()}
    if isinstance(value, list):
        return [_without_indexes(each) for each in value]
    return value


def _ids(found: tuple[Instance, Check] | None) -> tuple[str, str] | None:
    return None if found is None else (found[0].id, found[1].id)


def apply(table: Table, entry: Entry) -> None:
    if getattr(entry, entry.kind) is None:
        table.pop((entry.kind, entry.id), None)
    else:
        table[entry.kind, entry.id] = entry


def tell(catalog: Catalog, table: Table) -> None:
    """A whole table, as the feed does."""
    catalog.begin()
    for entry in table.values():
        catalog.add(entry)
    catalog.replace(table)


@settings(max_examples=100)
@given(st.lists(entries(), max_size=25))
def test_what_is_answered_changes_only_with_its_index(changes: list[Entry]) -> None:
    catalog = Catalog(lambda: 1000)
    before = answers(catalog)
    for entry in changes:
        indexes = {topic: catalog.indexes.of(topic) for topic in before}
        catalog.change(None, entry)
        after = answers(catalog)
        for topic, answer in after.items():
            if answer != before[topic]:
                assert catalog.indexes.of(topic) > indexes[topic], (topic, entry)
        before = after


@settings(max_examples=100)
@given(st.lists(entries(), max_size=25), st.lists(entries(), max_size=10))
def test_it_does_not_matter_how_a_table_came_about(
    changes: list[Entry], earlier: list[Entry]
) -> None:
    stepwise, at_once = Catalog(lambda: 1000), Catalog(lambda: 1000)
    table: Table = {}
    for entry in changes:
        apply(table, entry)
        stepwise.change(None, entry)
    for entry in earlier:
        if entry.kind != "zone":  # there is always one
            at_once.change(None, entry)
    known = answers(at_once)
    indexes = {topic: at_once.indexes.of(topic) for topic in known}
    tell(at_once, table)
    assert answers(at_once) == answers(stepwise)
    for topic, answer in answers(at_once).items():
        assert answer == known[topic] or at_once.indexes.of(topic) > indexes[topic]
    if ("zone", "") in table:
        for ident in ("service:a:c1", "service:b:c2", "c1", "c2"):
            found, expected = at_once.find_check(ident), stepwise.find_check(ident)
            assert _ids(found) == _ids(expected)
    before = {topic: at_once.indexes.of(topic) for topic in answers(at_once)}
    tell(at_once, table)
    assert {topic: at_once.indexes.of(topic) for topic in before} == before


@given(st.lists(entries(), max_size=25))
def test_a_container_sees_nothing_of_other_networks(changes: list[Entry]) -> None:
    catalog = Catalog(lambda: 1000)
    for entry in changes:
        catalog.change(None, entry)
    nobody = Scope(frozenset(("red",)))
    for name in NAMES:
        assert all(not each.service.network for each in catalog.of_service(name, nobody))
        blue = catalog.of_service(name, BLUE)
        assert blue == catalog.of_service(name, EVERYTHING)


def test_what_a_check_says_is_seen_at_once_and_told_with_the_next_change() -> None:
    def told(output: str) -> Entry:
        check = Check(id="c", name="c", kind="ttl", status="passing", output=output)
        service = Extended(id="i", name="web", node="host-1", address="10.0.0.1", checks=(check,))
        return Entry(revision=1, kind="service", id="i", service=service)

    def output() -> str:
        (instance,) = catalog.of_service("web", EVERYTHING)
        return instance.service.checks[0].output

    catalog = Catalog(lambda: 1000)
    catalog.change(None, told("one"))
    index = catalog.indexes.of("health/web")
    catalog.note("i", "c", "two")
    catalog.note("i", "other", "three")
    catalog.note("other", "c", "three")
    assert output() == "two"
    assert catalog.indexes.of("health/web") == index
    catalog.change(None, told("two"))  # what answers were made of may be older
    assert catalog.indexes.of("health/web") == index + 1
    catalog.change(None, told("two"))
    assert catalog.indexes.of("health/web") == index + 1
    catalog.change(None, Entry(revision=2, kind="service", id="i"))
    assert catalog.of_service("web", EVERYTHING) == []


def _web(ident: str, port: int = 1) -> Entry:
    service = Extended(id=ident, name="web", node="host-1", address="10.0.0.1", port=port)
    return Entry(revision=1, kind="service", id=ident, service=service)


def test_a_table_that_comes_is_ready_before_it_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(lambda: 1000)
    catalog.change(None, _web("1"))
    index = catalog.indexes.of("health/web")
    table: Table = {("service", ident): _web(ident) for ident in ("1", "2", "3")}
    catalog.begin()
    catalog.add(_web("lost"))  # of a stream that ended
    catalog.begin()
    for entry in table.values():
        catalog.add(entry)
    assert [each.id for each in catalog.of_service("web", EVERYTHING)] == ["1"]
    assert catalog.indexes.of("health/web") == index, "nothing of it counts yet"
    with monkeypatch.context() as patch:
        patch.setattr(module, "instance_of", None)  # nothing is left to be made
        catalog.replace(table)
    assert len(catalog) == 3
    assert catalog.indexes.of("health/web") > index


def test_a_table_whose_entries_have_come_in_another_way_counts_as_it_is() -> None:
    catalog = Catalog(lambda: 1000)
    catalog.begin()
    for entry in (_web("1"), _web("1", port=2), _web("2")):
        catalog.add(entry)
    catalog.add(Entry(revision=2, kind="service", id="2"))
    catalog.replace({("service", "1"): _web("1", port=2)})
    assert [each.service.port for each in catalog.of_service("web", EVERYTHING)] == [2]
    catalog.replace({})
    assert len(catalog) == 0


def test_what_a_check_has_said_before_a_table_came_is_told_with_it() -> None:
    check = Check(id="c", name="c", kind="ttl", status="passing", output="one")
    service = Extended(id="i", name="web", node="host-1", address="10.0.0.1", checks=(check,))
    table: Table = {("service", "i"): Entry(revision=1, kind="service", id="i", service=service)}
    catalog = Catalog(lambda: 1000)
    tell(catalog, table)
    index = catalog.indexes.of("health/web")
    catalog.begin()
    catalog.add(table["service", "i"])
    catalog.note("i", "c", "two")
    catalog.replace(table)
    assert catalog.indexes.of("health/web") > index
    tell(catalog, table)
    assert catalog.indexes.of("health/web") == index + 1
