"""Prepared queries by DNS."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from netd.model.directory import Entry
from netd.naming.answers import Question, unknown
from netd.naming.directory import Directory
from netd.naming.values import Answer, Scope
from netd.registry.consul import query_names
from netd.registry.consul.health import Health
from netd.registry.consul.query_dns import TOPIC, QueryDns, query_in
from netd.registry.consul.query_selection import Instances
from tests.unit.consul_keys_lab import Lab, consul_keys, until, web

ALL = Scope(None)


class Names(Directory):
    def of_instances(
        self, owner: str, kind: str, scope: Scope, service: str, ids: frozenset[str]
    ) -> Answer:
        zone = self._zones.of(owner)
        assert zone is not None
        selected = self._lookups._instances.select(((service, ""),), scope)
        kept = [each for each in selected.instances if each.id in ids]
        selected = selected._replace(instances=kept)
        asked = Question(owner, kind, scope, None)
        answer = self._lookups._of_service(asked, selected, owner, zone)
        return answer or unknown(zone.soa, selected.topics)


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with consul_keys() as made:
        yield made


def dns(lab: Lab) -> QueryDns:
    names = Names()
    names.apply(Entry(revision=1, kind="zone", zone=lab.catalog.zone))
    for instance in lab.catalog.all(ALL):
        service = instance.service
        names.apply(Entry(revision=1, kind="service", id=service.id, service=service))
    parts = lab.consul.parts
    return QueryDns(names, lab.table, Instances(parts, Health(parts)), "consul")


async def create(lab: Lab, **asked: Any) -> None:
    count = len(lab.table.look())
    answer = await lab.call("POST", "/v1/query", json.dumps(asked))
    assert answer.status == 200
    await until(lambda: len(lab.table.look()) == count + 1)


def found(answer: Answer | None) -> set[str]:
    assert answer is not None
    return {record.data for record in answer.records}


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("q.query.consul", "q"),
        ("q.query.dc1.consul", "q"),
        ("q.query.dc1.dc.consul", "q"),
        ("a.b.query.consul", "a.b"),
        ("_q._tcp.query.consul", "q"),
        ("__._tcp.query.consul", "_"),
        ("query.query.consul", "query"),
        ("query.consul", None),
        ("consul", None),
        ("q.query.dc2.consul", None),
        ("q.service.consul", None),
        ("q.query.example", None),
        ("queryconsul", None),
    ],
)
def test_names(name: str, asked: str | None) -> None:
    assert query_in(name, "consul") == asked


async def test_what_a_query_finds(lab: Lab) -> None:
    lab.put_entries(
        web("1", address="192.0.2.11", tags=("a",)),
        web("2", address="192.0.2.12", tags=("a", "b")),
        web("3", address="192.0.2.13", tags=("a",), status="critical"),
    )
    await create(lab, Name="q", Service={"Service": "web", "Tags": ["a", "!b"]}, DNS={"TTL": "7s"})
    names = dns(lab)
    answer = names.look_up("q.query.consul", "A", ALL)
    assert answer is not None
    assert [(each.data, each.ttl_s) for each in answer.records] == [("192.0.2.11", 7)]
    assert {TOPIC, "s/web"} <= set(answer.topics)
    places = names.look_up("_q._tcp.query.consul", "SRV", ALL)
    assert places is not None
    assert [each.data.split()[2] for each in places.records] == ["80"]
    empty = names.look_up("q.query.consul", "AAAA", ALL)
    assert empty is not None
    assert (empty.rcode, empty.records) == ("NOERROR", ())
    missing = names.look_up("r.query.consul", "A", ALL)
    assert missing is not None
    assert (missing.rcode, missing.topics) == ("NXDOMAIN", ("s/", TOPIC, "s/_node"))
    assert names.look_up("web.service.consul", "A", ALL) is None


async def test_an_answer_depends_on_what_is_to_come(lab: Lab) -> None:
    await create(lab, Name="q", Service={"Service": "Web"})
    answer = dns(lab).look_up("q.query.consul", "A", ALL)
    assert answer is not None
    assert (answer.rcode, "s/web" in answer.topics) == ("NXDOMAIN", True)


async def test_a_template(lab: Lab) -> None:
    lab.put_entries(web("1", address="192.0.2.11"))
    template = {"Type": "name_prefix_match"}
    await create(lab, Name="any-", Service={"Service": "${name.suffix}"}, Template=template)
    await create(lab, Name="mesh", Service={"Service": "web", "Connect": True})
    names = dns(lab)
    assert found(names.look_up("any-web.query.consul", "A", ALL)) == {"192.0.2.11"}
    assert found(names.look_up("any-db.query.consul", "A", ALL)) == set()
    assert found(names.look_up("mesh.query.consul", "A", ALL)) == set()


async def test_a_template_that_takes_too_long_for_a_name_has_none(lab: Lab) -> None:
    lab.put_entries(web("1", address="192.0.2.11"))
    template = {"Type": "name_prefix_match", "Regexp": "^t-(a?){20}(web)$"}
    await create(lab, Name="t-", Service={"Service": "${match(2)}"}, Template=template)
    names = dns(lab)
    assert found(names.look_up("t-aaweb.query.consul", "A", ALL)) == {"192.0.2.11"}
    name = "t-" + "a" * 20 + "web" + "." + "a" * 50 + ".query.consul"
    assert found(names.look_up(name, "A", ALL)) == set()
    long = ".".join(["t-" + "a" * 50, *["a" * 50] * 3])
    assert query_names.find(lab.table.look(), long) is not None  # by HTTP there is more time
    answer = names.look_up(f"{long}.query.consul", "A", ALL)
    assert answer is not None
    assert "s/" in answer.topics  # as of a name that there is not


async def test_what_may_not_be_seen(lab: Lab) -> None:
    lab.put_entries(web("1", address="192.0.2.11", network="blue"))
    await create(lab, Name="q", Service={"Service": "web"})
    names = dns(lab)
    assert found(names.look_up("q.query.consul", "A", Scope(frozenset({"blue"})))) == {"192.0.2.11"}
    assert found(names.look_up("q.query.consul", "A", Scope(frozenset()))) == set()


async def test_who_keeps_answers_is_told(lab: Lab) -> None:
    told: list[int] = []
    lab.table.changed = lambda: told.append(len(lab.table.look()))
    names = dns(lab)
    assert found(names.look_up("q.query.consul", "A", ALL)) == set()
    await until(lab.table.known.is_set)
    await create(lab, Name="q", Service={"Service": "web"})
    assert told == [1]
