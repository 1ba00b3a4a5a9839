"""What the cluster agrees on: the same everywhere, whatever was seen first."""

import random

from hypothesis import given
from hypothesis import strategies as st

from netd.gossip.claims import Claim, settle
from netd.gossip.core import Gossip
from netd.gossip.ring import Ring
from netd.gossip.settings import profile
from netd.gossip.values import ClaimSettled, Identity, Output, node_id_of

nodes = st.binary(min_size=16, max_size=16)
claims = st.builds(
    Claim, st.integers(min_value=0, max_value=3), nodes, st.sampled_from([b"a", b"b"])
)


@given(st.lists(st.tuples(nodes, claims), max_size=6), st.randoms())
def test_the_order_in_which_claims_are_seen_does_not_matter(
    found: list[tuple[bytes, Claim]], shuffled: random.Random
) -> None:
    settled = settle(found)
    shuffled.shuffle(found)
    assert settle(found) == settled


@given(st.lists(st.tuples(nodes, claims), min_size=1, max_size=6))
def test_the_earliest_claim_holds_and_all_who_differ_are_named(
    found: list[tuple[bytes, Claim]],
) -> None:
    settled = settle(found)
    assert settled is not None
    assert settled.claim.stamp == min(claim.stamp for _, claim in found)
    named = [node for node, claim in found if claim.body != settled.claim.body]
    assert sorted(settled.rivals) == sorted(named)


def test_without_claims_nothing_holds() -> None:
    assert settle([]) is None


def _core(number: int, wall_s: float) -> Gossip:
    public_key = bytes([number]) * 32
    identity = Identity(
        id=node_id_of(public_key),
        public_key=public_key,
        sign=lambda _message: bytes(64),
        epoch=1,
        name=f"host-{number}",
        address=(f"192.0.2.{number}", 7940),
    )
    return Gossip(
        identity,
        profile("lan"),
        Ring.first(bytes(32)),
        cluster_id=b"cluster1",
        verify=lambda _key, _message, _signature: True,
        random=random.Random(number),
        now_s=0.0,
        wall_s=wall_s,
    )


def _join(one: Gossip, other: Gossip) -> None:
    """Carry calls and packets between two cores until both are silent."""
    one.join([next(iter(other.members())).address], 0.0)
    while _carry(one, other) or _carry(other, one):
        pass


def _carry(one: Gossip, other: Gossip) -> bool:
    output: Output = one.take()
    source = next(iter(one.members())).address
    for datagram in output.datagrams:
        other.receive(datagram.data, source, 0.0)
    for call in output.calls:
        one.complete(call.number, other.serve(call.request, one.id, 0.0), 0.0)
    _events.extend(event for event in output.events if isinstance(event, ClaimSettled))
    return bool(output.datagrams or output.calls)


_events: list[ClaimSettled] = []


def test_two_nodes_that_claimed_apart_agree_when_they_meet() -> None:
    early, late = _core(1, wall_s=1_000.0), _core(2, wall_s=2_000.0)
    late.claim("network", "blue", b"late", 0.0)
    early.claim("network", "blue", b"early", 0.0)
    _events.clear()
    _join(early, late)
    for core in (early, late):
        settled = core.settled("network", "blue")
        assert settled is not None
        assert settled.claim.body == b"early"
        assert settled.rivals == (late.id,)
    assert [event.body for event in _events if event.rivals] == [b"early", b"early"]


def test_a_claim_stays_with_those_who_support_it() -> None:
    author, user = _core(1, wall_s=1_000.0), _core(2, wall_s=1_000.0)
    author.claim("network", "blue", b"spec", 0.0)
    _join(user, author)
    assert user.support("network", "blue", 0.0)
    author.claim("network", "blue", None, 0.0)
    while _carry(author, user) or _carry(user, author):
        pass
    settled = user.settled("network", "blue")
    assert settled is not None
    assert settled.claim == Claim(1_000_000, author.id, b"spec")
    assert settled.rivals == ()


def test_a_later_claim_here_is_later_than_what_was_seen() -> None:
    ahead, behind = _core(1, wall_s=9_000.0), _core(2, wall_s=1_000.0)
    ahead.claim("network", "blue", b"first", 0.0)
    _join(behind, ahead)
    behind.claim("network", "blue", b"second", 0.0)
    settled = behind.settled("network", "blue")
    assert settled is not None
    assert settled.claim.body == b"first"
    assert settled.rivals == (behind.id,)


def test_what_nobody_claims_cannot_be_supported() -> None:
    assert not _core(1, wall_s=0.0).support("network", "blue", 0.0)
