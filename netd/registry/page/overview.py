"""Sections on this host as a whole: at a glance, what is wrong, drift, checks of the host."""

from collections import Counter
from collections.abc import Iterator

from netd.model.condition import Condition
from netd.model.views import Finding, PlannedOperation
from netd.registry.page.html import NONE, NOTHING, Content, Markup, element, listed
from netd.registry.page.parts import (
    code,
    definitions,
    level,
    long,
    moment,
    pick,
    quiet,
    section,
    sift,
    table,
    unknown,
)
from netd.registry.page.view import View

_ORDER = {"error": 0, "warning": 1, "info": 2}
Wrong = tuple[str, str, Condition]  # a kind of thing, its name, what is wrong with it


def overview(view: View) -> Markup:
    status, held = view.facts.status, view.holdings
    tiles: list[tuple[str, Content]] = []
    if view.facts.members is not None:
        states = Counter(member.state for member in view.facts.members)
        alive = states["alive"] + states["suspect"]
        tiles.append(("hosts alive", f"{alive} of {len(view.facts.members)}"))
    networks = view.facts.networks
    tiles += [
        ("networks", len(held.networks) if networks is None else len(networks)),
        ("endpoints", f"{len(held.endpoints):,}"),
        ("service instances", f"{len(held.services):,}"),
        ("instances not passing", _tally(len(held.services) - held.by_status["passing"])),
    ]
    if status is not None:
        tiles += [("drift", _tally(status.drift)), ("conditions", _tally(_count_wrong(view)))]
    if view.facts.findings is not None:
        bad = sum(finding.level != "ok" for finding in view.facts.findings)
        tiles.append(("checks of the host", _tally(bad)))
    about: Markup = NOTHING
    if status is not None:
        ready = level("ready") if status.ready else level("degraded")
        about = element(
            "p",
            {"class": "about"},
            ready,
            " · ",
            f"netd {status.version}",
            f" · Linux {status.kernel}" if status.kernel else "",
            " · since ",
            moment(status.started_at),
        )
    return section("overview", "At a glance", *_notices(view), definitions(tiles), about)


def conditions(view: View) -> Markup:
    found = sorted(_wrongs(view), key=lambda each: (_ORDER.get(each[2].severity, 3), each[:2]))
    if not found and view.facts.status is None:
        return section("conditions", "Conditions", unknown())
    if not found:
        return section("conditions", "Conditions", quiet("Nothing is known to be wrong."), count=0)

    def make(wrong: Wrong) -> tuple[Content, ...]:
        kind, name, condition = wrong
        what = f"{kind} {name}".strip()
        severity = level(condition.severity)
        return (
            what,
            severity,
            code(condition.code),
            long(condition.detail),
            long(condition.remedy or NONE),
            moment(condition.since),
        )

    def values(wrong: Wrong) -> Iterator[str]:
        yield from (*wrong[:2], wrong[2].code, wrong[2].severity, wrong[2].detail)

    heads = ("What", "Severity", "Code", "Seen", "What to do", "Since")
    rows = sift(found, "conditions", view.query, values, make)
    shown = table("conditions", "What is not as it should be", heads, rows, view.query)
    return section("conditions", "Conditions", shown, count=len(found))


def drift(view: View) -> Markup:
    """What the kernel has otherwise than it should, as the last look at it has found."""
    status, plan = view.facts.status, view.facts.plan
    if status is None:
        return section("drift", "Drift", unknown())
    if not status.drift:
        clean = quiet("The kernel has what it should have.")
        return section("drift", "Drift", clean, count=0)
    if not plan:
        text = quiet("The last look at the kernel found operations to be needed.")
        return section("drift", "Drift", text, count=status.drift)

    def make(operation: PlannedOperation) -> tuple[Content, ...]:
        return (
            f"{operation.verb} {operation.object}",
            operation.reason,
            operation.owner,
            operation.ns or "host",
            operation.error or NONE,
        )

    heads = ("Operation", "Reason", "Owner", "Where", "Error")
    shown = table("drift", "Operations that are needed", heads, pick(plan, 0, make), view.query)
    return section("drift", "Drift", shown, count=status.drift)


def checks(view: View) -> Markup:
    """Those of `netctl doctor`; what is well is counted only."""
    findings = view.facts.findings
    title = "Checks of the host"
    if findings is None:
        return section("checks", title, unknown())
    bad = [finding for finding in findings if finding.level != "ok"]
    good = len(findings) - len(bad)
    if not bad:
        return section("checks", title, quiet(f"All {good} find what they should."), count=0)

    def make(finding: Finding) -> tuple[Content, ...]:
        remedy = long(code(finding.remedy))
        return finding.check, level(finding.level), long(finding.detail), remedy

    heads = ("Check", "Level", "Found", "What to do")
    shown = table("checks", "Checks that find something", heads, pick(bad, 0, make), view.query)
    return section("checks", title, shown, quiet(f"{good} more are ok."), count=len(bad))


def _notices(view: View) -> Iterator[Markup]:
    facts = view.facts
    if facts.problem:
        text = f"netd does not answer: {facts.problem}. What is shown is what it said last."
        yield _notice(text)
    elif not view.connected:
        yield _notice("netd tells nothing new just now. What is shown is what it said last.")
    if facts.refused:
        parts = [f"{part} ({why})" for part, why in sorted(facts.refused.items())]
        yield _notice("netd cannot tell: ", listed(parts))
    if facts.status is not None and facts.status.config_error:
        yield _notice(f"The configuration was not reloaded: {facts.status.config_error}")


def _notice(*content: Content) -> Markup:
    return element("p", {"class": "notice"}, level("warning"), ": ", *content)


def _tally(number: int) -> Markup:
    kind = "good" if number == 0 else "fair"
    sign = element("span", {"aria-hidden": "true"}, "●" if number == 0 else "▲")
    return element("span", {"class": f"level {kind}"}, sign, f" {number:,}")


def _count_wrong(view: View) -> int:
    return sum(1 for _ in _wrongs(view))


def _wrongs(view: View) -> Iterator[Wrong]:
    facts = view.facts
    if facts.status is not None:
        yield from (("host", "", condition) for condition in facts.status.conditions)
    for member in facts.members or ():
        yield from (("member", member.name, condition) for condition in member.conditions)
    for network in facts.networks or ():
        yield from (("network", network.name, condition) for condition in network.conditions)
    for endpoint in (facts.endpoints or {}).values():
        yield from (("endpoint", endpoint.name, condition) for condition in endpoint.conditions)
    for service in facts.services or ():
        yield from (("instance", service.id, condition) for condition in service.conditions)
    for virtual in view.holdings.virtuals.values():
        yield from (("virtual address", virtual.id, each) for each in virtual.conditions)
