"""Thresholds: when what single runs find changes what is said."""

from hypothesis import given
from hypothesis import strategies as st

from netd.model.service import CheckResult, CheckSpec, CheckStatus
from netd.registry.checks.verdict import Verdict, judge, told

SEVERITY = {"passing": 0, "warning": 1, "critical": 2}
statuses: st.SearchStrategy[CheckStatus] = st.sampled_from(("passing", "warning", "critical"))
times = st.integers(1, 5)
specs = st.builds(
    CheckSpec,
    kind=st.just("tcp"),
    successes_before_passing=times,
    failures_before_warning=st.none() | times,
    failures_before_critical=times,
)


def course(spec: CheckSpec, begin: CheckStatus, found: list[CheckStatus]) -> list[Verdict]:
    verdicts = [Verdict(status=begin)]
    for status in found:
        verdicts.append(judge(verdicts[-1], spec, status))
    return verdicts


def said(begin: CheckStatus, *found: CheckStatus, **thresholds: int) -> list[str]:
    spec = CheckSpec(kind="tcp", **thresholds)  # type: ignore[arg-type]
    return [verdict.status for verdict in course(spec, begin, list(found))[1:]]


def test_without_thresholds_each_run_counts() -> None:
    assert said("critical", "passing", "critical", "warning", "passing") == [
        *("passing", "critical", "warning", "passing")
    ]


def test_a_failure_too_few_says_nothing_and_a_success_forgets_it() -> None:
    found: tuple[CheckStatus, ...] = ("critical", "critical", "passing", "critical", "critical")
    assert said("passing", *found, failures_before_critical=3) == ["passing"] * 5
    assert said("passing", *found, "critical", failures_before_critical=3)[-1] == "critical"


def test_fewer_failures_give_a_warning_first() -> None:
    said_ = said(
        *("passing", "critical", "critical", "critical", "critical"),
        failures_before_warning=2,
        failures_before_critical=4,
    )
    assert said_ == ["passing", "warning", "warning", "critical"]


def test_a_failing_check_does_not_get_better_by_the_threshold_of_warnings() -> None:
    said_ = said(
        *("critical", "passing", "critical"),
        successes_before_passing=2,
        failures_before_warning=1,
        failures_before_critical=3,
    )
    assert said_ == ["critical", "critical"]


def test_a_warning_takes_back_nothing_of_what_it_takes_to_pass() -> None:
    assert said("critical", "warning", "warning", "passing", successes_before_passing=2) == [
        *("critical", "warning", "warning")
    ]


@given(specs, statuses, st.lists(statuses, max_size=40))
def test_passing_takes_successes_in_a_row_and_critical_failures(
    spec: CheckSpec, begin: CheckStatus, found: list[CheckStatus]
) -> None:
    verdicts = course(spec, begin, found)
    for number in range(1, len(verdicts)):
        before, now = verdicts[number - 1].status, verdicts[number].status
        if now == before:
            continue
        if now == "passing":
            needed = spec.successes_before_passing
            assert found[max(0, number - needed) : number] == ["passing"] * needed
        if now == "critical":
            needed = spec.failures_before_critical
            assert found[max(0, number - needed) : number] == ["critical"] * needed


@given(specs, statuses, st.lists(statuses, max_size=40))
def test_failures_never_better_it_and_successes_never_make_it_worse(
    spec: CheckSpec, begin: CheckStatus, found: list[CheckStatus]
) -> None:
    verdicts = course(spec, begin, found)
    for number, status in enumerate(found):
        before, now = SEVERITY[verdicts[number].status], SEVERITY[verdicts[number + 1].status]
        assert now >= before or status != "critical"
        assert now <= before or status != "passing"


@given(specs, statuses, statuses)
def test_what_lasts_is_said_in_the_end(
    spec: CheckSpec, begin: CheckStatus, lasting: CheckStatus
) -> None:
    assert course(spec, begin, [lasting] * 5)[-1].status == lasting


@given(specs, statuses, st.lists(statuses, min_size=1, max_size=10), st.text(max_size=5000))
def test_what_is_told_is_the_verdict_with_the_output_of_the_run(
    spec: CheckSpec, begin: CheckStatus, found: list[CheckStatus], output: str
) -> None:
    verdict = course(spec, begin, found)[-1]
    result = told(verdict, spec, CheckResult(status=found[-1], output=output[:4096]))
    assert result.status == verdict.status
    assert len(result.output) <= 4096
    if found[-1] == verdict.status:
        assert result.output == output[:4096]


def test_a_failure_that_does_not_count_yet_says_how_many_do() -> None:
    spec = CheckSpec(kind="tcp", failures_before_critical=3)
    verdict = judge(Verdict(status="passing"), spec, "critical")
    found = CheckResult(status="critical", output="connection refused")
    assert told(verdict, spec, found) == CheckResult(
        status="passing", output="connection refused (failure 1 of 3)"
    )
