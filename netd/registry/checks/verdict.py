"""From what single runs find to what is said of an instance: thresholds against flapping."""

import msgspec

from netd.model.service import CheckResult, CheckSpec, CheckStatus


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a check, and how many runs in a row speak for a change.

    `passes` found it passing, `fair` passing or in need of a warning, `failures` critical.
    """

    status: CheckStatus
    passes: int = 0
    fair: int = 0
    failures: int = 0


def judge(verdict: Verdict, spec: CheckSpec, found: CheckStatus) -> Verdict:
    """The verdict after one more run.

    A failure never makes the status better, a success never worse. What is passing gets a
    warning at once; what is critical needs as many fair runs for that as for passing.
    """
    passes = verdict.passes + 1 if found == "passing" else 0
    fair = verdict.fair + 1 if found != "critical" else 0
    failures = verdict.failures + 1 if found == "critical" else 0
    status = verdict.status
    if found == "critical":
        if failures >= spec.failures_before_critical:
            status = "critical"
        elif status == "passing" and _reaches(failures, spec.failures_before_warning):
            status = "warning"
    elif found == "passing" and passes >= spec.successes_before_passing:
        status = "passing"
    elif found == "warning" and (status == "passing" or fair >= spec.successes_before_passing):
        status = "warning"
    return Verdict(status=status, passes=passes, fair=fair, failures=failures)


def told(verdict: Verdict, spec: CheckSpec, found: CheckResult) -> CheckResult:
    """What to say after a run: its output, with a remark where it is not the verdict yet."""
    if found.status == verdict.status:
        return found
    if found.status == "critical":
        remark = f"failure {verdict.failures} of {spec.failures_before_critical}"
    elif found.status == "passing":
        remark = f"success {verdict.passes} of {spec.successes_before_passing}"
    else:
        remark = f"success {verdict.fair} of {spec.successes_before_passing}"
    room = 4096 - len(remark) - 3
    return CheckResult(status=verdict.status, output=f"{found.output[:room]} ({remark})")


def _reaches(failures: int, threshold: int | None) -> bool:
    return threshold is not None and failures >= threshold
