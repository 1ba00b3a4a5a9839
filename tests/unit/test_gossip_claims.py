"""What the cluster agrees on: the same everywhere, whatever was seen first."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.gossip.claims import BODY_MAX_BYTES, STAMP_MAX_MS, Claim, decode, encode, settle

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


@given(claims)
def test_a_claim_arrives_as_it_was_made(claim: Claim) -> None:
    assert decode(encode(claim)) == claim


@given(st.binary(max_size=100))
def test_bytes_are_a_claim_or_none(value: bytes) -> None:
    claim = decode(value)
    assert claim is None or decode(encode(claim)) == claim


@pytest.mark.parametrize(
    "claim",
    [
        Claim(-1, bytes(16), b""),
        Claim(STAMP_MAX_MS + 1, bytes(16), b""),
        Claim(0, bytes(15), b""),
        Claim(0, bytes(16), bytes(BODY_MAX_BYTES + 1)),
    ],
)
def test_claims_beyond_the_bounds_are_none(claim: Claim) -> None:
    assert decode(encode(claim)) is None
