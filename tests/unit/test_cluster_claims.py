"""Claims that come and go in any order: what is told is what holds, and each change of it once."""

from hypothesis import given
from hypothesis import strategies as st

from netd.cluster.claims import Claims
from netd.engine.interfaces import ClaimChange, RecordChange
from netd.gossip.claims import STAMP_MAX_MS, Claim, decode, encode, settle

NODES = [bytes([number]) * 16 for number in range(4)]
OWN = NODES[0].hex()

values = st.one_of(
    st.none(),
    st.just(b"no claim"),
    st.builds(Claim, st.integers(0, 2), st.sampled_from(NODES), st.sampled_from([b"a", b"b"])).map(
        encode
    ),
)
keys = st.sampled_from(["blue", "red"])


def change(owner: bytes, key: str, value: bytes | None) -> RecordChange:
    return RecordChange(
        owner=owner.hex(), scope=bytes(8), table="claim/network", key=key, value=value
    )


def claim(stamp_ms: int) -> bytes:
    return encode(Claim(stamp_ms, NODES[1], b"a"))


@given(st.lists(st.tuples(st.sampled_from(NODES), keys, values), max_size=30))
def test_what_was_told_is_what_holds(changes: list[tuple[bytes, str, bytes | None]]) -> None:
    claims = Claims(OWN)
    visible: dict[tuple[str, bytes], Claim] = {}
    told: dict[str, ClaimChange] = {}
    for owner, key, value in changes:
        claim = decode(value) if value is not None else None
        if claim is None:
            visible.pop((key, owner), None)
        else:
            visible[key, owner] = claim
        news = claims.put(change(owner, key, value))
        if news is not None:
            assert news.table == "network"
            assert news != told.get(key)
            if news.body is None:
                del told[key]
            else:
                told[key] = news
        settled = settle((node, found) for (name, node), found in visible.items() if name == key)
        assert (settled is None) == (key not in told)
        if settled is not None:
            assert told[key] == ClaimChange(
                table="network",
                key=key,
                body=settled.claim.body,
                stamp_ms=settled.claim.stamp,
                origin=settled.claim.origin.hex(),
                rivals=tuple(node.hex() for node in settled.rivals),
            )
        assert {news.key: news for news in claims.all()} == told
    assert claims.ignored == sum(value == b"no claim" for _, _, value in changes)


@given(st.integers(0, STAMP_MAX_MS), st.integers(0, STAMP_MAX_MS))
def test_a_new_claim_is_later_than_what_was_seen_and_not_before_now(
    seen_ms: int, now_ms: int
) -> None:
    claims = Claims(OWN)
    claims.put(change(NODES[1], "blue", claim(seen_ms)))
    claims.put(change(NODES[1], "blue", None))
    made = decode(claims.record("network", "blue", b"b", None, "", now_ms).value or b"")
    assert made is not None
    assert made.origin == NODES[0]
    assert made.stamp == min(max(now_ms, seen_ms + 1), STAMP_MAX_MS)


def test_a_claim_that_another_made_is_that_claim() -> None:
    record = Claims(OWN).record("network", "blue", b"a", 7, NODES[1].hex(), 1000)
    assert (record.table, record.key, record.value) == ("claim/network", "blue", claim(7))
