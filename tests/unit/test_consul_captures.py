"""What groups of a regular expression have matched."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.registry.consul.captures import groups_of
from netd.registry.consul.regexps import BadPattern, Budget

PATTERNS = [
    "",
    "a",
    "(a)(b)?",
    "a(b|c)*d",
    "(a|ab)(c|bcd)(d*)",
    "(a*?)(a*)",
    "^(.*)-(.*)$",
    "(?i)(A+)",
    "(x{2,3})(x*)",
    "(x{2,3}?)(x*)",
    r"\b(\w+)\b",
    "([^-]+)-([0-9]+)",
    "(?:a|b)+(c)",
    "(a(b(c)))",
    "((a)|(b))*",
    "a.c$",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.text(alphabet="abcdxX-1 ", max_size=12))
def test_as_perl_does(pattern: str, text: str) -> None:
    match = re.search(pattern, text, re.ASCII)
    found = groups_of(pattern, text)
    if match is None:
        assert found == ()
    elif pattern == "((a)|(b))*":
        assert found[0] == match[0]  # what is left of earlier rounds differs
    else:
        assert found == (match[0], *(group or "" for group in match.groups()))


@pytest.mark.parametrize("pattern", ["(", "a**", "(?P<n>a)(?P=n)", "(?=a)", r"\1", "a{500}{500}"])
def test_what_re2_would_not_take(pattern: str) -> None:
    with pytest.raises(BadPattern):
        groups_of(pattern, "a")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(a*)*b"])
def test_it_takes_no_longer_for_those_that_python_never_ends_with(pattern: str) -> None:
    began_s = time.process_time()
    groups_of(pattern, "a" * 400 + "!")
    assert time.process_time() - began_s < 5.0


def test_it_takes_no_more_than_it_may() -> None:
    assert groups_of("^(a+)-(.*)$", "aaa-b", Budget(100)) == ("aaa-b", "aaa", "b")
    with pytest.raises(BadPattern):
        groups_of("(a?){20}b", "a" * 200, Budget(4000))
