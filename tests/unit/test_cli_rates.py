"""The notation of rates, and of key=value pairs."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.cli.pairs import parse_labels, parse_options
from netd.cli.rates import format_rate, parse_rate


@pytest.mark.parametrize(
    ("text", "rate_bps"),
    [
        ("8000", 8_000),
        ("8000bit", 8_000),
        ("500kbit", 500_000),
        ("10mbit", 10_000_000),
        ("10Mbit", 10_000_000),
        ("1.5gbit", 1_500_000_000),
        ("0.001kbit", 1),
        ("1tbit", 1_000_000_000_000),
    ],
)
def test_rates_are_read(text: str, rate_bps: int) -> None:
    assert parse_rate(text) == rate_bps


@pytest.mark.parametrize(
    ("text", "blame"),
    [
        ("", "is not a rate"),
        ("mbit", "is not a rate"),
        ("-1mbit", "is not a rate"),
        ("1e6", "is not a rate"),
        ("10 mbit", "is not a rate"),
        ("10mbps", "is not a rate"),
        ("10m", "is not a rate"),
        ("10mbit\n", "is not a rate"),
        ("1.5bit", "not a whole number of bits"),
        ("0.0001kbit", "not a whole number of bits"),
    ],
)
def test_what_is_no_rate_is_refused(text: str, blame: str) -> None:
    with pytest.raises(ValueError, match=re.escape(blame)):
        parse_rate(text)


@given(st.integers(0, 10**13))
def test_a_written_rate_is_read_back_exactly(rate_bps: int) -> None:
    assert parse_rate(format_rate(rate_bps)) == rate_bps


@given(st.text())
def test_any_text_is_a_rate_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_rate(text) >= 0


def test_rates_are_written_in_the_unit_people_use() -> None:
    assert [format_rate(rate) for rate in (8_000, 10_000_000, 1_500_000_000, 12_345)] == [
        "8kbit",
        "10mbit",
        "1500mbit",
        "12345bit",
    ]


def test_a_label_may_hold_anything_after_the_first_equals() -> None:
    assert parse_labels(["a=b=c", "d=", "e=true"]) == {"a": "b=c", "d": "", "e": "true"}


@pytest.mark.parametrize("pair", ["", "a", "=b"])
def test_a_pair_needs_a_key_and_equals(pair: str) -> None:
    with pytest.raises(ValueError, match="not of the form KEY=VALUE"):
        parse_labels([pair])


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' is given twice"):
        parse_labels(["a=1", "a=2"])


def test_options_are_typed_only_when_nothing_is_lost() -> None:
    pairs = ["a=true", "b=false", "c=-12", "d=007", "e=-0", "f=True", "g=0", "h=1.5", "i=٣"]
    assert parse_options(pairs) == {
        "a": True,
        "b": False,
        "c": -12,
        "d": "007",
        "e": "-0",
        "f": "True",
        "g": 0,
        "h": "1.5",
        "i": "٣",
    }
