"""netctl service expose, unexpose, virtual: what is sent, and what is shown."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netd.cli.virtual import format_port, parse_port
from tests.unit.cli_daemon import CONDITION, Daemon, Netctl, serving

WEB: dict[str, Any] = {
    "id": "web", "addresses": ["10.191.0.9", "fd6e:6574:6400::9"],
    "ports": [{"port": 80, "protocol": "tcp", "target_port": 8080}],
    "affinity": "source", "drain_s": 30.0, "instances": 2,
    "created_at": "2026-01-02T03:04:05Z", "conditions": [],
}  # fmt: skip
DNS = WEB | {
    "id": "dns",
    "addresses": [],
    "ports": [{"port": 53, "protocol": "udp", "target_port": None}],
    "affinity": "none",
    "instances": 0,
    "conditions": [CONDITION],
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


@pytest.fixture
def netctl(daemon: Daemon) -> Netctl:
    return Netctl(daemon.path)


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", {"port": 80, "protocol": "tcp"}),
        ("80:8080", {"port": 80, "protocol": "tcp", "target_port": 8080}),
        ("53/UDP", {"port": 53, "protocol": "udp"}),
        ("1:65535/tcp", {"port": 1, "protocol": "tcp", "target_port": 65535}),
    ],
)
def test_a_port_is_read_and_written(text: str, port: dict[str, Any]) -> None:
    assert parse_port(text) == port
    assert parse_port(format_port(port)) == port


@pytest.mark.parametrize(
    "text", ["", "x", "80:", ":80", "0", "65536", "80:0", "80:70000", "80/sctp", "80-81", "80:1:2"]
)
def test_a_wrong_port_is_refused_before_anything_is_sent(
    daemon: Daemon, netctl: Netctl, text: str
) -> None:
    with pytest.raises(ValueError, match=r"use tcp or udp|out of range|does not have the form"):
        parse_port(text)
    assert netctl("service", "expose", "web", "--port", text).exit_code == 2
    assert daemon.calls == []


def test_what_is_exposed_is_sent_and_its_addresses_are_printed(
    daemon: Daemon, netctl: Netctl
) -> None:
    daemon.on("PUT", "/v1/virtuals/web", WEB, 201)
    shown = netctl(
        "service", "expose", "web", "--port", "80:8080", "--port", "53/udp",
        "--affinity", "source", "--drain", "2m",
    )  # fmt: skip
    assert shown.stdout == "10.191.0.9\nfd6e:6574:6400::9\n"
    assert daemon.calls[0].body == {
        "ports": [
            {"port": 80, "protocol": "tcp", "target_port": 8080},
            {"port": 53, "protocol": "udp"},
        ],
        "affinity": "source",
        "drain_s": 120,
    }
    shown = netctl("service", "expose", "web", "--port", "80", "--drain", "0", "--json")
    assert json.loads(shown.stdout) == WEB
    assert daemon.calls[1].body == {"ports": [{"port": 80, "protocol": "tcp"}], "drain_s": 0}


def test_a_port_has_to_be_given(daemon: Daemon, netctl: Netctl) -> None:
    assert netctl("service", "expose", "web").exit_code == 2
    assert daemon.calls == []


def test_several_are_unexposed(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("DELETE", "/v1/virtuals/web", status=204)
    daemon.on("DELETE", "/v1/virtuals/dns", status=204)
    assert netctl("service", "unexpose", "web", "dns").exit_code == 0
    assert [call.target for call in daemon.calls] == ["/v1/virtuals/web", "/v1/virtuals/dns"]


def test_virtual_addresses_are_listed_by_name(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/virtuals", [WEB, DNS])
    code = CONDITION["code"]
    assert netctl("service", "virtual", "ls").stdout == (
        f"SERVICE  ADDRESSES                     PORTS        AFFINITY  INSTANCES  CONDITIONS\n"
        f"dns      -                             53/udp       none      0          {code}\n"
        f"web      10.191.0.9,fd6e:6574:6400::9  80:8080/tcp  source    2          -\n"
    )
    assert netctl("service", "virtual", "ls", "-q").stdout == "dns\nweb\n"
    assert json.loads(netctl("service", "virtual", "ls", "--json").stdout) == [WEB, DNS]


def test_one_is_shown_with_its_conditions(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/virtuals/web", WEB | {"conditions": [CONDITION]})
    shown = netctl("service", "virtual", "inspect", "web").stdout
    assert "ports       80:8080/tcp\n" in shown
    assert CONDITION["detail"] in shown
    assert netctl("service", "virtual", "inspect", "nothing").exit_code == 3
