"""Filter expressions and the regular expressions in them."""

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netd.registry.consul.filters import CHECK, HEALTH, SERVICE, TERMS_MAX, filtered
from netd.registry.consul.filters import test_of as rule_of
from netd.registry.consul.regexps import STEPS_MAX, BadPattern, Budget, Pattern
from netd.registry.http.call import Failure

ROW: dict[str, Any] = {
    "Node": {"Node": "a", "Meta": {"os": "linux", "rack.row": "7"}},
    "Service": {
        "ID": "w-1.2",
        "Service": "web",
        "Tags": ("v1", "eu"),
        "Address": "10.0.0.1",
        "Port": 80,
        "Meta": {},
        "EnableTagOverride": False,
        "Weights": {"Passing": 2, "Warning": 1},
    },
    "Checks": [{"Status": "passing"}, {"Status": "critical"}],
}


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ("Service.Service == web", True),
        ('Service.Service == "web"', True),
        ("Service.Service == `web`", True),
        ("Service.Service != web", False),
        ("Service.Address == 10.0.0.1", True),
        ("Service.ID == w-1.2", True),
        ("Service.Port == 80", True),
        ("Service.Port == 0x50", True),
        ("Service.Port != 80", False),
        ("Service.Weights.Passing == 2", True),
        ("Service.EnableTagOverride == false", True),
        ("Service.EnableTagOverride != F", False),
        ('"v1" in Service.Tags', True),
        ("v1 in Service.Tags", True),
        ('"v9" in Service.Tags', False),
        ("v9 not in Service.Tags", True),
        ("Service.Tags contains v1", True),
        ("Service.Tags not contains v1", False),
        ("Service.Tags is empty", False),
        ("Service.Tags is not empty", True),
        ("Service.Meta is empty", True),
        ("eb in Service.Service", True),
        ("os in Node.Meta", True),
        ("Node.Meta.os == linux", True),
        ('Node.Meta["os"] == linux', True),
        ('Node.Meta["rack.row"] == 7', True),
        ("Node.Meta.missing == x", False),
        ("Node.Meta.missing != x", True),
        ("Node.Meta.missing is empty", True),
        ("x in Node.Meta.missing", False),
        ("Checks.Status == critical", True),
        ("Checks.Status == warning", False),
        ("Checks.Status != critical", False),
        ("Checks is not empty", True),
        (r"Service.ID matches `^w-\d\.2$`", True),
        ('Service.ID not matches "^x"', True),
        ("not Service.Port == 80", False),
        ("not not Service.Port == 80", True),
        ("(Service.Port == 80)", True),
        ("Service.Port == 1 or Service.Port == 80 and Service.Service == web", True),
        ("(Service.Port == 1 or Service.Port == 80) and Service.Service == no", False),
        ("Service.Port==80 and(Service.Service==web)", True),
        (r'Service.Service == "w\"eb"', False),
    ],
)
def test_expressions(expression: str, matches: bool) -> None:
    assert bool(filtered([ROW], expression, HEALTH)) is matches


@pytest.mark.parametrize(
    "expression",
    [
        "Service",
        "Service.Port",
        "Service.Port ==",
        "Service.Port == 80 and",
        "(Service.Port == 80",
        "Service.Port == 80)",
        "Service.Nothing == 1",
        "Nothing == 1",
        "Service.Port == web",
        "Service.Port matches 8",
        "Service.Port is empty",
        "Service.EnableTagOverride == perhaps",
        "Service.Service.More == 1",
        "Service.Tags == v1",
        "Service is nothing",
        "1 in 2",
        '"unfinished',
        "Service.Service matches `(`",
        "Service.Service matches `(a)\\1`",
        "Service.Service matches `(?=a)`",
        "Service.Port == 80 Service.Port == 80",
        "not " * 100 + "Service.Port == 80",
        "(" * 1000 + "Service.Port == 80" + ")" * 1000,
        "x" * 9000,
        "§ == 1",
    ],
)
def test_what_is_no_expression_is_refused_also_without_rows(expression: str) -> None:
    with pytest.raises(Failure) as caught:
        filtered([], expression, HEALTH)
    assert caught.value.status == 400


@given(st.text(alphabet='Servic.Port=!()[]"`0 andotismp\\', max_size=60))
@example("")
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        filtered([ROW["Service"]], text, SERVICE)
    except Failure as failure:
        assert failure.status == 400  # noqa: PT017


PATTERNS = (
    "a+b",
    "^a$",
    "(a|b)*c",
    "a{2,3}$",
    "(?i)AB",
    r"\bab\b",
    "[^a-c]",
    "a?b?c?",
    "(a*)*",
    r"\d\D\s\S\w\W",
    "a|",
    "(?:ab)+?",
    "^$",
    "(?s)a.b",
    "(?m)^b$",
    "[ab-]",
    "a{0}b",
    r"\Bb",
    "(?i)[A-B]+",
)


@pytest.mark.parametrize("pattern", ["", *PATTERNS])
@pytest.mark.parametrize(
    "text", ["", "a", "ab", "abab", "xaab", "c", "AB", "a b", "a\nb", "1a _b.", "aaa", "-"]
)
def test_patterns_mean_what_they_mean_elsewhere(pattern: str, text: str) -> None:
    assert Pattern(pattern).is_in(text) == bool(re.search(pattern, text, re.ASCII))


@given(st.text(alphabet="ab(|)*+?[^]{1,2}.$", max_size=12), st.text(alphabet="ab", max_size=8))
def test_any_pattern_is_refused_or_means_the_same(pattern: str, text: str) -> None:
    try:
        found = Pattern(pattern).is_in(text)
    except BadPattern:
        return
    assert found == bool(re.search(pattern, text))


def test_no_pattern_takes_for_ever() -> None:
    assert not Pattern("(a*)*b").is_in("a" * 4096)  # Python's own would take longer than there is
    with pytest.raises(BadPattern):
        Pattern("(a{100}){100}")
    pattern = Pattern("(x+x+)+y", Budget(10_000))
    with pytest.raises(BadPattern):
        all(pattern.is_in("x" * 1000) is False for _ in range(100))


def test_patterns_of_one_call_share_what_they_may_take() -> None:
    budget = Budget(50_000)
    patterns = [Pattern("(a?){20}b", budget) for _ in range(2)]
    assert not patterns[0].is_in("a" * 300)
    with pytest.raises(BadPattern):
        [pattern.is_in("a" * 300) for pattern in patterns for _ in range(2)]
    with pytest.raises(BadPattern):
        Pattern("a{900}", Budget(100))


def test_a_filter_has_one_budget_however_many_terms_and_rows() -> None:
    """Two terms each of which would be within it, on a row each of which would be, too."""
    rows = [{"Output": "a" * 4096, "Name": str(number)} for number in range(2)]
    term = "Output matches `(a?){15}b`"
    assert filtered(rows[:1], term, CHECK) == []
    for expression, some in ((f"{term} or {term}", rows[:1]), (term, rows)):
        with pytest.raises(Failure) as caught:
            filtered(some, expression, CHECK)
        assert caught.value.status == 400
    rows = [{"Output": "", "Name": "x"}] * (STEPS_MAX // 100)
    several = " and ".join(["Name == x"] * 10)
    assert len(filtered(rows, several, CHECK)) == len(rows)
    with pytest.raises(Failure):
        filtered(rows, f"{several} and " * 3 + several, CHECK)


def test_who_tests_rows_one_by_one_is_told_too() -> None:
    test = rule_of("Output matches `(a?){20}b`", CHECK)
    with pytest.raises(Failure) as caught:
        [test({"Output": "a" * 4096}) for _ in range(3)]
    assert caught.value.status == 400


def test_an_expression_has_so_many_terms_at_most() -> None:
    row = {"Name": "x"}
    most = " or ".join(["Name == y"] * (TERMS_MAX - 1) + ["Name == x"])
    assert filtered([row], most, CHECK) == [row]
    with pytest.raises(Failure) as caught:
        filtered([], f"({most}) and not Name == z", CHECK)
    assert caught.value.status == 400
