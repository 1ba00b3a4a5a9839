"""What Eureka's clients see of the catalogue, and what deltas tell them of it."""

import asyncio
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.model.directory import Entry, ZoneEntry
from netd.naming.values import Scope
from netd.registry.eureka import coming
from netd.registry.eureka.answers import Answers, Form
from netd.registry.eureka.statuses import hashcode
from netd.registry.eureka.view import View
from tests.unit.eureka_lab import Clock, Kept, instance_object

Shown = tuple[str, int]  # status and port

EVERYTHING = Scope(None)
BLUE = Scope(frozenset({"blue"}))
NETWORKS = ("blue", "blue", "", "red")  # of the registrations of r, by number
JSON = Form("json")
ZONE = Entry(
    revision=1,
    kind="zone",
    zone=ZoneEntry(zone="netd.internal", node="host-1", node_id="0" * 16),
)


class Step(NamedTuple):
    what: str  # put, drop, register, resync or wait
    number: int
    status: Any
    stamp: int


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(["put", "drop", "register", "resync", "wait"]),
        st.integers(0, 3),
        st.sampled_from(["passing", "critical"]),
        st.integers(1, 5),
    ),
    max_size=6,
)


class Follower:
    """A client that has all once, and then goes by deltas."""

    def __init__(self) -> None:
        self.known: dict[str, Shown] = {}

    def apply(self, delta: dict[str, Any]) -> bool:
        """Whether it has all there is, as far as it can tell."""
        for app in delta["application"]:
            for each in app["instance"]:
                if each["actionType"] == "DELETED":
                    self.known.pop(each["instanceId"], None)
                else:
                    self.known[each["instanceId"]] = (each["status"], each["port"]["$"])
        found: str = delta["apps__hashcode"]
        return hashcode(status for status, _ in self.known.values()) == found


def service_of(step: Step) -> Kept:
    ident = f"i{step.number}"
    if step.what == "put":
        name = "shop" if step.number % 2 else "db"
        return Kept(
            id=ident,
            name=name,
            node="host-1",
            address="192.0.2.1",
            port=step.stamp,
            status=step.status,
        )
    # Of one name, as several hosts and networks may have it; what is cancelled is not shown.
    lease_info = {"registrationTimestamp": step.stamp % 3}
    instance = instance_object(instanceId="r", app="R", port=step.stamp, leaseInfo=lease_info)
    extra = {
        "instance": instance,
        "ownStatus": "UP",
        "stamp": step.stamp,
        "cancelled": step.stamp == 5,
    }
    lease = {"id": "eureka-lease", "name": "lease", "kind": "ttl", "status": step.status}
    fields = {
        "id": f"r{step.number}",
        "name": "r",
        "node": f"host-{step.number}",
        "address": "192.0.2.8",
        "network": NETWORKS[step.number],
        "checks": [lease],
        "status": step.status,
        "extra": {"eureka": extra},
    }
    return msgspec.convert(fields, Kept)


def shown(view: View, scope: Scope = EVERYTHING) -> dict[str, Shown]:
    return {
        seen.instance.instance_id: (seen.instance.status, seen.instance.port.number)
        for seen in view.shown(scope)
        if seen.instance is not None
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=6))
def test_who_follows_by_deltas_has_all_or_knows_that_it_has_not(rounds: list[list[Step]]) -> None:
    asyncio.run(_follow(rounds))


async def _follow(rounds: list[list[Step]]) -> None:
    clock = Clock()
    view = View(clock)
    view.replace({("zone", ""): ZONE})
    answers = Answers(view)
    followers = {EVERYTHING: Follower(), BLUE: Follower()}
    services: dict[str, Kept] = {}
    for some in rounds:
        for step in some:
            _do(step, view, services, clock)
        fresh = View(clock)
        fresh.replace(_table(services))
        for scope, follower in followers.items():
            assert shown(view, scope) == shown(fresh, scope)
            delta = msgspec.json.decode((await answers.delta(scope, JSON)).plain)["applications"]
            if not follower.apply(delta):
                follower.known = shown(view, scope)  # it asks for all
            assert follower.known == shown(view, scope)
            full = msgspec.json.decode((await answers.all(scope, JSON)).plain)["applications"]
            assert full["apps__hashcode"] == delta["apps__hashcode"]


def _do(step: Step, view: View, services: dict[str, Kept], clock: Clock) -> None:
    match step.what:
        case "wait":
            clock.now_s += 25
        case "resync":
            _tell(view, _table(services))
        case "drop":
            for ident in (f"i{step.number}", f"r{step.number}"):
                if services.pop(ident, None) is not None:
                    view.change(None, Entry(revision=1, kind="service", id=ident))
        case _:
            service = service_of(step)
            services[service.id] = service
            view.change(None, _entry(service))


def _tell(view: View, table: dict[Any, Entry]) -> None:
    """A whole table, as the feed does."""
    view.begin()
    for entry in table.values():
        view.add(entry)
    view.replace(table)


def _entry(service: Kept) -> Entry:
    return Entry(revision=1, kind="service", id=service.id, service=service)


def _table(services: dict[str, Kept]) -> dict[Any, Entry]:
    return {("zone", ""): ZONE} | {
        ("service", ident): _entry(each) for ident, each in services.items()
    }


def test_a_table_that_comes_is_ready_before_it_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    view = View(Clock())
    services = {f"i{n}": service_of(Step("put", n, "passing", 1)) for n in range(3)}
    view.begin()
    view.add(_entry(service_of(Step("put", 3, "passing", 1))))  # of a stream that ended
    view.begin()
    for entry in _table(services).values():
        view.add(entry)
    assert (shown(view), view.ready, len(view.changes)) == ({}, False, 0)
    with monkeypatch.context() as patch:
        patch.setattr(coming, "Seen", None)  # nothing is left to be made
        view.replace(_table(services))
    assert (set(shown(view)), view.ready, len(view.changes)) == (set(services), True, 3)
    version, before = view.version, list(view.shown(EVERYTHING))
    _tell(view, _table(dict(services)))
    assert view.version == version
    assert all(new is old for new, old in zip(view.shown(EVERYTHING), before, strict=True))


def test_a_table_whose_entries_have_come_in_another_way_counts_as_it_is() -> None:
    view = View(Clock())
    first, second = (service_of(Step("put", 1, "passing", port)) for port in (1, 2))
    view.begin()
    for service in (first, second):
        view.add(_entry(service))
    view.add(Entry(revision=2, kind="service", id=first.id))
    view.replace({})
    assert shown(view) == {}
    view.replace(_table({second.id: second}))
    assert [port for _, port in shown(view).values()] == [2]


async def test_answers_are_kept_until_something_changes() -> None:
    view = View(Clock())
    view.replace({("zone", ""): ZONE})
    answers = Answers(view)
    put = Step("put", 1, "passing", 1)
    view.change(None, _entry(service_of(put)))
    for ask in (answers.all, answers.delta):
        body = await ask(EVERYTHING, JSON)
        assert await ask(EVERYTHING, JSON) is body
        assert await ask(EVERYTHING, Form()) is not body
        assert await ask(Scope(frozenset()), JSON) is not body
    body = await answers.all(EVERYTHING, JSON)
    view.change(None, _entry(service_of(put._replace(status="critical"))))
    assert await answers.all(EVERYTHING, JSON) is not body
