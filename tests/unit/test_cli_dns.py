"""`netctl dns`: how a name is answered, and who answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli_daemon import Daemon, Netctl, serving

RECORD = {"name": "web.blue.netd.internal", "type": "A", "ttl_s": 2, "data": "10.20.0.2"}
SRV = {"name": "web", "type": "SRV", "ttl_s": 2, "data": "1 1 80 web.blue.netd.internal."}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


@pytest.fixture
def netctl(daemon: Daemon) -> Netctl:
    return Netctl(daemon.path)


def traced(**more: Any) -> dict[str, Any]:
    return {
        "rcode": "NOERROR",
        "records": [],
        "additional": [],
        "authority": [],
        "networks": ["blue"],
        "steps": [],
        **more,
    }


def test_trace_tells_each_step_and_the_whole_answer(daemon: Daemon, netctl: Netctl) -> None:
    answer = traced(records=[SRV], additional=[RECORD], steps=["one", "two\n\x1b[31m"])
    daemon.on("GET", "/v1/resolve/trace", answer)
    result = netctl("dns", "trace", "web", "--from", "10.20.0.9", "--type", "srv")
    assert result.stdout == (
        " 1  one\n"
        " 2  two\\n\\x1b[31m\n"
        "SECTION     NAME                    TTL  TYPE  DATA\n"
        "answer      web                     2    SRV   1 1 80 web.blue.netd.internal.\n"
        "additional  web.blue.netd.internal  2    A     10.20.0.2\n"
    )
    assert (result.stderr, result.exit_code) == ("web: NOERROR\n", 0)
    assert daemon.calls[0].target == "/v1/resolve/trace?name=web&type=SRV&from=10.20.0.9"
    as_json = netctl("dns", "trace", "web", "--json")
    assert json.loads(as_json.stdout) == answer


def test_trace_of_a_name_that_there_is_not(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/resolve/trace", traced(rcode="NXDOMAIN", steps=["nothing"]))
    result = netctl("dns", "trace", "web")
    assert (result.stdout, result.stderr) == (" 1  nothing\n", "web: NXDOMAIN\n")


def state(**more: Any) -> dict[str, Any]:
    return {
        "wanted": True,
        "connected": True,
        "reported_at": "2026-01-02T03:04:05Z",
        "behind": 0,
        "pid": 4711,
        "listening": ["127.0.0.54:53", "10.20.0.1:53"],
        "problems": {},
        "upstreams": ["192.0.2.53"],
        "counts": [],
        **more,
    }


def test_status_shows_where_names_are_answered(daemon: Daemon, netctl: Netctl) -> None:
    counts = [
        {"name": "dns_answers_total", "labels": {"rcode": "NXDOMAIN"}, "value": 2.0},
        {"name": "dns_answers_total", "labels": {"rcode": "NOERROR"}, "value": 1234567.0},
    ]
    daemon.on("GET", "/v1/registry", state(counts=counts, problems={"[::1]:53": "in use"}))
    result = netctl("dns", "status")
    assert result.stdout == (
        "wanted       yes\n"
        "connected    yes\n"
        "reported_at  2026-01-02T03:04:05Z\n"
        "behind       0\n"
        "pid          4711\n"
        "upstreams    192.0.2.53\n"
        "listening    127.0.0.54:53,10.20.0.1:53\n"
        "warning cannot listen at [::1]:53: in use\n"
        "COUNT              LABELS          VALUE\n"
        "dns_answers_total  rcode=NOERROR   1234567\n"
        "dns_answers_total  rcode=NXDOMAIN  2\n"
    )
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("wanted", "connected", "code"), [(True, False, 1), (False, False, 0), (False, True, 0)]
)
def test_status_fails_where_a_registry_is_missing(
    daemon: Daemon, netctl: Netctl, wanted: bool, connected: bool, code: int
) -> None:
    answer = state(wanted=wanted, connected=connected)
    daemon.on("GET", "/v1/registry", answer)
    assert netctl("dns", "status").exit_code == code
    as_json = netctl("dns", "status", "--json")
    assert (json.loads(as_json.stdout), as_json.exit_code) == (answer, code)
