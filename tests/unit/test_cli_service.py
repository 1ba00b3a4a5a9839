"""netctl service: what is shown of instances, and what is sent to change them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netd.cli.checks import parse_check
from tests.unit.cli_daemon import CONDITION, Daemon, Netctl, serving

CHECK: dict[str, Any] = {
    "id": "http", "name": "http", "kind": "http", "status": "passing", "output": "200 OK",
    "notes": "", "since": "2026-01-02T03:04:05Z", "spec": None,
}  # fmt: skip
WEB: dict[str, Any] = {
    "id": "web-1", "name": "web", "node": "host-1", "address": "10.20.0.2", "port": 80,
    "tags": ["v1", "eu"], "meta": {"shard": "3"}, "weights": {"passing": 1, "warning": 1},
    "checks": [CHECK], "endpoint": "", "network": "blue", "status": "passing", "pid": None,
    "created_at": "2026-01-02T03:04:05Z", "conditions": [],
}  # fmt: skip
API = WEB | {"id": "api-1", "name": "api", "port": 0, "tags": [], "network": "", "checks": []}
TTL = CHECK | {"id": "beat", "kind": "ttl"}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


@pytest.fixture
def netctl(daemon: Daemon) -> Netctl:
    return Netctl(daemon.path)


def test_instances_are_listed_by_name(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/services", [WEB, API])
    assert netctl("service", "ls").stdout == (
        "NAME  ID     ADDRESS    PORT  NODE    NETWORK  TAGS   STATUS\n"
        "api   api-1  10.20.0.2  -     host-1  -        -      passing\n"
        "web   web-1  10.20.0.2  80    host-1  blue     v1,eu  passing\n"
    )
    assert netctl("service", "ls", "-q").stdout == "api-1\nweb-1\n"
    assert json.loads(netctl("service", "ls", "--json").stdout) == [WEB, API]


def test_what_is_listed_is_asked_of_the_daemon(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/services", [])
    netctl("service", "ls", "--name", "web", "--node", "h", "--network", "blue", "--passing")
    netctl("service", "ls")
    first, second = (call.target.partition("?")[2] for call in daemon.calls)
    assert sorted(first.split("&")) == ["name=web", "network=blue", "node=h", "passing=1"]
    assert second == ""


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"status": "critical"}, "critical"),
        (
            {"status": "critical", "checks": [CHECK | {"kind": "maintenance"}]},
            "critical,maintenance",
        ),
        ({"conditions": [CONDITION]}, "passing,foreign-drop"),
    ],
)
def test_what_is_wrong_with_an_instance_is_in_its_status(
    daemon: Daemon, netctl: Netctl, change: dict[str, Any], shown: str
) -> None:
    daemon.on("GET", "/v1/services", [WEB | change])
    assert netctl("service", "ls").stdout.splitlines()[1].split()[-1] == shown


def test_an_instance_is_shown_with_its_checks(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/services/web-1", WEB | {"checks": [CHECK, TTL | {"output": ""}]})
    lines = netctl("service", "inspect", "web-1").stdout.splitlines()
    assert "address     10.20.0.2" in lines
    assert "meta        shard=3" in lines
    assert lines[-2:] == [
        "passing http (http) since 2026-01-02T03:04:05Z: 200 OK",
        "passing beat (ttl) since 2026-01-02T03:04:05Z",
    ]
    assert json.loads(netctl("service", "inspect", "web-1", "--json").stdout)["id"] == "web-1"
    missing = netctl("service", "inspect", "web-2")
    assert (missing.exit_code, missing.stdout) == (3, "")


def test_nothing_that_a_check_says_steers_the_terminal(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/services/web-1", WEB | {"checks": [CHECK | {"output": "\x1b[2J\n"}]})
    assert "\x1b" not in netctl("service", "inspect", "web-1").stdout


def test_an_id_that_is_left_out_has_the_hosts_name(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/status", {"node": "host-1"})
    daemon.on("PUT", "/v1/services/web-host-1", WEB | {"id": "web-host-1"}, 201)
    result = netctl("service", "register", "web")
    assert result.stdout == "web-host-1\n"
    assert result.stderr == "web at 10.20.0.2:80: passing\n"
    assert daemon.calls[-1].body == {"name": "web"}


def test_all_that_can_be_registered(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("PUT", "/v1/services/web%2F1", WEB)
    result = netctl(
        "service", "register", "web", "--id", "web/1", "--address", "10.20.0.2", "--port", "80",
        "--tag", "v1", "--tag", "eu", "--meta", "shard=3", "--weight", "5", "--endpoint", "e1",
        "--pid", "4711", "--network", "blue", "--check", "http=/health", "--check", "ttl=30s",
        "--interval", "5s", "--timeout", "2", "--deregister-after", "10m", "--json",
    )  # fmt: skip
    assert json.loads(result.stdout) == WEB
    times = {"interval_s": 5, "timeout_s": 2, "deregister_after_s": 600}
    (call,) = daemon.calls
    assert call.body == {
        "name": "web",
        "address": "10.20.0.2",
        "port": 80,
        "tags": ["v1", "eu"],
        "meta": {"shard": "3"},
        "weights": {"passing": 5, "warning": 1},
        "endpoint": "e1",
        "pid": 4711,
        "network": "blue",
        "checks": [
            {"kind": "http", "target": "/health", **times},
            {"kind": "ttl", "ttl_s": 30, **times},
        ],
    }


def test_an_instance_that_takes_no_load(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("PUT", "/v1/services/web-1", WEB)
    netctl("service", "register", "web", "--id", "web-1", "--weight", "0", "--port", "0")
    assert daemon.calls[-1].body["weights"] == {"passing": 0, "warning": 0}


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("http", {"kind": "http"}),
        ("http=https://a.example/?x=1", {"kind": "http", "target": "https://a.example/?x=1"}),
        ("tcp=[fd00::1]:80", {"kind": "tcp", "target": "[fd00::1]:80"}),
        ("grpc=a:1/svc", {"kind": "grpc", "target": "a:1/svc"}),
        ("ttl=1m", {"kind": "ttl", "ttl_s": 60}),
        ("told", {"kind": "told"}),
        ("alias=db-1", {"kind": "alias", "target": "db-1"}),
        ("script=test -f '/a b'", {"kind": "script", "args": ["test", "-f", "/a b"]}),
    ],
)
def test_checks_as_people_write_them(text: str, check: dict[str, Any]) -> None:
    assert parse_check(text) == check


@pytest.mark.parametrize(
    "text",
    ["", "ping", "http=", "ttl", "ttl=", "ttl=soon", "told=x", "alias", "script", "script='a"],
)
def test_what_is_no_check_is_refused_before_anything_is_sent(
    daemon: Daemon, netctl: Netctl, text: str
) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_check(text)
    assert netctl("service", "register", "web", "--check", text).exit_code == 2
    assert daemon.calls == []


def test_another_hosts_id_is_a_conflict(daemon: Daemon, netctl: Netctl) -> None:
    daemon.refuse(
        "PUT", "/v1/services/web-1", 409, "conflict", detail="web-1 is registered on host-2"
    )
    result = netctl("service", "register", "web", "--id", "web-1")
    assert result.exit_code == 4
    assert "host-2" in result.stderr


def test_deregister_goes_on_after_a_failure(daemon: Daemon, netctl: Netctl) -> None:
    for ident in ("web-1", "web-3"):
        daemon.on("GET", f"/v1/services/{ident}", WEB)
        daemon.on("DELETE", f"/v1/services/{ident}", status=204)
    result = netctl("service", "deregister", "web-1", "web-2", "web-3")
    assert (result.exit_code, result.stdout) == (3, "web-1\nweb-3\n")
    assert netctl("service", "deregister").exit_code == 2


def test_maintenance(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("PUT", "/v1/services/web-1/maintenance", WEB)
    assert netctl("service", "maintenance", "web-1", "on", "--reason", "disk").stdout == "web-1\n"
    netctl("service", "maintenance", "web-1", "off")
    assert [call.body for call in daemon.calls] == [
        {"enable": True, "reason": "disk"},
        {"enable": False, "reason": ""},
    ]
    shown = netctl("service", "maintenance", "web-1", "on", "--json").stdout
    assert json.loads(shown) == WEB
    assert netctl("service", "maintenance", "web-1", "off", "--reason", "x").exit_code == 2
    assert netctl("service", "maintenance", "web-1").exit_code == 2


@pytest.mark.parametrize(
    ("verb", "status"), [("pass", "passing"), ("warn", "warning"), ("fail", "critical")]
)
def test_what_a_service_says_of_itself(
    daemon: Daemon, netctl: Netctl, verb: str, status: str
) -> None:
    daemon.on("PUT", "/v1/services/web-1/checks/beat", status=204)
    result = netctl("service", verb, "web-1", "beat", "--output", "so it is")
    assert (result.exit_code, result.stderr) == (0, f"web-1: beat is {status}\n")
    assert daemon.calls[-1].body == {"status": status, "output": "so it is"}


def test_the_only_ttl_check_need_not_be_named(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("PUT", "/v1/services/web-1/checks/beat", status=204)
    daemon.on("GET", "/v1/services/web-1", WEB | {"checks": [CHECK, TTL]})
    assert netctl("service", "pass", "web-1").exit_code == 0
    daemon.on("GET", "/v1/services/web-1", WEB | {"checks": [CHECK, TTL | {"kind": "told"}]})
    assert netctl("service", "pass", "web-1").exit_code == 0
    daemon.on("GET", "/v1/services/web-1", WEB | {"checks": [TTL, TTL | {"id": "other"}]})
    several = netctl("service", "pass", "web-1")
    assert several.exit_code == 2
    assert "beat, other" in several.stderr
    daemon.on("GET", "/v1/services/web-1", WEB)
    assert netctl("service", "pass", "web-1").exit_code == 3
