"""netctl endpoint: attach, change and detach."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli_daemon import ENDPOINT, Daemon, Netctl, serving

ID = str(ENDPOINT["id"])
PATH = f"/v1/endpoints/{ID}"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        daemon.on("GET", PATH, ENDPOINT)
        daemon.on("PATCH", PATH, ENDPOINT)
        daemon.on("POST", "/v1/networks/blue/endpoints", ENDPOINT, status=201)
        yield daemon


@pytest.fixture
def netctl(daemon: Daemon) -> Netctl:
    return Netctl(daemon.path)


def test_ls_is_sorted_by_network_and_name(daemon: Daemon, netctl: Netctl) -> None:
    bare = ENDPOINT | {"id": "0" * 16, "name": "db", "container_id": "c1", "ports": []}
    degraded = bare | {"network": "amber", "addresses": [], "state": "degraded"}
    daemon.on("GET", "/v1/endpoints", [ENDPOINT, bare, degraded])
    lines = netctl("endpoint", "ls").stdout.splitlines()
    c64 = "c" * 64
    assert [line.split() for line in lines] == [
        ["ID", "NAME", "NETWORK", "CONTAINER", "ADDRESSES", "PORTS", "NODE", "STATE"],
        ["0" * 16, "db", "amber", "c1", "-", "-", "host1", "degraded"],
        ["0" * 16, "db", "blue", "c1", "10.20.0.2/24", "-", "host1", "ready"],
        [ID, "web", "blue", c64, "10.20.0.2/24", "8080:80/tcp,[::1]:53-54:53-54/udp", "host1",
         "ready"],
    ]  # fmt: skip
    columns = {line.index("db") for line in lines[1:3]} | {lines[0].index("NAME")}
    assert columns == {lines[3].index("web")}


def test_ls_filters_at_the_daemon(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/endpoints", [ENDPOINT])
    options = ("--network", "blue", "--container", "c1", "--node", "host1")
    assert netctl("endpoint", "ls", "-q", *options).stdout == f"{ID}\n"
    path, _, query = daemon.calls[0].target.partition("?")
    assert path == "/v1/endpoints"
    assert sorted(query.split("&")) == ["container_id=c1", "network=blue", "node=host1"]


def test_inspect(daemon: Daemon, netctl: Netctl) -> None:
    shown = netctl("endpoint", "inspect", ID).stdout
    assert "\nports          8080:80/tcp,[::1]:53-54:53-54/udp\n" in shown
    assert "\nbandwidth      ingress=10mbit\n" in shown
    assert "\ndns            nameservers=10.20.0.1 search=blue.netd.internal\n" in shown
    assert json.loads(netctl("endpoint", "inspect", ID, "--json").stdout) == ENDPOINT


def test_attach_by_pid(daemon: Daemon, netctl: Netctl) -> None:
    result = netctl("endpoint", "attach", "blue", "--container", "c1", "--pid", "4711")
    assert daemon.calls[0].body == {"container_id": "c1", "pid": 4711}
    assert result.stdout == f"{ID}\n"
    assert result.stderr == "endpoint web on blue: 10.20.0.2/24\n"


def test_attach_with_everything(daemon: Daemon, netctl: Netctl) -> None:
    result = netctl(
        "endpoint", "attach", "blue", "--container", "c1", "--netns", "/proc/7/ns/net",
        "--name", "web", "--alias", "www", "--alias", "w3", "--ifname", "net1",
        "--address", "10.20.0.9", "--mac", "02:00:00:00:00:01", "--publish", "8080:80",
        "--publish", "[::1]:53-54:53-54/udp", "--label", "a=b", "--ingress", "10mbit",
        "--egress", "1.5gbit", "--no-default-route", "--json",
    )  # fmt: skip
    assert daemon.calls[0].body == {
        "container_id": "c1",
        "netns": "/proc/7/ns/net",
        "name": "web",
        "aliases": ["www", "w3"],
        "ifname": "net1",
        "addresses": ["10.20.0.9"],
        "mac": "02:00:00:00:00:01",
        "ports": ENDPOINT["ports"],
        "labels": {"a": "b"},
        "bandwidth": {"ingress_bps": 10_000_000, "egress_bps": 1_500_000_000},
        "default_route": False,
    }
    assert (json.loads(result.stdout), result.stderr) == (ENDPOINT, "")


@pytest.mark.parametrize(
    ("given", "sent"),
    [("web", "/run/netns/web"), ("./ns/web", None), ("/run/x", "/run/x")],
)
def test_a_netns_is_sent_as_an_absolute_path(
    daemon: Daemon, netctl: Netctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    given: str, sent: str | None,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    netctl("endpoint", "attach", "blue", "--container", "c1", "--netns", given)
    assert daemon.calls[0].body["netns"] == (sent or str(tmp_path / "ns/web"))


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("ports[1].host_port", "--publish (value 2): "),
        ("bandwidth.ingress_bps", "--ingress: "),
        ("container_id", "--container: "),
        ("addresses[0]", "--address: "),
        ("name", "--name: "),
        ("pid", "--pid: "),
        ("network", "NETWORK: "),
    ],
)
def test_fields_and_options(daemon: Daemon, netctl: Netctl, field: str, told: str) -> None:
    daemon.refuse(
        "POST", "/v1/networks/blue/endpoints", 409, "conflict", detail="taken", field=field
    )
    result = netctl(
        "endpoint", "attach", "blue", "--container", "c1", "--pid", "1",
        "--publish", "1:1", "--publish", "2:2",
    )  # fmt: skip
    assert (result.stderr, result.exit_code) == (f"Error: {told}taken\n", 4)


def patched(daemon: Daemon) -> Any:
    return next(call.body for call in daemon.calls if call.method == "PATCH")


@pytest.mark.parametrize(
    ("options", "patch"),
    [
        (("--publish", "[::1]:1:2/udp"), {"ports": [
            {"host_port": 1, "container_port": 2, "protocol": "udp", "host_ip": "::1", "count": 1}
        ]}),
        (("--no-ports",), {"ports": []}),
        (("--alias", "a", "--alias", "b"), {"aliases": ["a", "b"]}),
        (("--no-aliases", "--label", "a=b"), {"aliases": [], "labels": {"a": "b"}}),
        (("--no-labels",), {"labels": {}}),
        (("--egress", "1gbit"), {
            "bandwidth": {"ingress_bps": 10_000_000, "egress_bps": 1_000_000_000}
        }),
        (("--ingress", "none"), {"bandwidth": {"ingress_bps": None, "egress_bps": None}}),
    ],
)  # fmt: skip
def test_update_changes_what_is_named_and_nothing_else(
    daemon: Daemon, netctl: Netctl, options: tuple[str, ...], patch: dict[str, Any]
) -> None:
    result = netctl("endpoint", "update", ID, *options)
    assert patched(daemon) == patch
    assert (result.stdout, result.stderr) == (f"{ID}\n", "")


def test_update_prints_the_answer_as_json(netctl: Netctl) -> None:
    assert json.loads(netctl("endpoint", "update", ID, "--no-ports", "--json").stdout) == ENDPOINT


def test_detach_asks_first_and_goes_on_after_a_failure(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("DELETE", PATH, status=204)
    result = netctl("endpoint", "detach", "1" * 16, ID)
    assert (result.stdout, result.exit_code) == (f"{ID}\n", 3)
    assert [call.method for call in daemon.calls] == ["GET", "GET", "DELETE"]


def test_detach_of_a_container_prints_what_is_gone(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/endpoints", [ENDPOINT])
    daemon.on("DELETE", "/v1/containers/c1", status=204)
    result = netctl("endpoint", "detach", "--container", "c1")
    assert (result.stdout, result.exit_code) == (f"{ID}\n", 0)
    assert daemon.calls[-1].target == "/v1/containers/c1"


def test_detach_of_a_container_with_nothing_is_no_error(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/endpoints", [])
    daemon.on("DELETE", "/v1/containers/c1", status=204)
    result = netctl("endpoint", "detach", "--container", "c1")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "", 0)


@pytest.mark.parametrize(
    ("arguments", "blame"),
    [
        (("attach", "blue", "--pid", "1"), "Missing option '--container'"),
        (("attach", "blue", "--container", "c", "--pid", "1", "--netns", "x"),
         "--netns and --pid exclude each other"),
        (("attach", "blue", "--container", "c", "--pid", "0"), "0 is not in the range"),
        (("attach", "blue", "--container", "c", "--netns", ""), "the path is empty"),
        (("attach", "blue", "--container", "c", "--publish", "80"),
         "Invalid value for '--publish': '80' does not have the form [HOST_IP:]HOST_PORT"),
        (("attach", "blue", "--container", "c", "--ingress", "10mbps"),
         "Invalid value for '--ingress': '10mbps' is not a rate"),
        (("attach", "blue", "--container", "c", "--ingress", "none"), "'none' is not a rate"),
        (("update", ID), "nothing to change"),
        (("update", ID, "--publish", "1:1", "--no-ports"), "--publish and --no-ports exclude"),
        (("update", ID, "--alias", "a", "--no-aliases"), "--alias and --no-aliases exclude"),
        (("detach",), "give either endpoint ids or --container"),
        (("detach", ID, "--container", "c"), "give either endpoint ids or --container"),
    ],
)  # fmt: skip
def test_wrong_usage_asks_nothing_of_the_daemon(
    daemon: Daemon, netctl: Netctl, arguments: tuple[str, ...], blame: str
) -> None:
    result = netctl("endpoint", *arguments)
    assert blame in result.stderr
    assert (result.stdout, result.exit_code, daemon.calls) == ("", 2, [])
