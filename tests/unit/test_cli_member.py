"""netctl member: what is shown of members, and what is sent to join and to leave."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netd.cli.durations import parse_duration
from tests.unit.cli_daemon import CONDITION, Daemon, Netctl, serving

MEMBER: dict[str, Any] = {
    "id": "1" * 32, "name": "host-1", "address": "192.0.2.10:7940", "state": "alive",
    "rtt_ms": 0.0, "version": "1.2.3", "tags": {"rack": "r7"}, "reachable": True, "epoch": 7,
    "incarnation": 0, "protocol": {"min": 1, "max": 1, "current": 1}, "clock_offset_ms": 0.0,
    "created_at": "2026-01-02T03:04:05Z", "since": "2026-01-02T03:04:05Z", "conditions": [],
}  # fmt: skip
OTHER = MEMBER | {"id": "2" * 32, "name": "a", "rtt_ms": 1.26, "tags": {}}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


@pytest.fixture
def netctl(daemon: Daemon) -> Netctl:
    return Netctl(daemon.path)


def test_members_are_listed_by_name(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/members", [MEMBER, OTHER])
    assert netctl("member", "ls").stdout == (
        "NAME    ID                                ADDRESS          STATE  RTT  VERSION  TAGS\n"
        f"a       {OTHER['id']}  192.0.2.10:7940  alive  1.3  1.2.3    -\n"
        f"host-1  {MEMBER['id']}  192.0.2.10:7940  alive  0.0  1.2.3    rack=r7\n"
    )
    assert netctl("member", "ls", "-q").stdout == "a\nhost-1\n"
    assert json.loads(netctl("member", "ls", "--json").stdout) == [MEMBER, OTHER]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"state": "dead", "reachable": False, "rtt_ms": None}, "dead"),
        ({"reachable": False}, "alive,unreachable"),
        ({"conditions": [CONDITION]}, "alive,foreign-drop"),
        ({"state": "suspect", "reachable": False}, "suspect"),
    ],
)
def test_what_is_wrong_with_a_member_is_in_its_state(
    daemon: Daemon, netctl: Netctl, change: dict[str, Any], shown: str
) -> None:
    daemon.on("GET", "/v1/members", [MEMBER | change])
    _, row = netctl("member", "ls").stdout.splitlines()
    assert row.split()[3:5] == [shown, "-" if change.get("rtt_ms", 0) is None else "0.0"]


def test_a_member_is_found_by_name_or_id(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/members", [MEMBER | {"conditions": [CONDITION]}, OTHER])
    by_name = netctl("member", "inspect", "host-1")
    assert by_name.stdout == netctl("member", "inspect", "1" * 32).stdout
    assert "protocol         min=1 max=1 current=1\n" in by_name.stdout
    assert "warning foreign-drop: chain FORWARD drops" in by_name.stdout
    assert json.loads(netctl("member", "inspect", "a", "--json").stdout) == OTHER
    missing = netctl("member", "inspect", "b")
    assert (missing.exit_code, missing.stderr) == (
        3,
        "Error: there is no member b\n'netctl member ls' lists those there are.\n",
    )


def test_a_name_that_two_members_have_asks_for_an_id(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/members", [MEMBER, MEMBER | {"id": "2" * 32}])
    result = netctl("member", "inspect", "host-1")
    assert result.exit_code == 4
    assert result.stderr == (
        f"Error: 2 members are called host-1\nGive an id: {'1' * 32}, {'2' * 32}\n"
    )


def test_join_prints_who_answered_and_says_who_did_not(daemon: Daemon, netctl: Netctl) -> None:
    results = [
        {"address": "192.0.2.11:7940", "error": ""},
        {"address": "192.0.2.12:7940", "error": "no answer within 5 s"},
    ]
    joined = {"results": results, "members": [MEMBER, OTHER | {"state": "dead"}]}
    daemon.on("POST", "/v1/members/join", joined)
    result = netctl("member", "join", "192.0.2.11", "192.0.2.12")
    assert (result.exit_code, result.stdout) == (0, "192.0.2.11:7940\n")
    assert result.stderr == (
        "192.0.2.12:7940: no answer within 5 s\nthe cluster has 2 members; alive: host-1\n"
    )
    assert daemon.calls[-1].body == {"addresses": ["192.0.2.11", "192.0.2.12"], "token": None}
    assert json.loads(netctl("member", "join", "a", "--json").stdout) == joined


def test_a_token_comes_from_a_file_never_from_the_command_line(
    daemon: Daemon, netctl: Netctl, tmp_path: Path
) -> None:
    daemon.on("POST", "/v1/members/join", {"results": [], "members": [MEMBER]})
    (tmp_path / "token").write_text("netd1.abc\n")
    assert netctl("member", "join", "--token-file", str(tmp_path / "token")).exit_code == 0
    assert daemon.calls[-1].body == {"addresses": [], "token": "netd1.abc"}
    assert netctl("member", "join", "--token", "netd1.abc").exit_code == 2


@pytest.mark.parametrize(
    ("content", "blame"),
    [
        (b"", "does not have one line"),
        (b"a b", "does not have one line"),
        (b"\xff", "does not have one line"),
        (b"a" * 5000, "does not have one line"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_without_a_token_is_wrong_usage(
    daemon: Daemon, netctl: Netctl, tmp_path: Path, content: bytes | None, blame: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    result = netctl("member", "join", "--token-file", str(tmp_path / "token"))
    assert (result.exit_code, blame in result.stderr, daemon.calls) == (2, True, [])


def test_joining_nobody_is_wrong_usage(daemon: Daemon, netctl: Netctl) -> None:
    result = netctl("member", "join")
    assert (result.exit_code, daemon.calls) == (2, [])
    assert "whom to join?" in result.stderr


def test_the_address_at_fault_is_named_as_it_was_given(daemon: Daemon, netctl: Netctl) -> None:
    daemon.refuse(
        "POST", "/v1/members/join", 400, "invalid", detail="':x' is no port", field="addresses[1]"
    )
    result = netctl("member", "join", "a", "b:x")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: [ADDRESS]... (value 2): ':x' is no port\n")


def test_nobody_who_answers_is_a_failure(daemon: Daemon, netctl: Netctl) -> None:
    detail = "nobody answered: a:7940: no answer within 5 s"
    daemon.refuse("POST", "/v1/members/join", 503, "unavailable", detail=detail)
    result = netctl("member", "join", "a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {detail}\n")


def test_leave(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("POST", "/v1/members/leave", status=204)
    result = netctl("member", "leave")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "this host has left the cluster\n"


def test_a_token_is_printed_or_put_into_a_file_of_its_owner(
    daemon: Daemon, netctl: Netctl, tmp_path: Path
) -> None:
    made = {"token": "netd1.abc", "expires_at": "2026-01-02T03:04:05Z", "uses": 2}
    daemon.on("POST", "/v1/tokens", made, status=201)
    result = netctl("member", "token", "--uses", "2", "--expires", "15m")
    assert result.stdout == "netd1.abc\n"
    assert result.stderr == "good for 2 hosts until 2026-01-02T03:04:05Z\n"
    assert daemon.calls[-1].body == {"expires_s": 900, "uses": 2}
    file = tmp_path / "token"
    result = netctl("member", "token", "--output", str(file))
    assert daemon.calls[-1].body == {"expires_s": 3600, "uses": 1}
    assert (result.stdout, file.read_text()) == ("", "netd1.abc\n")
    assert file.stat().st_mode & 0o777 == 0o600
    again = netctl("member", "token", "--output", str(file))
    assert (again.exit_code, file.read_text()) == (1, "netd1.abc\n")
    assert "exists already" in again.stderr
    assert netctl("member", "token", "--json").stdout.strip() == json.dumps(
        made, separators=(",", ":")
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("2H", 7200), ("7d", 604_800)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "1w", "-1s", "1.5h", "1h30m", "٣s", "9" * 11])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write"):
        parse_duration(text)
