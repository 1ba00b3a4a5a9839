"""The short way: when it is taken, what it says, and that the long one follows it."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.runtimes.cni.plugin import answer
from netd.runtimes.netavark.plugin import main as netavark_main
from netd.runtimes.shim.asking import (
    DEFAULT_SOCKET,
    INPUT_BYTES_MAX,
    ShortWay,
    is_plain,
    socket_of,
)
from tests.unit.cli_daemon import Daemon, serving
from tests.unit.cni_lab import ATTACHED
from tests.unit.test_client import server

PROGRAM = Path(__file__).parents[2] / "netd/runtimes/cni/netd-cni"
NETAVARK = Path(__file__).parents[2] / "netd/runtimes/netavark/netd"
ENDPOINTS = "/v1/networks/blue/endpoints"
RESULT = {"cniVersion": "1.0.0", "ips": []}
CNI = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "box",
    "CNI_NETNS": "/run/netns/box",
    "CNI_IFNAME": "eth0",
}
EXECUTION = {
    "container_id": "box",
    "container_name": "box",
    "network": {"name": "net", "id": "1" * 64, "driver": "netd", "options": {"network": "blue"}},
    "network_options": {"interface_name": "eth0"},
}
ENVIRONMENT = {name.encode(): text.encode() for name, text in CNI.items()}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


def config_of(daemon: Daemon, **more: Any) -> dict[str, Any]:
    config = {"cniVersion": "1.0.0", "name": "net", "network": "blue"}
    return {**config, "socket": str(daemon.path), **more}


def run(config: object, **environment: str) -> tuple[int, Any]:
    done = subprocess.run(
        [PROGRAM],
        input=config if isinstance(config, bytes) else json.dumps(config).encode(),
        env={"PATH": "/nowhere", **CNI, **environment},
        stdout=subprocess.PIPE,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_an_add_is_handed_over_as_it_is(daemon: Daemon) -> None:
    daemon.on("POST", "/v1/cni", RESULT)
    config = config_of(daemon, args={"cni": {"ips": ["10.0.0.9"]}})
    assert run(config, CNI_ARGS="IP=10.0.0.9", CNI_PATH="/opt") == (0, RESULT)
    (call,) = daemon.calls
    given = {**CNI, "CNI_ARGS": "IP=10.0.0.9"}
    assert call.body == {"socket": str(daemon.path), "environment": given, "config": config}


def test_a_refusal_is_followed_by_the_long_way(daemon: Daemon) -> None:
    daemon.refuse("POST", "/v1/cni", 409, "conflict", detail="taken")
    daemon.refuse("POST", ENDPOINTS, 409, "conflict", detail="taken")
    assert run(config_of(daemon)) == (
        1,
        {"cniVersion": "1.0.0", "code": 100, "msg": "taken"},
    )
    assert [call.target for call in daemon.calls] == ["/v1/cni", ENDPOINTS]


def test_so_is_a_daemon_that_knows_no_short_way(daemon: Daemon) -> None:
    daemon.on("POST", ENDPOINTS, ATTACHED, 201)
    code, result = run(config_of(daemon))
    assert (code, result["ips"][0]["address"]) == (0, "10.20.0.2/24")


def test_what_is_out_of_the_ordinary_goes_the_long_way_at_once(daemon: Daemon) -> None:
    daemon.on("POST", ENDPOINTS, ATTACHED, 201)
    daemon.on("GET", "/v1/endpoints", [])
    long = {"name": "x" * INPUT_BYTES_MAX}
    for config, environment in (
        (config_of(daemon, args={"socket": "elsewhere"}), {}),
        (config_of(daemon, args={"cni": {"labels": long}}), {}),
        (config_of(daemon), {"CNI_ARGS": 'IgnoreUnknown=1;WORD="'}),
        (config_of(daemon), {"CNI_ARGS": "IgnoreUnknown=1;WORD=\\"}),
    ):
        daemon.calls.clear()
        assert run(config, **environment)[0] == 0
        assert [call.target for call in daemon.calls] == [ENDPOINTS]
    daemon.calls.clear()
    assert run(b"no json")[1]["code"] == 6
    assert not daemon.calls


def test_other_commands_go_the_long_way(daemon: Daemon) -> None:
    for command in ("DEL", "CHECK", "STATUS", "VERSION", ""):
        environment = {**ENVIRONMENT, b"CNI_COMMAND": command.encode()}
        assert ShortWay().add(environment, json.dumps(config_of(daemon)).encode()) is None
    assert not daemon.calls


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}",
        b"220 mail.example ESMTP\r\n\r\n",
    ],
)
def test_what_is_no_result_is_not_told_as_one(answer: bytes, tmp_path: Path) -> None:
    path = tmp_path / "netd.sock"
    with server(path, [answer]):
        assert ShortWay().add(ENVIRONMENT, b'{"socket": "%s"}' % os.fsencode(path)) is None


def test_nobody_listens(tmp_path: Path) -> None:
    assert ShortWay().add(ENVIRONMENT, b'{"socket": "%s/none"}' % os.fsencode(tmp_path)) is None


def test_a_daemon_that_is_silent_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("netd.runtimes.shim.asking.TIMEOUT_S", 1)
    path = tmp_path / "netd.sock"
    config = {"cniVersion": "1.0.0", "name": "net", "network": "blue", "socket": str(path)}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        way = ShortWay()
        assert way.add(ENVIRONMENT, json.dumps(config).encode()) is None
        assert way.silent
        code, text = answer(CNI, lambda: json.dumps(config).encode(), silent=True)
        assert netavark_main(["setup", "/run/netns/box"], silent=True) == 1
        listener.settimeout(0)
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()  # nobody has asked again
    assert (code, json.loads(text)["code"]) == (1, 11)
    told = "netd has not answered for 25 s"
    assert json.loads(text)["msg"] == told
    assert json.loads(capfd.readouterr().out) == {"error": told}


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (b"{}", DEFAULT_SOCKET),
        (b'{"socket":"/a"}', b"/a"),
        (b'{ "socket" : "/a" , "b": 1}', b"/a"),
        (b'{"socket": null}', None),
        (b'{"socket": null, "a": "/b"}', None),
        (b'{"socket": "\\u002fa"}', None),
        (b'{"socket": "/a", "args": {"socket": "/b"}}', None),
        (b'{"type": "socket"}', None),
        (b'{"type": "socket", "b": "/a"}', None),
        (b'{"socket', DEFAULT_SOCKET),
        (b'{"socket"', None),
        (b'{"socket":', None),
        (b'{"args": {"a": "}"}, "socket": "/a"}', b"/a"),
        (b'{"args": {"socket": "/b"}}', None),
        (b'{"args": {"a": "}}", "socket": "/b"}}', None),
        (b'{"args": {"a": "}\\"", "b": {"socket": "/b"}}}', None),
        (b'{"args": [{"socket": "/b"}]}', None),
    ],
)
def test_the_socket(config: bytes, path: bytes | None) -> None:
    assert socket_of(config) == path


@given(st.binary() | st.text().map(str.encode))
def test_plain_text_is_the_same_in_json(text: bytes) -> None:
    if is_plain(text):
        assert json.loads(b'"%s"' % text) == text.decode()


def set_up_by_program(execution: object, path: Path) -> tuple[int, Any]:
    done = subprocess.run(
        [NETAVARK, "setup", "/run/netns/box"],
        input=json.dumps(execution).encode(),
        env={"NETD_SOCKET": str(path)},
        stdout=subprocess.PIPE,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_a_setup_is_handed_over_as_it_is(daemon: Daemon) -> None:
    daemon.on("POST", "/v1/netavark", {"interfaces": {}})
    assert set_up_by_program(EXECUTION, daemon.path) == (0, {"interfaces": {}})
    (call,) = daemon.calls
    netns = "/run/netns/box"
    assert call.body == {"socket": str(daemon.path), "netns": netns, "execution": EXECUTION}


def test_a_setup_that_is_refused_goes_the_long_way(daemon: Daemon) -> None:
    daemon.on("POST", ENDPOINTS, ATTACHED, 201)
    assert "eth0" in set_up_by_program(EXECUTION, daemon.path)[1]["interfaces"]
    assert [call.target for call in daemon.calls] == ["/v1/netavark", ENDPOINTS]
    daemon.refuse("POST", ENDPOINTS, 409, "conflict", detail="taken")
    assert set_up_by_program(EXECUTION, daemon.path) == (1, {"error": "taken"})


def test_a_path_that_is_no_plain_text_goes_the_long_way(daemon: Daemon) -> None:
    environment = {b"NETD_SOCKET": os.fsencode(daemon.path)}
    for netns in ('/run/netns/"', "/run/netns/\\", "/run/netns/\udcff", "/run/netns/ä"):
        assert ShortWay().set_up(environment, netns, b"{}") is None
    assert ShortWay().set_up({b"NETD_SOCKET": b'/"'}, "/run/netns/box", b"{}") is None
    assert not daemon.calls
