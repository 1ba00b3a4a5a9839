"""Times as Go writes them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.registry.consul.durations import MAX_S, seconds_of, short_text_of, text_of


@pytest.mark.parametrize(
    ("text", "length_s"),
    [
        ("0", 0),
        ("10s", 10),
        ("1m30s", 90),
        ("100ms", 0.1),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("5.s", 5),
        ("-1s", -1),
        ("+1s", 1),
        ("1h1m1s1ms1us1ns", 3661.001001001),
        ("2µs", 2e-6),
        ("2μs", 2e-6),
        ("1s1s", 2),
    ],
)
def test_what_is_a_duration(text: str, length_s: float) -> None:
    assert seconds_of(text) == pytest.approx(length_s)


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "s", ".s", "1 s", "1d", "1S", "--1s", "-", "1e3s", "٣s", "1s ", "inf", "nan"),
        *("9" * 19 + "h", "1s" * 100, "9" * 1000 + "s"),
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("length_s", "text", "short"),
    [
        (0, "0s", "0s"),
        (1, "1s", "1s"),
        (90, "1m30s", "90s"),
        (3600, "1h0m0s", "3600s"),
        (0.1, "100ms", "0.1s"),
        (1.5, "1.5s", "1.5s"),
        (1e-9, "1ns", "0.000000001s"),
        (1.5e-6, "1.5µs", "0.0000015s"),
        (-90, "-1m30s", "-90s"),
        (86400, "24h0m0s", "86400s"),
    ],
)
def test_texts(length_s: float, text: str, short: str) -> None:
    assert (text_of(length_s), short_text_of(length_s)) == (text, short)


@given(st.integers(min_value=-(10**16), max_value=10**16))
def test_there_and_back(nanoseconds: int) -> None:
    length_s = nanoseconds / 1e9
    assert seconds_of(text_of(length_s)) == pytest.approx(length_s, abs=2e-9, rel=1e-12)


@given(st.text(alphabet="0123456789.-+hmsunµ", max_size=12))
def test_any_text(text: str) -> None:
    with suppress(ValueError):
        assert abs(seconds_of(text)) <= MAX_S
