"""The commands on the daemon as a whole: status, plan, events, names, members, doctor."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netd import __version__
from tests.unit.cli_daemon import CONDITION, Daemon, Netctl, serving

STATUS = {
    "node": "host1",
    "version": "1.2.3",
    "ready": True,
    "members": 1,
    "networks": 3,
    "endpoints": 12,
    "drift": 0,
    "capabilities": ["macvlan", "bridge"],
    "kernel": "6.18.0",
    "boot_id": "b",
    "started_at": "2026-01-02T03:04:05Z",
    "config_error": "",
    "conditions": [],
}
ADD = {
    "verb": "add",
    "object": "address 10.20.0.2/24 dev eth0",
    "ns": "net:[4026531840]",
    "owner": "3f9a1c0de5b72468",
    "reason": "it is missing",
    "error": "",
}
FAILED = ADD | {"verb": "change", "object": "link nd-blue", "ns": "", "error": "not permitted"}
FINDINGS = [
    {"check": "kernel", "level": "ok", "detail": "6.18.0", "remedy": ""},
    {"check": "ip-forward", "level": "warning", "detail": "it is 0", "remedy": "sysctl -w x=1"},
    {"check": "leaks", "level": "error", "detail": "2 links", "remedy": "netctl reconcile"},
]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


@pytest.fixture
def netctl(daemon: Daemon) -> Netctl:
    return Netctl(daemon.path)


def test_status_is_short_when_all_is_well(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/status", STATUS)
    result = netctl("status")
    assert result.stdout == (
        "netd 1.2.3 on host1: ready\n"
        "networks      3\n"
        "endpoints     12\n"
        "members       1\n"
        "drift         none\n"
        "kernel        6.18.0\n"
        "started       2026-01-02T03:04:05Z\n"
        "capabilities  bridge,macvlan\n"
    )
    assert (result.stderr, result.exit_code) == ("", 0)


def test_status_says_what_is_wrong_and_what_to_do(daemon: Daemon, netctl: Netctl) -> None:
    trouble = {"ready": False, "drift": 2, "config_error": "bad key", "conditions": [CONDITION]}
    daemon.on("GET", "/v1/status", STATUS | trouble)
    lines = netctl("status").stdout.splitlines()
    assert lines[0] == "netd 1.2.3 on host1: error: not ready"
    assert "drift         2 operations needed; 'netctl plan' shows what" in lines
    assert "config error  bad key" in lines
    assert lines[-2:] == [
        "warning foreign-drop: chain FORWARD drops (since 2026-01-02T03:04:05Z)",
        "  remedy: iptables -P FORWARD ACCEPT",
    ]


def test_plan_has_one_line_for_each_operation(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/plan", [ADD, FAILED])
    result = netctl("plan")
    assert result.stdout == (
        "add address 10.20.0.2/24 dev eth0 in net:[4026531840]  # it is missing\n"
        "change link nd-blue  # it is missing; failed: not permitted\n"
    )
    assert result.exit_code == 0
    assert netctl("plan", "--exit-code").exit_code == 1
    assert json.loads(netctl("plan", "--json", "--exit-code").stdout) == [ADD, FAILED]


def test_an_empty_plan(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/plan", [])
    result = netctl("plan", "--exit-code")
    assert (result.stdout, result.exit_code) == ("nothing to do\n", 0)
    assert netctl("plan", "--json").stdout == "[]\n"


def report(**parts: Any) -> dict[str, Any]:
    return {"applied": [], "failed": [], "swept": [], "duration_ms": 12.345} | parts


def test_reconcile_shows_what_was_done(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("POST", "/v1/reconcile", report(applied=[ADD], swept=["3f9a1c0de5b72468"]))
    result = netctl("reconcile")
    assert result.stdout == (
        "add address 10.20.0.2/24 dev eth0 in net:[4026531840]  # it is missing\n"
        "sweep endpoint 3f9a1c0de5b72468\n"
    )
    assert result.stderr == "1 applied, 0 failed, 1 swept in 12.3 ms\n"
    assert result.exit_code == 0


def test_reconcile_with_a_failure(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("POST", "/v1/reconcile", report(failed=[FAILED]))
    result = netctl("reconcile")
    assert result.stdout == "change link nd-blue  # it is missing; failed: not permitted\n"
    assert "Error: 1 operation failed\n" in result.stderr
    assert result.exit_code == 1
    as_json = netctl("reconcile", "--json")
    assert (json.loads(as_json.stdout), as_json.exit_code) == (report(failed=[FAILED]), 1)


def test_reconcile_with_nothing_to_do(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("POST", "/v1/reconcile", report())
    assert netctl("reconcile").stdout == "nothing to do\n"


RECORD = {"name": "web.blue.netd.internal", "type": "A", "ttl_s": 5, "data": "10.20.0.2"}


def test_resolve_prints_records(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/resolve", {"rcode": "NOERROR", "records": [RECORD]})
    assert netctl("resolve", "web", "--from", "10.20.0.9").stdout == (
        "NAME                    TTL  TYPE  DATA\nweb.blue.netd.internal  5    A     10.20.0.2\n"
    )
    assert daemon.calls[0].target == "/v1/resolve?name=web&type=A&from=10.20.0.9"
    assert netctl("resolve", "web", "-q", "--type", "aaaa").stdout == "10.20.0.2\n"
    assert daemon.calls[1].target == "/v1/resolve?name=web&type=AAAA"


@pytest.mark.parametrize(
    ("rcode", "code", "told"),
    [
        ("NXDOMAIN", 3, "web has no A record (NXDOMAIN)"),
        ("NOERROR", 3, "web has no A record (NOERROR)"),
        ("REFUSED", 1, "web is in no zone that netd answers for (REFUSED)"),
    ],
)
def test_resolve_without_an_answer(
    daemon: Daemon, netctl: Netctl, rcode: str, code: int, told: str
) -> None:
    answer: dict[str, Any] = {"rcode": rcode, "records": []}
    daemon.on("GET", "/v1/resolve", answer)
    result = netctl("resolve", "web")
    assert (result.stdout, result.stderr) == ("", f"Error: {told}\n")
    assert result.exit_code == code
    as_json = netctl("resolve", "web", "--json")
    assert (json.loads(as_json.stdout), as_json.exit_code) == (answer, code)


def test_resolve_as_a_container_named(daemon: Daemon, netctl: Netctl) -> None:
    addresses: tuple[list[str], ...] = ([], ["10.20.0.9/24", "fd20::9/64"])
    daemon.on("GET", "/v1/endpoints", [{"addresses": one} for one in addresses])
    daemon.on("GET", "/v1/resolve", {"rcode": "NOERROR", "records": [RECORD]})
    assert netctl("resolve", "web", "--from", "db 1", "-q").stdout == "10.20.0.2\n"
    assert [call.target for call in daemon.calls] == [
        "/v1/endpoints?container_id=db%201",
        "/v1/resolve?name=web&type=A&from=10.20.0.9",
    ]


@pytest.mark.parametrize("command", [("resolve",), ("dns", "trace")])
def test_resolve_as_nobody(daemon: Daemon, netctl: Netctl, command: tuple[str, ...]) -> None:
    daemon.on("GET", "/v1/endpoints", [{"addresses": []}])
    result = netctl(*command, "web", "--from", "10.20.0.999")
    told = "Error: --from: '10.20.0.999' is neither an address nor a container with one\n"
    assert (result.stderr, result.exit_code) == (told, 3)


def test_resolve_as_an_address_that_the_daemon_refuses(daemon: Daemon, netctl: Netctl) -> None:
    daemon.refuse("GET", "/v1/resolve", 400, "invalid", detail="no such link", field="from")
    result = netctl("resolve", "web", "--from", "fe80::1%x")
    assert result.stderr.startswith("Error: --from: no such link\n")
    assert result.exit_code == 2


def event(revision: int, **fields: Any) -> dict[str, Any]:
    return {
        "revision": revision,
        "at": "2026-01-02T03:04:05Z",
        "type": "endpoint.attached",
        "object": "3f9a1c0de5b72468",
        "name": "web",
        "detail": "",
        "data": {},
    } | fields


def test_events_are_lines_until_the_daemon_ends_them(daemon: Daemon, netctl: Netctl) -> None:
    drift = event(18, type="drift.repaired", name="", object="host", detail="link nd-blue\nback")
    daemon.stream("/v1/events", [event(17, data={"network": "blue", "n": 2}), drift])
    daemon.held.set()
    result = netctl("events", "--since", "16")
    assert daemon.calls[0].target == "/v1/events?since=16"
    assert result.stdout == (
        "2026-01-02T03:04:05Z 17 endpoint.attached web network=blue n=2\n"
        "2026-01-02T03:04:05Z 18 drift.repaired host link nd-blue\\nback\n"
    )
    assert "Go on with 'netctl events --since 18'." in result.stderr
    assert result.exit_code == 1


def test_events_as_json_are_one_object_a_line(daemon: Daemon, netctl: Netctl) -> None:
    daemon.stream("/v1/events", [event(1), event(2)])
    daemon.held.set()
    lines = netctl("events", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [event(1), event(2)]


def test_doctor_shows_each_check_with_its_remedy(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/doctor", FINDINGS)
    result = netctl("doctor")
    assert result.stdout == (
        "ok       kernel      6.18.0\n"
        "warning  ip-forward  it is 0\n"
        "         remedy: sysctl -w x=1\n"
        "error    leaks       2 links\n"
        "         remedy: netctl reconcile\n"
    )
    assert result.stderr == "3 checks: 1 error, 1 warning\n"
    assert result.exit_code == 1
    as_json = netctl("doctor", "--json")
    assert (json.loads(as_json.stdout), as_json.exit_code) == (FINDINGS, 1)


def test_warnings_alone_do_not_fail_the_doctor(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/doctor", FINDINGS[:2])
    assert netctl("doctor").exit_code == 0


def test_no_daemon_is_a_finding_of_the_doctor(tmp_path: Path) -> None:
    netctl = Netctl(tmp_path / "none.sock")
    result = netctl("doctor")
    assert result.stdout.startswith(f"error    daemon  no netd answers on {netctl.path}\n")
    assert "remedy: Start it with 'systemctl start netd'" in result.stdout
    assert result.exit_code == 5
    as_json = netctl("doctor", "--json")
    assert [finding["check"] for finding in json.loads(as_json.stdout)] == ["daemon"]
    assert as_json.exit_code == 5


def test_the_doctor_fails_like_others_when_it_is_refused(daemon: Daemon, netctl: Netctl) -> None:
    daemon.refuse("GET", "/v1/doctor", 403, "forbidden", detail="user 7 may not read")
    result = netctl("doctor")
    assert result.stderr == (
        "Error: user 7 may not read\nRun netctl as root or as a member of the group netd.\n"
    )
    assert result.exit_code == 1


def test_version_with_and_without_a_daemon(daemon: Daemon, netctl: Netctl, tmp_path: Path) -> None:
    daemon.on("GET", "/v1/status", STATUS)
    assert netctl("version").stdout == f"netctl  {__version__}\nnetd    1.2.3\n"
    alone = Netctl(tmp_path / "none.sock")
    assert alone("version").stdout == f"netctl  {__version__}\nnetd    -\n"
    as_json = alone("version", "--json")
    assert json.loads(as_json.stdout) == {"netctl": __version__, "netd": None}
    assert as_json.exit_code == 0


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (503, "unavailable", "Try again later; 'netctl status' shows the daemon's state.\n"),
        (500, "kernel", "'netctl doctor' checks what the kernel offers.\n"),
        (507, "exhausted", ""),
        (500, "internal", ""),
    ],
)
def test_other_refusals_are_failures(
    daemon: Daemon, netctl: Netctl, status: int, code: str, hint: str
) -> None:
    daemon.refuse("GET", "/v1/networks", status, code, detail="it went wrong\x1b[2J")
    result = netctl("network", "ls")
    assert result.stderr == f"Error: it went wrong\\x1b[2J\n{hint}"
    assert (result.stdout, result.exit_code) == ("", 1)


def test_an_argument_that_is_not_utf8_is_wrong_usage(netctl: Netctl) -> None:
    result = netctl("network", "inspect", "\udcff")
    assert result.stderr == "Error: an argument has bytes that are not UTF-8\n"
    assert result.exit_code == 2
