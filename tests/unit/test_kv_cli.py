"""netctl kv: what is shown of keys, and what is sent to change them."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli_daemon import Call, Daemon, Netctl, serving

STATUS: dict[str, Any] = {
    "backend": "embedded", "holder": "host-1", "state": "elsewhere", "detail": "", "term": 1,
    "index": 7, "keys": 2, "bytes": 20, "sessions": 0, "waiting": 0,
}  # fmt: skip


def entry(key: str, value: bytes, session: str = "") -> dict[str, Any]:
    return {
        "key": key, "value": base64.b64encode(value).decode(), "flags": 3, "create_index": 1,
        "modify_index": 7, "lock_index": 0, "session": session,
    }  # fmt: skip


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


@pytest.fixture
def netctl(daemon: Daemon) -> Netctl:
    return Netctl(daemon.path)


def test_a_value_is_printed(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/kv/a%2Fb", {"index": 7, "entry": entry("a/b", b"one\ntwo\xff\x1b[1m")})
    assert netctl("kv", "get", "a/b").stdout == "one\ntwo\\xff\\x1b[1m\n"
    assert netctl("kv", "get", "a/b", "--raw").stdout_bytes == b"one\ntwo\xff\x1b[1m"
    shown = json.loads(netctl("kv", "get", "a/b", "--json").stdout)
    assert shown["entry"] == entry("a/b", b"one\ntwo\xff\x1b[1m")


def test_a_key_that_is_not_there(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/kv/a", {"index": 1, "entry": None})
    result = netctl("kv", "get", "a")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "Error: there is no key a\n"
    assert json.loads(netctl("kv", "get", "a", "--json").stdout)["entry"] is None


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["v"], {"value": "dg=="}),
        ([], {"value": ""}),
        (["v", "--flags", "5", "--cas", "0"], {"value": "dg==", "flags": 5, "cas": 0}),
        (["v", "--acquire", "s"], {"value": "dg==", "acquire": "s"}),
        (["--release", "s"], {"value": "", "release": "s"}),
    ],
)
def test_what_is_written(
    daemon: Daemon, netctl: Netctl, words: list[str], sent: dict[str, Any]
) -> None:
    daemon.on("PUT", "/v1/kv/a", {"done": True, "index": 7})
    assert netctl("kv", "put", "a", *words).exit_code == 0
    assert daemon.calls == [Call("PUT", "/v1/kv/a", sent)]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--cas", "0"], "it exists"),
        (["--cas", "5"], "its index is not 5"),
        (["--acquire", "s"], "another session holds it, or has held it until just now"),
        (["--release", "s"], "the session does not hold it"),
    ],
)
def test_what_was_not_written(daemon: Daemon, netctl: Netctl, words: list[str], why: str) -> None:
    daemon.on("PUT", "/v1/kv/a", {"done": False, "index": 7})
    result = netctl("kv", "put", "a", "v", *words)
    assert result.exit_code == 4
    assert result.stderr == f"Error: a was not written: {why}\n"


def test_a_value_from_a_file(daemon: Daemon, netctl: Netctl, tmp_path: Path) -> None:
    daemon.on("PUT", "/v1/kv/a", {"done": True, "index": 7})
    file = tmp_path / "value"
    file.write_bytes(b"\x00\xff")
    assert netctl("kv", "put", "a", "--file", str(file)).exit_code == 0
    assert daemon.calls[0].body == {"value": "AP8="}
    file.write_bytes(bytes((512 << 10) + 1))
    assert "more than 524288 bytes" in netctl("kv", "put", "a", "--file", str(file)).stderr
    result = netctl("kv", "put", "a", "--file", str(tmp_path / "none"))
    assert (result.exit_code, "No such file" in result.stderr) == (1, True)
    assert netctl("kv", "put", "a", "v", "--file", str(file)).exit_code == 2
    assert len(daemon.calls) == 1


def test_keys_are_deleted(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("DELETE", "/v1/kv/a", {"done": True, "index": 7})
    daemon.on("DELETE", "/v1/kv", {"done": True, "index": 7})
    assert netctl("kv", "delete", "a").exit_code == 0
    assert netctl("kv", "delete", "a", "--cas", "7").exit_code == 0
    assert netctl("kv", "delete", "--tree", "a/").exit_code == 0
    assert [call.target for call in daemon.calls] == [
        "/v1/kv/a",
        "/v1/kv/a?cas=7",
        "/v1/kv?prefix=a%2F",
    ]
    daemon.on("DELETE", "/v1/kv/a", {"done": False, "index": 7})
    assert netctl("kv", "delete", "a", "--cas", "7").exit_code == 4
    assert netctl("kv", "delete", "a", "--cas", "7", "--tree").exit_code == 2


def test_keys_are_listed(daemon: Daemon, netctl: Netctl) -> None:
    found = [entry("a", b"1"), entry("b", b"x" * 100, session="s1")]
    daemon.on("GET", "/v1/kv", {"index": 7, "entries": found, "keys": []})
    assert netctl("kv", "ls").stdout == (
        "KEY  VALUE                                     FLAGS  INDEX  SESSION\n"
        "a    1                                         3      7      -\n"
        f"b    {'x' * 39}…  3      7      s1\n"
    )
    assert json.loads(netctl("kv", "ls", "--json").stdout)["entries"] == found
    daemon.on("GET", "/v1/kv", {"index": 7, "entries": [], "keys": ["a/", "b"]})
    assert netctl("kv", "ls", "p", "--separator", "/").stdout == "a/\nb\n"
    assert netctl("kv", "ls", "-q").stdout == "a/\nb\n"
    assert daemon.calls[-2].target == "/v1/kv?prefix=p&names=1&separator=%2F"


def test_who_holds_the_keys(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/kv-holder", STATUS)
    assert "holder    host-1\nstate     elsewhere\n" in netctl("kv", "status").stdout
    assert json.loads(netctl("kv", "status", "--json").stdout) == STATUS


def test_keys_move(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("POST", "/v1/kv-holder", STATUS)
    assert netctl("kv", "move", "host-2").stderr == "host-2 holds the keys\n"
    assert daemon.calls[-1].body == {"node": "host-2", "abandon": False}
    assert netctl("kv", "move", "host-2", "--abandon").exit_code == 1  # nobody says yes
    assert len(daemon.calls) == 1
    assert netctl("kv", "move", "host-2", "--abandon", "--yes").exit_code == 0
    assert daemon.calls[-1].body == {"node": "host-2", "abandon": True}
    daemon.refuse("POST", "/v1/kv-holder", 503, "unavailable", detail="the keys are still here")
    assert netctl("kv", "move", "host-2").exit_code == 1
