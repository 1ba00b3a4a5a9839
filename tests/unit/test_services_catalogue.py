"""The catalogue: what is seen of own instances and of others', and who is told."""

import msgspec
import pytest
from msgspec.structs import replace

from netd.engine.interfaces import GLOBAL_SCOPE, Record
from netd.engine.services.catalogue import Catalogue
from netd.engine.services.records import BYTES_MAX, CHECKS_MAX, TABLE, encode, read
from netd.model.condition import Condition
from netd.model.service import Check, CheckSpec, Service
from tests.unit.memory_cluster import MemoryCluster, Mesh

WEB = Service(
    id="web-1",
    name="web",
    node="here",
    address="10.20.0.2",
    port=80,
    tags=("v1",),
    meta={"shard": "3"},
    created_at="2026-01-02T03:04:05.000Z",
)


class Side:
    """A member with a catalogue, and what its follower was told."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster
        self.catalogue = Catalogue(cluster)
        self.catalogue.start()
        self.told: list[tuple[str, Service | None]] = []
        self.stop = self.catalogue.subscribe(lambda *change: self.told.append(change))


async def pair() -> tuple[Side, Side]:
    mesh = Mesh()
    here, there = Side(mesh.node("here")), Side(mesh.node("there"))
    await there.cluster.join([here.cluster.address], None)
    return here, there


async def test_an_instance_is_seen_by_all_with_the_host_that_owns_it() -> None:
    here, there = await pair()
    here.catalogue.put(WEB)
    assert here.catalogue.all() == (WEB,)
    assert there.catalogue.all() == (WEB,)
    assert there.catalogue.named("web") == (WEB,)
    assert there.catalogue.other_holder("web-1") == "here"
    assert here.catalogue.other_holder("web-1") == ""
    here.catalogue.drop("web-1")
    assert there.catalogue.find("web-1") is None
    assert there.catalogue.named("web") == ()
    assert here.told == there.told == [("web-1", WEB), ("web-1", None)]


async def test_who_follows_late_is_told_of_all_there_are() -> None:
    here, there = await pair()
    here.catalogue.put(WEB)
    there.stop()
    here.catalogue.put(replace(WEB, port=81))
    assert there.told == [("web-1", WEB)]
    told: list[object] = []
    there.catalogue.subscribe(lambda *change: told.append(change))
    assert told == [("web-1", replace(WEB, port=81))]


async def test_the_same_again_is_told_to_nobody() -> None:
    here, there = await pair()
    here.catalogue.put(WEB)
    here.catalogue.put(replace(WEB, tags=("v1",)))
    assert len(here.told) == len(there.told) == 1


async def test_an_instance_of_another_name_is_no_longer_found_by_the_old_one() -> None:
    here, there = await pair()
    here.catalogue.put(WEB)
    here.catalogue.put(replace(WEB, name="api"))
    for side in (here, there):
        assert side.catalogue.named("web") == ()
        assert [service.id for service in side.catalogue.named("api")] == ["web-1"]


async def test_what_concerns_the_owner_alone_stays_there() -> None:
    here, there = await pair()
    spec = CheckSpec(kind="http", headers={"Authorization": ("secret",)})
    check = Check(id="http", name="http", kind="http", status="passing", spec=spec)
    wrong = Condition(code="x", severity="warning", detail="y")
    own = replace(WEB, pid=4711, checks=(check,), conditions=(wrong,))
    here.catalogue.put(own)
    assert here.catalogue.find("web-1") == own
    assert there.catalogue.find("web-1") == replace(WEB, checks=(replace(check, spec=None),))
    (record,) = here.cluster.records()
    assert b"secret" not in (record.value or b"")


async def test_instances_of_a_dead_host_are_hidden_until_it_is_back() -> None:
    here, there = await pair()
    here.catalogue.put(WEB)
    here.cluster.becomes("dead")
    assert there.catalogue.all() == ()
    here.cluster.becomes("alive")
    assert there.catalogue.all() == (WEB,)


async def test_a_host_that_is_called_otherwise() -> None:
    here, there = await pair()
    here.catalogue.put(WEB)
    here.cluster.is_called("renamed")
    assert there.catalogue.all() == (replace(WEB, node="renamed"),)


async def test_of_two_with_one_id_all_see_the_one_that_was_registered_first() -> None:
    here, there = await pair()
    later = replace(WEB, node="there", port=81, created_at="2026-01-02T03:04:06.000Z")
    there.catalogue.put(later)
    here.catalogue.put(WEB)
    assert here.catalogue.all() == there.catalogue.all() == (WEB,)
    assert here.catalogue.other_holder("web-1") == "there"
    here.catalogue.drop("web-1")
    assert here.catalogue.all() == there.catalogue.all() == (later,)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        msgspec.json.encode({"id": "web-1"}),
        msgspec.json.encode(replace(WEB, id="web-2")),
        msgspec.json.encode(replace(WEB, name="Web")),
        msgspec.json.encode(replace(WEB, name="")),
        msgspec.json.encode(replace(WEB, address="nowhere")),
        msgspec.json.encode(replace(WEB, address="0.0.0.0")),
        msgspec.json.encode(replace(WEB, address="ff02::1")),
        msgspec.json.encode(replace(WEB, address="fe80::1%eth0")),
        msgspec.json.encode(replace(WEB, port=65_536)),
        msgspec.json.encode(replace(WEB, port=-1)),
        msgspec.json.encode(replace(WEB, tags=("",))),
        msgspec.json.encode(replace(WEB, tags=("t",) * 1000)),
        msgspec.json.encode(replace(WEB, meta={"k": "v" * 1000})),
        msgspec.json.encode(msgspec.to_builtins(WEB) | {"status": "splendid"}),
        msgspec.json.encode(msgspec.to_builtins(WEB) | {"weights": {"passing": -1}}),
        msgspec.json.encode(
            replace(
                WEB,
                checks=(Check(id="c", name="c", kind="tcp", status="passing"),) * (CHECKS_MAX + 1),
            )
        ),
    ],
)
async def test_a_record_that_no_netd_would_write_is_ignored(value: bytes) -> None:
    here, there = await pair()
    here.cluster.publish([Record(table=TABLE, key="web-1", value=value, scope=GLOBAL_SCOPE)])
    assert there.catalogue.all() == ()
    assert there.catalogue.ignored == 1
    here.catalogue.put(WEB)
    assert there.catalogue.all() == (WEB,)


def test_fields_of_a_newer_netd_are_passed_over() -> None:
    newer = msgspec.to_builtins(WEB) | {"region": "north"}
    newer["weights"] |= {"heat": 3}
    newer["checks"] = [
        {"id": "c", "name": "c", "kind": "quic", "status": "passing", "colour": "blue"}
    ]
    found = read("web-1", msgspec.json.encode(newer))
    assert found is not None
    assert found.checks[0].kind == "quic"


def test_a_record_has_room_for_its_value_whatever_checks_have_said() -> None:
    said = Check(id="c", name="c", kind="tcp", status="passing", output="\x01" * 4096)
    service = replace(WEB, checks=(said,) * CHECKS_MAX)
    value = encode(service)
    assert len(value) <= BYTES_MAX
    found = read("web-1", value)
    assert found is not None
    assert [check.output for check in found.checks] == [""] * CHECKS_MAX
    few = encode(replace(service, checks=(said,)))
    assert read("web-1", few) is not None
    assert 500 < msgspec.json.decode(few, type=Service).checks[0].output.count("\x01") < 600
