"""The engine as a member of a cluster: names, events, conditions, and what it answers."""

import json
from collections.abc import Callable

import msgspec
import pytest

from netd.engine.interfaces import GLOBAL_SCOPE, ProblemChange, Record, RecordChange
from netd.model.errors import Conflict, Invalid, NotFound, Unavailable
from netd.plan.objects import Address
from tests.unit.engine_fixture import NODE_ID, Host
from tests.unit.memory_cluster import MemoryCluster

LOW, HIGH = "1" * 32, "9" * 32  # ids before and after the host's
SECRET = bytes(range(32))


def facts(*addresses: str, **tags: str) -> Record:
    value = {"addresses": addresses, "tags": tags, "version": "1", "a newer netd's": True}
    return Record(table="node", key="", value=json.dumps(value).encode())


async def joined(host: Host, name: str = "node-2", node_id: str = HIGH) -> MemoryCluster:
    """Another member, with the address 192.0.2.20."""
    other = host.mesh.node(name, node_id=node_id)
    other.publish([facts("192.0.2.20", "2001:db8::20", rack="r1")])
    await host.engine.cluster.join([other.address], None)
    return other


def addresses_of(host: Host, name: str, kind: str = "A") -> list[str]:
    resolution = host.engine.resolve(f"{name}.node.netd.internal", kind, None)
    return [record.data for record in resolution.records]


def kinds(host: Host, about: str) -> list[str]:
    return [event.type for event in host.seen if event.object == about]


def codes(host: Host) -> list[str]:
    return [condition.code for condition in host.engine.status().conditions]


async def test_a_node_tells_its_addresses_tags_and_version(host: Host) -> None:
    host.settings = msgspec.structs.replace(host.settings, tags={"rack": "r7"})
    await host.restart()
    value = host.cluster.published[GLOBAL_SCOPE, "node", ""]
    assert json.loads(value) == {
        "addresses": ["192.0.2.10"],
        "tags": {"rack": "r7"},
        "version": "1",
    }
    assert host.engine.cluster.members()[0].tags == {"rack": "r7"}


async def test_what_changes_on_the_host_is_told_again_and_only_then(host: Host) -> None:
    told: list[RecordChange] = []

    def listen(change: object) -> None:
        if isinstance(change, RecordChange) and change.value is not None:
            told.append(change)

    host.cluster.watch(listen)
    told.clear()
    await host.engine.reconcile()
    assert told == []
    host.kernel.by_hand.put(Address(link="eth0", address="192.0.2.11/24"))
    await host.engine.reconcile()
    assert json.loads(told.pop().value or b"")["addresses"] == ["192.0.2.10", "192.0.2.11"]
    assert told == []
    await host.engine.configure(msgspec.structs.replace(host.settings, tags={"rack": "r8"}))
    assert json.loads(told[-1].value or b"")["tags"] == {"rack": "r8"}
    assert host.engine.cluster.members()[0].tags == {"rack": "r8"}


async def test_a_member_that_joins_has_a_name_tags_and_an_event(host: Host) -> None:
    other = await joined(host)
    assert addresses_of(host, "node-2") == ["192.0.2.20"]
    assert addresses_of(host, "node-2", "AAAA") == ["2001:db8::20"]
    assert host.engine.resolve("192.0.2.20", "PTR", None).records[0].data == (
        "node-2.node.netd.internal."
    )
    member = host.engine.cluster.members()[1]
    assert (member.name, member.tags, member.address) == ("node-2", {"rack": "r1"}, other.address)
    assert host.engine.status().members == 2
    event = await host.happened("member.joined", about=other.id)
    assert (event.name, event.data) == ("node-2", {"address": other.address})


async def test_the_life_of_a_member_is_told_and_its_name_follows(host: Host) -> None:
    other = await joined(host)
    other.becomes("suspect")
    assert addresses_of(host, "node-2") == ["192.0.2.20"]
    other.becomes("dead")
    assert addresses_of(host, "node-2") == []
    assert host.engine.status().members == 1
    other.becomes("alive")
    assert addresses_of(host, "node-2") == ["192.0.2.20"]
    other.moves("10.0.0.99:7940")
    await other.leave()
    assert addresses_of(host, "node-2") == []
    await host.happened("member.left", about=other.id)
    assert kinds(host, other.id) == [
        "member.joined",
        "member.suspect",
        "member.dead",
        "member.alive",
        "member.moved",
        "member.left",
    ]
    moved = await host.happened("member.moved")
    assert (moved.detail, moved.data["address"]) == ("was at 10.0.0.2:7940", "10.0.0.99:7940")
    host.forget_events()
    await host.engine.cluster.join([other.address], None)
    await host.happened("member.joined", about=other.id)
    assert addresses_of(host, "node-2") == ["192.0.2.20"]


async def test_who_was_there_before_the_daemon_is_no_news(host: Host) -> None:
    await joined(host)
    membership = host.engine.cluster
    membership.stop()
    host.forget_events()
    membership.start()
    assert addresses_of(host, "node-2") == ["192.0.2.20"]
    await host.engine.reconcile()
    assert [event for event in host.seen if event.type.startswith("member.")] == []


async def test_leaving_takes_the_names_of_the_others_along(host: Host) -> None:
    other = await joined(host)
    await host.engine.cluster.leave()
    assert addresses_of(host, "node-2") == []
    assert addresses_of(host, "node-1") == ["192.0.2.10"]
    assert [member.id for member in host.engine.cluster.members()] == [NODE_ID]
    left = await host.happened("member.left")
    assert (left.object, left.name) == (NODE_ID, "node-1")
    await host.engine.cluster.leave()
    assert [event.object for event in host.seen if event.type == "member.left"] == [NODE_ID]
    assert other.members()[0].id == other.id


async def test_stopping_is_not_leaving(host: Host) -> None:
    other = await joined(host)
    await host.stop()
    assert [member.state for member in other.members()] == ["alive", "dead"]


async def test_a_name_claimed_twice_goes_to_the_lowest_id_and_both_are_named(host: Host) -> None:
    other = await joined(host, node_id=HIGH)
    third = host.mesh.node("NODE-2", node_id=LOW)
    third.publish([facts("192.0.2.30")])
    await host.engine.cluster.join([third.address], None)
    assert addresses_of(host, "node-2") == ["192.0.2.30"]
    (condition,) = host.engine.status().conditions
    assert condition.code == "cluster-duplicate-name"
    assert condition.detail == (
        f"{LOW} at {third.address} and {HIGH} at {other.address} are both called node-2; "
        f"node-2.node.netd.internal leads to {LOW}"
    )
    assert "node.name" in condition.remedy
    third.is_called("node-3")
    assert addresses_of(host, "node-2") == ["192.0.2.20"]
    assert addresses_of(host, "node-3") == ["192.0.2.30"]
    assert codes(host) == []


@pytest.mark.parametrize(("node_id", "leads_to"), [(LOW, "192.0.2.20"), (HIGH, "192.0.2.10")])
async def test_the_hosts_own_name_can_be_another_ones(
    host: Host, node_id: str, leads_to: str
) -> None:
    other = await joined(host, "node-1", node_id)
    assert addresses_of(host, "node-1") == [leads_to]
    assert codes(host) == ["cluster-duplicate-name"]
    other.becomes("dead")
    assert addresses_of(host, "node-1") == ["192.0.2.10"]
    assert codes(host) == []


async def test_a_problem_is_a_condition_of_the_host_and_of_the_member(host: Host) -> None:
    other = await joined(host)
    problem = ProblemChange(code="cloned-identity", about=other.id, detail="it runs twice")
    host.cluster.finds(problem)
    (condition,) = host.engine.status().conditions
    assert (condition.code, condition.severity) == ("cluster-cloned-identity", "error")
    assert condition.detail == "it runs twice"
    assert "identity.key" in condition.remedy
    assert [c.code for c in host.engine.cluster.members()[1].conditions] == [condition.code]
    host.cluster.finds(msgspec.structs.replace(problem, detail=""))
    assert codes(host) == []
    assert host.engine.cluster.members()[1].conditions == ()
    assert [kind for kind in kinds(host, other.id) if kind.startswith("cluster.")] == []
    await host.happened("cluster.solved", "cloned-identity", about=other.id)
    await host.happened("cluster.problem", "cloned-identity: it runs twice", about=other.id)


async def test_many_problems_of_a_kind_are_one_condition(host: Host) -> None:
    for number in range(9):
        about = f"{number:032x}"
        host.cluster.finds(ProblemChange(code="protocol-version", about=about, detail=about[-1]))
    (condition,) = host.engine.status().conditions
    assert condition.detail == "0; 1; 2; 3; 4; and 4 more"


MALFORMED: dict[str, bytes] = {
    "not JSON": b"\xff\x00",
    "no object": b"[1]",
    "empty": b"",
    "wrong types": b'{"addresses": "10.0.0.1"}',
    "no address": b'{"addresses": ["web-1"]}',
    "zone index": b'{"addresses": ["fe80::1%eth0"]}',
    "too many": json.dumps({"addresses": ["10.0.0.1"] * 65}).encode(),
    "long tag": json.dumps({"tags": {"a": "b" * 2000}}).encode(),
    "deep": b'{"x":' + b"[" * 60_000,
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED.keys())
async def test_records_that_no_netd_writes_are_ignored_and_counted(
    host: Host, value: bytes
) -> None:
    other = await joined(host)
    other.publish([Record(table="node", key="", value=value)])
    assert addresses_of(host, "node-2") == []
    assert host.engine.counters()["cluster_records_ignored"] == 1
    other.publish([facts("192.0.2.21")])
    assert addresses_of(host, "node-2") == ["192.0.2.21"]


@pytest.mark.parametrize("name", ["", "a.b", "-a", "x" * 64, "a\nb", "é"])
async def test_a_member_whose_name_is_no_label_has_none(host: Host, name: str) -> None:
    await joined(host, name)
    names = [change.record.name async for change in host.engine.names(False) if change.record]
    assert {name for name in names if not name.endswith(".arpa")} == {"node-1.node.netd.internal"}


async def test_a_record_of_somebody_unknown_waits_for_its_owner(host: Host) -> None:
    record = facts("192.0.2.40")
    owner = host.mesh.node("node-4", node_id=LOW)
    change = RecordChange(owner=LOW, scope=GLOBAL_SCOPE, table="node", key="", value=record.value)
    host.cluster.tell(change)
    assert addresses_of(host, "node-4") == []
    await host.engine.cluster.join([owner.address], None)
    assert addresses_of(host, "node-4") == ["192.0.2.40"]


async def test_joining_tells_what_became_of_each_address(host: Host) -> None:
    other = host.mesh.node("node-2")
    made = await host.engine.cluster.join([other.address, "10.9.9.9"], None)
    assert [(result.address, result.error) for result in made.results] == [
        (other.address, ""),
        ("10.9.9.9:7940", "no answer within 5 s"),
    ]
    assert [member.name for member in made.members] == ["node-1", "node-2"]
    with pytest.raises(Unavailable, match=r"nobody answered: 10\.9\.9\.9:7940: no answer"):
        await host.engine.cluster.join(["10.9.9.9"], None)
    with pytest.raises(Invalid, match="at least one address"):
        await host.engine.cluster.join([], None)


async def test_a_token_lets_a_host_without_a_key_in(host: Host) -> None:
    other = host.mesh.node("node-2", SECRET)
    with pytest.raises(Unavailable, match="another key"):
        await host.engine.cluster.join([other.address], None)
    token = await other.issue_token(60, 1)
    await host.engine.cluster.join([], token.token)
    assert host.engine.status().members == 2
    assert host.engine.cluster.keys()[0].holders == ("node-1", "node-2")


async def test_keys_from_installed_to_removed(host: Host) -> None:
    membership = host.engine.cluster
    first, made = await membership.install_key(None)
    assert (made, first.primary) == (True, True)
    text = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="  # of SECRET
    second, made = await membership.install_key(text)
    assert (made, second.primary) == (True, False)
    assert await membership.install_key(text) == (second, False)
    with pytest.raises(Conflict, match="node-1 send with it"):
        await membership.remove_key(first.id)
    assert (await membership.use_key(second.id)).primary
    await membership.remove_key(first.id)
    (left,) = membership.keys()
    assert left.id == second.id
    for refused in ("AAA", "AAAA", "ä"):
        with pytest.raises(Invalid) as caught:
            await membership.install_key(refused)
        assert caught.value.field == "secret"
    with pytest.raises(NotFound):
        await membership.use_key("00000000")
    await host.happened("key.removed", about=first.id)
    assert kinds(host, second.id) == ["key.installed", "key.used"]
    assert all(text not in event.detail for event in host.seen)


async def test_a_token_that_is_given_out_is_an_event_without_the_token(host: Host) -> None:
    await host.engine.cluster.install_key(None)
    token = await host.engine.cluster.issue_token(60, 3)
    event = await host.happened("token.issued")
    assert (event.detail, token.token in repr(event)) == (
        f"uses: 3, until {token.expires_at}",
        False,
    )


async def test_records_are_shown_to_those_who_debug(host: Host) -> None:
    other = await joined(host)
    for node in (other, host.cluster):
        node.subscribe(b"12345678")
    other.publish([Record(table="blob", key="k", value=b"\xff\xfe", scope=b"12345678")])
    records = host.engine.cluster.records(None, None)
    assert [(record.node, record.table, record.encoding) for record in records] == [
        ("node-1", "node", "json"),
        ("node-2", "node", "json"),
        ("node-2", "blob", "base64"),
    ]
    assert records[1].value["tags"] == {"rack": "r1"}
    assert (records[2].value, records[2].scope) == ("//4=", b"12345678".hex())
    wanted: Callable[..., object] = host.engine.cluster.records
    assert wanted("blob", None) == (records[2],)
    assert wanted(None, "node-2") == wanted(None, other.id) == records[1:]
    other.becomes("dead")
    assert wanted(None, "node-2") == ()


async def test_numbers_of_the_cluster_are_numbers_of_the_daemon(host: Host) -> None:
    assert host.engine.counters().keys() >= {"cluster_records_ignored", "cluster_packets_sent"}
    assert host.engine.levels()["cluster_records"] == 1
