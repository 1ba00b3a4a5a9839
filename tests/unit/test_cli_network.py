"""netctl network: what is asked of the daemon, and what people and programs get to see."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli_daemon import CONDITION, ENDPOINT, NETWORK, Daemon, Netctl, serving


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


@pytest.fixture
def netctl(daemon: Daemon) -> Netctl:
    return Netctl(daemon.path)


def other(**changes: Any) -> dict[str, Any]:
    return NETWORK | {"id": "1111111111111111", "name": "a-long-name"} | changes


def test_ls_is_a_sorted_table_that_cuts_nothing(daemon: Daemon, netctl: Netctl) -> None:
    host = other(driver="host", subnets=[], mtu=None, conditions=[CONDITION])
    daemon.on("GET", "/v1/networks", [NETWORK, host])
    result = netctl("network", "ls")
    assert result.stdout == (
        "NAME         ID                DRIVER  SUBNETS                 MTU   STATE\n"
        "a-long-name  1111111111111111  host    -                       -     foreign-drop\n"
        "blue         9f86d081884c7d65  bridge  10.20.0.0/24,fd20::/64  1500  ready\n"
    )
    assert (result.stderr, result.exit_code) == ("", 0)


def test_ls_of_nothing_has_headers_only(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/networks", [])
    assert netctl("network", "ls").stdout == "NAME  ID  DRIVER  SUBNETS  MTU  STATE\n"
    assert netctl("network", "ls", "-q").stdout == ""
    assert netctl("network", "ls", "--json").stdout == "[]\n"


def test_ls_quiet_prints_names(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/networks", [NETWORK, other()])
    assert netctl("network", "ls", "--quiet").stdout == "a-long-name\nblue\n"


def test_json_is_the_answer_itself(daemon: Daemon, netctl: Netctl) -> None:
    answer = [NETWORK, other(a_field_of_tomorrow={"x": [1]})]
    daemon.on("GET", "/v1/networks", answer)
    assert netctl("network", "ls", "--json").stdout == (
        json.dumps(answer, separators=(",", ":")) + "\n"
    )


def test_create_asks_for_what_was_given_and_no_more(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("POST", "/v1/networks", NETWORK, status=201)
    result = netctl("network", "create", "blue")
    assert daemon.calls[0].body == {
        "name": "blue",
        "driver": "bridge",
        "internal": False,
        "isolated": True,
    }
    assert result.stdout == "9f86d081884c7d65\n"
    assert result.stderr == "network blue: bridge 10.20.0.0/24,fd20::/64\n"


def test_create_with_everything(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("POST", "/v1/networks", NETWORK, status=201)
    result = netctl(
        "network", "create", "lan", "--driver", "macvlan", "--parent", "eth0",
        "--subnet", "192.168.1.0/24", "--subnet", "fd01::/64", "--gateway", "192.168.1.1",
        "--internal", "--no-isolation", "--mtu", "9000", "--label", "a=b=c", "--label", "d=",
        "--option", "shim=true", "--option", "vlan=12", "--option", "mode=bridge", "--json",
    )  # fmt: skip
    assert daemon.calls[0].body == {
        "name": "lan",
        "driver": "macvlan",
        "parent": "eth0",
        "subnets": ["192.168.1.0/24", "fd01::/64"],
        "gateways": ["192.168.1.1"],
        "internal": True,
        "isolated": False,
        "mtu": 9000,
        "labels": {"a": "b=c", "d": ""},
        "options": {"shim": True, "vlan": 12, "mode": "bridge"},
    }
    assert json.loads(result.stdout) == NETWORK
    assert result.stderr == ""


def test_create_with_a_vni(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("POST", "/v1/networks", NETWORK, status=201)
    netctl("network", "create", "blue", "--driver", "overlay", "--vni", "16777215")
    assert daemon.calls[0].body["vni"] == 16_777_215
    for refused in ("0", "16777216", "x"):
        assert netctl("network", "create", "blue", "--vni", refused).exit_code == 2
    assert len(daemon.calls) == 1


def test_a_refused_field_is_told_as_its_option(daemon: Daemon, netctl: Netctl) -> None:
    detail = "10.0.0.0/8 overlaps network red: choose another"
    daemon.refuse("POST", "/v1/networks", 409, "conflict", detail=detail, field="subnets[1]")
    result = netctl("network", "create", "blue", "--subnet", "fd20::/64", "--subnet", "10.0.0.0/8")
    assert result.stderr == f"Error: --subnet (value 2): {detail}\n"
    assert (result.stdout, result.exit_code) == ("", 4)


@pytest.mark.parametrize(
    ("field", "option"),
    [
        ("name", "NAME"),
        ("subnets[0]", "--subnet"),
        ("options.shim", "--option"),
        ("isolated", "--no-isolation"),
        ("vni", "--vni"),
        ("encrypted", "encrypted"),
    ],
)
def test_fields_and_options(daemon: Daemon, netctl: Netctl, field: str, option: str) -> None:
    daemon.refuse("POST", "/v1/networks", 400, "invalid", detail="it is bad", field=field)
    result = netctl("network", "create", "blue", "--subnet", "10.0.0.0/8", "--option", "shim=1")
    assert result.stderr == (f"Error: {option}: it is bad\nTry 'netctl network create --help'.\n")
    assert result.exit_code == 2


def test_inspect_shows_every_field_and_the_conditions(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/networks/blue", NETWORK | {"conditions": [CONDITION]})
    assert netctl("network", "inspect", "blue").stdout == (
        "id          9f86d081884c7d65\n"
        "name        blue\n"
        "driver      bridge\n"
        "subnets     10.20.0.0/24,fd20::/64\n"
        "gateways    10.20.0.1,fd20::1\n"
        "internal    no\n"
        "isolated    yes\n"
        "mtu         1500\n"
        "encrypted   no\n"
        "vni         -\n"
        "parent      -\n"
        "labels      team=red\n"
        "options     stp=no\n"
        "created_at  2026-01-02T03:04:05Z\n"
        "warning foreign-drop: chain FORWARD drops (since 2026-01-02T03:04:05Z)\n"
        "  remedy: iptables -P FORWARD ACCEPT\n"
    )


def test_inspect_shows_who_owns_addresses_only_where_somebody_does(
    daemon: Daemon, netctl: Netctl
) -> None:
    seeds = ["5" * 32, "6" * 32]
    daemon.on("GET", "/v1/networks/blue", NETWORK | {"seeds": []})
    assert "seeds" not in netctl("network", "inspect", "blue").stdout
    assert json.loads(netctl("network", "inspect", "blue", "--json").stdout)["seeds"] == []
    daemon.on("GET", "/v1/networks/blue", NETWORK | {"driver": "overlay", "seeds": seeds})
    assert f"seeds       {','.join(seeds)}\n" in netctl("network", "inspect", "blue").stdout


def test_no_value_can_steer_the_terminal(daemon: Daemon, netctl: Netctl) -> None:
    evil = {"a": "\x1b]0;owned\x07\n\x9b31m\u202e\ud800"}
    daemon.on("GET", "/v1/networks/blue", {"labels": evil})
    shown = netctl("network", "inspect", "blue").stdout
    assert shown == r"labels  a=\x1b]0;owned\x07\n\x9b31m\u202e\ud800" + "\n"
    as_json = netctl("network", "inspect", "blue", "--json").stdout
    assert as_json.removesuffix("\n").isprintable()
    assert json.loads(as_json) == {"labels": evil}


def test_inspect_of_what_is_not_there(netctl: Netctl) -> None:
    result = netctl("network", "inspect", "green")
    assert result.stderr == "Error: nothing is known of green\n"
    assert result.exit_code == 3


def test_rm_asks_first_because_delete_is_idempotent(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/networks/blue", NETWORK)
    daemon.on("DELETE", f"/v1/networks/{NETWORK['id']}", status=204)
    result = netctl("network", "rm", "blue")
    assert (result.stdout, result.stderr, result.exit_code) == ("blue\n", "", 0)
    missing = netctl("network", "rm", "green")
    assert (missing.stdout, missing.exit_code) == ("", 3)
    assert [call.method for call in daemon.calls] == ["GET", "DELETE", "GET"]


def in_use(daemon: Daemon, users: list[dict[str, Any]]) -> None:
    daemon.on("GET", "/v1/networks/blue", NETWORK)
    daemon.refuse(
        "DELETE", f"/v1/networks/{NETWORK['id']}", 409, "conflict", detail="in use by ids"
    )
    daemon.on("GET", "/v1/endpoints", users)


def test_rm_of_a_network_in_use_names_its_users(daemon: Daemon, netctl: Netctl) -> None:
    in_use(daemon, [ENDPOINT | {"container_id": "c2"}, ENDPOINT | {"name": "db"}])
    result = netctl("network", "rm", "blue")
    assert result.stderr == (
        f"Error: network blue is in use by db (container {'c' * 64}), web (container c2)\n"
        "Detach them first: netctl endpoint detach $(netctl endpoint ls -q --network blue)\n"
    )
    assert (result.stdout, result.exit_code) == ("", 4)


def test_the_command_to_paste_reaches_the_same_daemon(daemon: Daemon, netctl: Netctl) -> None:
    in_use(daemon, [ENDPOINT])
    path = str(daemon.path)
    result = netctl("--socket", path, "network", "rm", "blue", env={"NETD_SOCKET": "/none"})
    me = f"netctl --socket {path}"
    assert f"first: {me} endpoint detach $({me} endpoint ls -q --network blue)" in result.stderr


def test_rm_with_many_users_stays_readable(daemon: Daemon, netctl: Netctl) -> None:
    in_use(daemon, [ENDPOINT | {"name": f"web{n:02}", "container_id": f"c{n}"} for n in range(12)])
    stderr = netctl("network", "rm", "blue").stderr
    assert "web09 (container c9), 2 more\n" in stderr
    assert "web10" not in stderr


def test_a_conflict_without_users_is_told_as_it_is(daemon: Daemon, netctl: Netctl) -> None:
    in_use(daemon, [])
    assert netctl("network", "rm", "blue").stderr == "Error: in use by ids\n"


def test_rm_goes_on_and_ends_with_the_worst_code(daemon: Daemon, netctl: Netctl) -> None:
    in_use(daemon, [ENDPOINT])
    daemon.on("GET", "/v1/networks/red", NETWORK | {"name": "red", "id": "2222222222222222"})
    daemon.on("DELETE", "/v1/networks/2222222222222222", status=204)
    result = netctl("network", "rm", "green", "blue", "nope", "red", "red")
    assert result.stdout == "red\n"
    assert result.stderr.count("Error: ") == 3
    assert result.exit_code == 4


def test_rm_without_a_daemon_says_so_once(tmp_path: Path) -> None:
    result = Netctl(tmp_path / "none.sock")("network", "rm", "a", "b")
    assert result.exit_code == 5
    assert result.stderr.count("Error: ") == 1


@pytest.mark.parametrize(
    ("arguments", "blame"),
    [
        (("create",), "Missing argument 'NAME'"),
        (("create", "blue", "--driver", "bridg"), "'bridg' is not one of 'bridge'"),
        (("create", "blue", "--label", "x"), "Invalid value for '--label': 'x' is not of the form"),
        (("create", "blue", "--option", "a=1", "--option", "a=2"), "'a' is given twice"),
        (("create", "blue", "--mtu", "67"), "67 is not in the range"),
        (("rm",), "Missing argument 'NETWORK...'"),
        (("remove", "blue"), "No such command 'remove'"),
    ],
)
def test_wrong_usage_asks_nothing_of_the_daemon(
    daemon: Daemon, netctl: Netctl, arguments: tuple[str, ...], blame: str
) -> None:
    result = netctl("network", *arguments)
    assert blame in result.stderr
    assert (result.stdout, result.exit_code, daemon.calls) == ("", 2, [])
