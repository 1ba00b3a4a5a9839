"""netd-cni: each command, each version, each error, and what must not be an error."""

import json
import os
import re
import resource
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.runtimes.cni.plugin import answer
from netd.runtimes.cni.wishes import KNOWN_KEYS
from tests.unit.cli_daemon import Daemon, serving
from tests.unit.cni_lab import ATTACHED, Plugin
from tests.unit.test_client import server

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "netd/runtimes/cni/netd-cni"
ENDPOINTS = "/v1/networks/blue/endpoints"
FOUND = f"/v1/endpoints/{ATTACHED['id']}"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path / "netd.sock")


def test_add_tells_what_the_daemon_has_made(daemon: Daemon, plugin: Plugin) -> None:
    daemon.on("POST", ENDPOINTS, ATTACHED, 201)
    assert plugin("ADD") == {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "nv3f9a1c0de5b7"},
            {
                "name": "eth0",
                "sandbox": "/run/netns/box",
                "mac": "0e:16:0a:14:00:02",
                "mtu": 1450,
            },
        ],
        "ips": [
            {"address": "10.20.0.2/24", "interface": 1, "gateway": "10.20.0.1"},
            {"address": "fd20::2/64", "interface": 1, "gateway": "fd20::1"},
        ],
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "10.20.0.1"},
            {"dst": "::/0", "gw": "fd20::1"},
        ],
        "dns": {"nameservers": ["10.20.0.1"], "search": ["blue.netd.internal"]},
    }
    assert [call[:2] for call in daemon.calls] == [("POST", ENDPOINTS)]  # one round trip


def test_results_have_the_form_of_their_version(daemon: Daemon, plugin: Plugin) -> None:
    daemon.on("POST", ENDPOINTS, ATTACHED, 200)
    old = plugin("ADD", cniVersion="0.4.0")
    assert [ip["version"] for ip in old["ips"]] == ["4", "6"]
    for version in ("0.4.0", "1.0.0"):
        result = plugin("ADD", cniVersion=version)
        assert result["cniVersion"] == version
        assert "mtu" not in result["interfaces"][1]


def test_an_endpoint_without_addresses_has_a_result(daemon: Daemon, plugin: Plugin) -> None:
    bare: dict[str, Any] = {
        "mac": "",
        "mtu": None,
        "host_ifname": "",
        "addresses": [],
        "gateways": [],
    }
    silent: dict[str, Any] = {"dns": {"nameservers": [], "search": []}}
    daemon.on("POST", ENDPOINTS, ATTACHED | bare | silent, 201)
    result = plugin("ADD")
    assert result["interfaces"] == [{"name": "eth0", "sandbox": "/run/netns/box"}]
    assert (result["ips"], result["routes"], result["dns"]) == ([], [], {})


def test_add_goes_on_from_what_others_have_made(daemon: Daemon, plugin: Plugin) -> None:
    daemon.on("POST", ENDPOINTS, ATTACHED | {"ifname": "net1", "default_route": False}, 201)
    before = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/box"}],
        "ips": [{"address": "10.1.0.2/24", "interface": 1}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["10.1.0.1"], "domain": "example"},
    }
    result = plugin("ADD", prevResult=before, ifname="net1")
    assert result["interfaces"][:2] == before["interfaces"]
    assert [entry["name"] for entry in result["interfaces"][2:]] == ["nv3f9a1c0de5b7", "net1"]
    assert [ip["interface"] for ip in result["ips"]] == [1, 3, 3]
    assert result["routes"] == before["routes"]
    assert result["dns"]["nameservers"] == ["10.1.0.1"]
    assert result["dns"]["domain"] == "example"
    body = daemon.calls[-1].body
    assert (body["ifname"], body["default_route"]) == ("net1", False)
    assert body["labels"]["netd.runtime.ifname"] == "eth0"  # what DEL will be called with


def test_a_local_network_is_made_before_its_first_container(daemon: Daemon, plugin: Plugin) -> None:
    daemon.on("POST", "/v1/networks", {}, 201)
    daemon.on("POST", "/v1/networks/net/endpoints", ATTACHED, 201)
    assert "code" not in plugin("ADD", network=..., subnet="10.20.0.0/24")
    made, attached = daemon.calls
    assert made.body == {"name": "net", "driver": "bridge", "subnets": ["10.20.0.0/24"]}
    assert attached.target == "/v1/networks/net/endpoints"


@pytest.mark.parametrize(
    ("status", "problem", "field", "code"),
    [
        (400, "invalid", "mac", 7),
        (400, "invalid", "netns", 8),
        (404, "not-found", "", 7),
        (404, "not-found", "netns", 8),
        (403, "forbidden", "", 102),
        (409, "conflict", "ports[0].host_port", 100),
        (500, "kernel", "", 101),
        (500, "internal", "", 999),
        (503, "unavailable", "", 11),
        (507, "exhausted", "", 11),
    ],
)
def test_the_daemons_refusals_have_codes(
    daemon: Daemon, plugin: Plugin, status: int, problem: str, field: str, code: int
) -> None:
    extra = {"field": field} if field else {}
    daemon.refuse("POST", ENDPOINTS, status, problem, detail="so and so", **extra)
    error = plugin("ADD")
    assert (error["code"], error["msg"], error["cniVersion"]) == (code, "so and so", "1.1.0")
    assert error.get("details", "") == (f"field {field}" if field else "")


def test_without_a_daemon(plugin: Plugin, tmp_path: Path) -> None:
    assert plugin("ADD")["code"] == 11
    assert plugin("CHECK", prevResult={})["code"] == 11
    assert plugin("STATUS")["code"] == 50
    assert plugin("GC", **{"cni.dev/valid-attachments": []})["code"] == 11
    assert plugin("VERSION")["supportedVersions"] == ["0.4.0", "1.0.0", "1.1.0"]
    assert not list(tmp_path.iterdir())
    assert plugin("DEL") is None
    assert len(list((tmp_path / "deleted").iterdir())) == 1


@pytest.mark.parametrize(
    "answered",
    [
        b"",
        b"HTTP/1.1 201 Created\r\nContent-Length: 20\r\n\r\n{}",
        b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\n{}}",
        b"HTTP/1.1",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
    ],
)
def test_an_answer_that_breaks_off_is_no_answer(
    plugin: Plugin, tmp_path: Path, answered: bytes
) -> None:
    with server(tmp_path / "netd.sock", [answered]):
        assert plugin("ADD")["code"] == 11


def test_del_detaches_what_its_add_has_made(daemon: Daemon, plugin: Plugin) -> None:
    others = [
        ATTACHED | {"id": "1" * 16, "labels": {}},
        ATTACHED | {"id": "2" * 16, "labels": {**ATTACHED["labels"], "netd.runtime.ifname": "e2"}},
        ATTACHED | {"id": "3" * 16, "labels": {**ATTACHED["labels"], "netd.runtime.network": "n"}},
        ATTACHED | {"id": "4" * 16, "labels": {**ATTACHED["labels"], "netd.runtime": "netavark"}},
    ]
    daemon.on("GET", "/v1/endpoints", [*others, ATTACHED])
    daemon.on("DELETE", FOUND, status=204)
    for netns in ("/run/netns/box", ""):
        daemon.calls.clear()
        assert plugin("DEL", {"CNI_NETNS": netns}, network=..., subnet=["nonsense"]) is None
        assert [call[:2] for call in daemon.calls] == [
            ("GET", "/v1/endpoints?container_id=box"),
            ("DELETE", FOUND),
        ]


def test_del_waits_once_for_a_daemon_that_is_silent(
    plugin: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.runtimes.cni.plugin.DEL_TIMEOUT_S", 1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "netd.sock"))
        listener.listen()
        assert plugin("DEL") is None
        listener.settimeout(0)
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()  # it did not ask again
    assert len(list((tmp_path / "deleted").iterdir())) == 1


def test_del_that_the_daemon_fails_at_is_noted(
    daemon: Daemon, plugin: Plugin, tmp_path: Path
) -> None:
    daemon.on("GET", "/v1/endpoints", [ATTACHED])
    daemon.refuse("DELETE", FOUND, 503, "unavailable", detail="the disk is full")
    assert plugin("DEL") is None
    (note,) = (tmp_path / "deleted").iterdir()
    assert json.loads(note.read_text()) == {
        "runtime": "cni",
        "container": "box",
        "network": "net",
        "ifname": "eth0",
    }
    daemon.on("DELETE", FOUND, status=204)
    daemon.on("GET", "/v1/networks/blue", {})
    assert plugin("STATUS") is None  # any later call works it off
    assert not list((tmp_path / "deleted").iterdir())
    assert [call[:2] for call in daemon.calls][-3:-1] == [
        ("GET", "/v1/endpoints?container_id=box"),
        ("DELETE", FOUND),
    ]


def test_a_note_that_cannot_be_worked_off_hinders_its_container_alone(
    daemon: Daemon, plugin: Plugin, tmp_path: Path
) -> None:
    daemon.on("GET", "/v1/endpoints", [ATTACHED])
    daemon.refuse("DELETE", FOUND, 500, "kernel", detail="it would not go")
    assert plugin("DEL") is None
    daemon.on("POST", ENDPOINTS, ATTACHED, 201)
    daemon.on("GET", "/v1/networks/blue", {})
    assert "interfaces" in plugin("ADD", {"CNI_CONTAINERID": "other"})
    assert plugin("STATUS") is None
    error = plugin("ADD")
    assert (error["code"], error["msg"]) == (101, "it would not go")
    told = plugin("GC", **{"cni.dev/valid-attachments": [{"containerID": "box", "ifname": "eth0"}]})
    assert (told["code"], told["details"]) == (104, "box: it would not go")
    assert len(list((tmp_path / "deleted").iterdir())) == 1


def test_del_that_is_refused_or_cannot_be_noted_fails(
    daemon: Daemon, plugin: Plugin, tmp_path: Path
) -> None:
    daemon.refuse("GET", "/v1/endpoints", 403, "forbidden", detail="not you")
    assert plugin("DEL")["code"] == 102
    daemon.refuse("GET", "/v1/endpoints", 503, "unavailable", detail="stopping")
    (tmp_path / "deleted").write_text("in the way")
    error = plugin("DEL")
    assert (error["code"], error["msg"]) == (
        11,
        "stopping; and it cannot be noted for later: File exists",
    )


def test_a_note_that_finds_no_room_leaves_nothing(plugin: Plugin, tmp_path: Path) -> None:
    done = subprocess.run(
        PROGRAM, input=json.dumps(plugin.config).encode(), capture_output=True, timeout=20,
        env={**plugin.environment, "CNI_COMMAND": "DEL"}, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )  # fmt: skip
    assert "it cannot be noted for later: File too large" in json.loads(done.stdout)["msg"]
    assert not list((tmp_path / "deleted").iterdir())


def test_a_path_that_is_no_sockets_is_said_in_words(plugin: Plugin) -> None:
    assert plugin("ADD", socket=f"/{'x' * 200}")["msg"].endswith(": AF_UNIX path too long")


def test_notes_that_are_none_go(daemon: Daemon, plugin: Plugin, tmp_path: Path) -> None:
    folder = tmp_path / "deleted"
    folder.mkdir()
    for name, text in (
        ("a.json", "{"),
        ("b.json", "[1]"),
        ("c.json", '{"container": 1, "network": "n", "ifname": "e"}'),
        ("d.json", '{"container": "c"}'),
        ("g.json", '{"runtime": 1, "container": "c", "network": "n", "ifname": "e"}'),
    ):
        (folder / name).write_text(text)
    (folder / "e.json").symlink_to("/etc/passwd")
    os.mkfifo(folder / "f.json")
    (folder / "stays.json").mkdir()
    (folder / "half.new").write_text("{")  # somebody writes it just now
    daemon.on("GET", "/v1/networks/blue", {})
    assert plugin("STATUS") is None
    assert {file.name for file in folder.iterdir()} == {"half.new", "stays.json"}


def test_check(daemon: Daemon, plugin: Plugin) -> None:
    daemon.on("POST", ENDPOINTS, ATTACHED, 201)
    daemon.on("GET", "/v1/endpoints", [ATTACHED | {"labels": {}}, ATTACHED])
    daemon.on("GET", "/v1/plan", [])
    told = plugin("ADD")
    assert plugin("CHECK", prevResult=told) is None
    assert plugin("CHECK")["code"] == 7
    assert plugin("CHECK", prevResult={**told, "interfaces": []})["code"] == 103
    moved = {**told, "ips": [{"address": "10.20.0.9/24", "interface": 1}]}
    assert plugin("CHECK", prevResult=moved)["code"] == 103
    others = {**told, "ips": [*told["ips"], {"address": "10.9.0.9/24", "interface": 0}]}
    assert plugin("CHECK", prevResult=others) is None
    step = {"verb": "add", "object": "address 10.20.0.2/24", "owner": ATTACHED["id"], "ns": "n"}
    daemon.on("GET", "/v1/plan", [step])
    assert "add address 10.20.0.2/24" in plugin("CHECK", prevResult=told)["msg"]
    # Not the plan of the host: that takes a look into each of its namespaces.
    assert daemon.calls[-1].target == f"/v1/plan?endpoint={ATTACHED['id']}"
    daemon.on("GET", "/v1/endpoints", [])
    assert plugin("CHECK", prevResult=told)["code"] == 3


def test_gc_detaches_what_is_not_valid(daemon: Daemon, plugin: Plugin) -> None:
    kept = ATTACHED | {"id": "1" * 16, "container_id": "kept"}
    foreign = ATTACHED | {"id": "2" * 16, "labels": {}}
    stuck = ATTACHED | {"id": "4" * 16, "container_id": "stuck"}
    labels = {**ATTACHED["labels"], "netd.runtime": "netavark"}
    podmans = ATTACHED | {"id": "5" * 16, "container_id": "podmans", "labels": labels}
    unsaid = {key: text for key, text in labels.items() if key != "netd.runtime"}
    older = ATTACHED | {"id": "6" * 16, "container_id": "older", "labels": unsaid}
    daemon.on("GET", "/v1/endpoints", [kept, foreign, stuck, podmans, older, ATTACHED])
    daemon.on("DELETE", FOUND, status=204)
    daemon.refuse("DELETE", f"/v1/endpoints/{'4' * 16}", 500, "kernel", detail="it would not go")
    valid: list[dict[str, Any]] = [{"containerID": "kept", "ifname": "eth0"}]
    for key in ("cni.dev/valid-attachments", "cni.dev/attachments"):
        daemon.calls.clear()
        error = plugin("GC", **{key: valid})
        assert error["code"] == 104
        assert "stuck: it would not go" in error["details"]
        assert ("DELETE", FOUND) in [call[:2] for call in daemon.calls]  # it went on
        assert len(daemon.calls) == 3
    daemon.calls.clear()
    assert plugin("GC")["code"] == 7
    assert not daemon.calls


def test_status(daemon: Daemon, plugin: Plugin) -> None:
    assert plugin("STATUS")["code"] == 50  # no such network
    daemon.on("GET", "/v1/networks/blue", {})
    assert plugin("STATUS") is None
    daemon.refuse("GET", "/readyz", 503, "unavailable", detail="starting")
    assert plugin("STATUS", network=...)["code"] == 50
    daemon.on("GET", "/readyz", {"ok": True})
    daemon.on("GET", "/v1/networks", [])
    assert plugin("STATUS", network=...) is None
    assert plugin("STATUS", netwrk="blue")["code"] == 2


def test_status_of_a_network_that_has_other_subnets(daemon: Daemon, plugin: Plugin) -> None:
    """A node that was taken out of its cluster and came back has got another pod CIDR."""
    daemon.on("GET", "/readyz", {"ok": True})
    other = {"name": "other", "subnets": ["10.9.0.0/24"]}
    pods = {"name": "net", "subnets": ["10.244.3.0/24", "fd44::/64"]}
    daemon.on("GET", "/v1/networks", [other, pods])
    same = ["10.244.3.0/24", "FD44:0::/64"]
    assert plugin("STATUS", network=..., subnets=same) is None
    assert plugin("STATUS", network=...) is None
    refused = plugin("STATUS", network=..., subnets=["10.244.5.0/24", "fd44::/64"])
    assert refused["code"] == 50
    assert "10.244.3.0/24, fd44::/64 instead of 10.244.5.0/24" in refused["msg"]


@pytest.mark.parametrize(
    ("command", "env", "config", "code"),
    [
        ("ADD", {"CNI_CONTAINERID": ""}, {}, 4),
        ("ADD", {"CNI_NETNS": ""}, {}, 4),
        ("DEL", {"CNI_IFNAME": ""}, {}, 4),
        ("ADD", {"CNI_CONTAINERID": "-x"}, {}, 4),
        ("ADD", {"CNI_CONTAINERID": "a/b"}, {}, 4),
        ("ADD", {"CNI_IFNAME": "a" * 16}, {}, 4),
        ("ADD", {"CNI_IFNAME": "a/b"}, {}, 4),
        ("ADD", {"CNI_IFNAME": ".."}, {}, 4),
        ("ADD", {"CNI_IFNAME": "a b"}, {}, 4),
        ("ADD", {"CNI_ARGS": "IP"}, {}, 4),
        ("ADD", {"CNI_ARGS": "SOMETHING=1"}, {}, 4),
        ("LIST", {}, {}, 4),
        ("ADD", {}, {"cniVersion": "0.3.1"}, 1),
        ("ADD", {}, {"cniVersion": ...}, 1),
        ("DEL", {}, {"cniVersion": "2.0.0"}, 1),
        ("GC", {}, {"cniVersion": "1.0.0"}, 1),
        ("STATUS", {}, {"cniVersion": "0.4.0"}, 1),
        ("ADD", {}, {"name": ...}, 7),
        ("ADD", {}, {"name": "-net"}, 7),
        ("ADD", {}, {"bridge": "cni0"}, 2),
        ("ADD", {}, {"subnet": "10.0.0.0/24"}, 7),
        ("ADD", {}, {"runtimeConfig": []}, 7),
        ("ADD", {}, {"prevResult": "x"}, 7),
        ("ADD", {}, {"prevResult": {"ips": {}}}, 7),
        ("ADD", {}, {"prevResult": {"dns": {"search": [1]}}}, 7),
        ("ADD", {}, {"dns": []}, 7),
        ("ADD", {}, {"runtimeConfig": {"dns": {"servers": "192.0.2.53"}}}, 7),
        ("ADD", {}, {"network": ..., "ipam": {"type": "dhcp"}}, 2),
        ("ADD", {}, {"network": ..., "ipam": {"routes": [{"dst": "10.0.0.0/8"}]}}, 2),
    ],
)
def test_what_cannot_be_right_is_said_without_a_daemon(
    plugin: Plugin, command: str, env: dict[str, str], config: dict[str, Any], code: int
) -> None:
    error = plugin(command, env, **config)
    assert error["code"] == code, error
    assert error["msg"]
    assert error["cniVersion"] in ("0.4.0", "1.0.0", "1.1.0")


def test_missing_variables_are_named(plugin: Plugin) -> None:
    error = plugin("ADD", {"CNI_NETNS": "", "CNI_IFNAME": ""})
    assert error["msg"] == "CNI_NETNS, CNI_IFNAME must be set for ADD"


_TEXT = st.text(max_size=20) | st.sampled_from(["1.1.0", "net", "10.0.0.0/24", "ADD", "eth0"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.sampled_from([*sorted(KNOWN_KEYS), "cni.dev/valid-attachments"])
_FORM = {"cniVersion": "1.1.0", "name": "net", "type": "netd-cni"}
_CONFIG = st.dictionaries(_KEYS | _TEXT, _JSON, max_size=6).map(lambda more: {**_FORM, **more})
_COMMAND = st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"]) | _TEXT


@given(
    command=_COMMAND,
    data=st.binary(max_size=200) | (_CONFIG | _JSON).map(lambda value: json.dumps(value).encode()),
    ids=st.tuples(_TEXT, _TEXT, _TEXT, _TEXT),
)
def test_whatever_comes_is_answered_in_json(
    command: str, data: bytes, ids: tuple[str, str, str, str], tmp_path_factory: Any
) -> None:
    names = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS")
    environment = {"CNI_COMMAND": command, **dict(zip(names, ids, strict=True))}
    place = json.dumps({"socket": "/dev/null/netd.sock"})  # where nobody can be nor write
    if data.startswith(b"{") and data.endswith(b"}") and len(data) > 2:
        data = data[:-1] + b"," + place[1:].encode()
    code, text = answer(environment, lambda: data)
    if code == 0:
        assert not text or json.loads(text)["supportedVersions"]
        return
    error = json.loads(text)
    assert set(error) <= {"cniVersion", "code", "msg", "details"}
    assert error["code"] in (1, 2, 3, 4, 6, 7, 8, 11, 50), error
    assert error["msg"]


def run(environment: dict[str, str], data: bytes, *flags: str) -> subprocess.CompletedProcess[str]:
    command = ["/usr/bin/python3", "-IS", *flags, str(PROGRAM)] if flags else [str(PROGRAM)]
    return subprocess.run(
        command, input=data.decode(), env=environment, capture_output=True, text=True, check=False
    )


def test_the_program(tmp_path: Path) -> None:
    done = run({}, b"")
    assert (done.returncode, done.stdout) == (0, "")
    assert "netd-cni" in done.stderr
    done = run({"CNI_COMMAND": "VERSION"}, b"")
    assert json.loads(done.stdout)["supportedVersions"] == ["0.4.0", "1.0.0", "1.1.0"]
    done = run({"CNI_COMMAND": "VERSION"}, b'{"cniVersion": "0.4.0"}')
    assert json.loads(done.stdout)["cniVersion"] == "0.4.0"
    done = run({"CNI_COMMAND": "VERSION"}, b"{" + b" " * 1024 * 1024)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 7)
    done = run({"CNI_COMMAND": "ADD"}, b"[" * 100_000)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 6)


def test_the_program_finds_its_modules(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/netd-cni").symlink_to("../second")
    (tmp_path / "second").symlink_to(PROGRAM)
    for folder, program in (
        (tmp_path, tmp_path / "bin/netd-cni"),
        (tmp_path / "bin", "./netd-cni"),
        (ROOT, "netd/runtimes/cni/netd-cni"),
        (PROGRAM.parent, "./netd-cni"),
    ):
        environment = {"CNI_COMMAND": "VERSION"}
        done = subprocess.run([program], cwd=folder, env=environment, capture_output=True)
        assert b"supportedVersions" in done.stdout, done.stderr


def test_nothing_that_takes_long_is_imported() -> None:
    """An interpreter that imports `json` and `socket` takes twice as long to start."""
    config = {"cniVersion": "1.1.0", "name": "net", "type": "netd-cni", "network": "blue"}
    config["socket"] = "/nonexistent/netd.sock"
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "box",
        "CNI_NETNS": "/run/netns/box",
        "CNI_IFNAME": "eth0",
    }
    done = run(environment, json.dumps(config).encode(), "-X", "importtime")
    assert json.loads(done.stdout)["code"] == 11
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "netd.runtimes.cni.plugin" in imported  # it did measure
    slow = {
        "os",
        "json",
        "socket",
        "re",
        "enum",
        "pathlib",
        "http",
        "urllib",
        "ctypes",
        "site",
        "typing",
    }
    assert not imported & slow
    assert len(imported) < 50


def test_python_is_the_systems_and_isolated() -> None:
    first = PROGRAM.read_text().splitlines()[0]
    assert first == "#!/usr/bin/python3 -IS"
    assert os.access(PROGRAM, os.X_OK)
