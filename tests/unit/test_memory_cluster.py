"""The clusters in memory that the engine's tests use: partitions, scopes, claims, questions."""

import pytest

from netd.engine.interfaces import (
    ClaimChange,
    ClusterChange,
    MemberChange,
    Record,
    RecordChange,
)
from netd.model.errors import NotFound, Unavailable
from tests.unit.memory_cluster import MemoryCluster, Mesh

SCOPE = b"network1"


async def pair() -> tuple[Mesh, MemoryCluster, MemoryCluster]:
    mesh = Mesh()
    a, b = mesh.node("a"), mesh.node("b")
    await b.join([a.address], None)
    return mesh, a, b


def watched(node: MemoryCluster) -> list[ClusterChange]:
    """What changes from now on."""
    changes: list[ClusterChange] = []
    node.watch(changes.append)
    changes.clear()
    return changes


def claims(changes: list[ClusterChange]) -> list[tuple[bytes | None, tuple[str, ...]]]:
    return [(c.body, c.rivals) for c in changes if isinstance(c, ClaimChange)]


async def test_a_cut_hides_records_until_it_heals() -> None:
    mesh, a, b = await pair()
    record = Record(table="t", key="k", value=b"1")
    a.publish([record])
    changes = watched(b)
    mesh.cut(a, b)
    mesh.cut(a, b)
    assert [m.state for m in b.members()] == ["alive", "dead"]
    a.publish([Record(table="t", key="k", value=b"2")])
    mesh.heal(a, b)
    states = [c.member.state for c in changes if isinstance(c, MemberChange)]
    assert states == ["dead", "alive"]
    assert [c.value for c in changes if isinstance(c, RecordChange)] == [None, b"2"]


async def test_records_of_a_scope_are_with_those_who_are_in_it() -> None:
    _, a, b = await pair()
    changes = watched(b)
    a.publish([Record(table="t", key="k", value=b"1", scope=SCOPE)])
    a.subscribe(SCOPE)
    assert changes == []
    b.subscribe(SCOPE)
    b.unsubscribe(SCOPE)
    b.subscribe(SCOPE)
    a.unsubscribe(SCOPE)
    told = [c.value for c in changes if isinstance(c, RecordChange)]
    assert told == [b"1", None, b"1", None]
    assert a.records() == ()


async def test_the_earliest_claim_holds_and_rivals_are_named() -> None:
    mesh, a, b = await pair()
    mesh.cut(a, b)
    a.claim("network", "blue", b"first")
    mesh.wall_s += 1
    b.claim("network", "blue", b"second")
    changes = watched(b)
    mesh.heal(a, b)
    (settled,) = [c for c in changes if isinstance(c, ClaimChange)]
    assert (settled.body, settled.origin, settled.rivals) == (b"first", a.id, (b.id,))
    changes.clear()
    b.claim("network", "blue", b"first", stamp_ms=settled.stamp_ms, origin=settled.origin)
    a.withdraw("network", "blue")
    b.withdraw("network", "blue")
    assert claims(changes) == [(b"first", ()), (None, ())]


async def test_a_question_is_answered_by_whom_it_reaches() -> None:
    mesh, a, b = await pair()

    async def answer(asker: str, body: bytes) -> bytes:
        if body == b"cut":
            mesh.cut(a, b)
        if body == b"no":
            raise NotFound("no such thing", field="body")
        return asker.encode() + body

    a.answer("topic", answer)
    assert await b.ask(a.id, "topic", b"!", 1) == b.id.encode() + b"!"
    assert await a.ask(a.id, "topic", b"!", 1) == a.id.encode() + b"!"
    with pytest.raises(NotFound, match="no such thing") as refused:
        await b.ask(a.id, "topic", b"no", 1)
    assert refused.value.field == "body"
    with pytest.raises(Unavailable, match="topic"):
        await a.ask(b.id, "topic", b"", 1)
    with pytest.raises(Unavailable):
        await b.ask(a.id, "topic", b"cut", 1)
    with pytest.raises(Unavailable):
        await b.ask(a.id, "topic", b"", 1)
