"""The service manager's protocols over real sockets, and the unit files."""

import configparser
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase  # systemd matches names with fnmatch(3)
from pathlib import Path

import pytest

from netd.daemon.serve import PROGRESS_DEADLINE_S, SIGNS_OF_LIFE
from netd.model.names import (
    bridge_name,
    ifb_name,
    peer_name,
    shim_name,
    tunnel_name,
    veth_name,
)
from netd.plan.virtual_views import LINK as VIRTUAL_LINK
from netd.systemd import ServiceManager, take_sockets

REPOSITORY = Path(__file__).parents[2]
UNITS = REPOSITORY / "systemd"


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address for NOTIFY_SOCKET, and the manager's end."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.setblocking(False)
    path = str(tmp_path / "notify")
    if request.param == "abstract":
        listener.bind(f"\0netd-test-{os.getpid()}-{tmp_path.name}")
        path = "@" + listener.getsockname()[1:].decode()
    else:
        listener.bind(path)
    yield path, listener
    listener.close()


def test_what_the_manager_is_told(manager: tuple[str, socket.socket]) -> None:
    address, listener = manager
    environment = {"NOTIFY_SOCKET": address, "PATH": "/bin"}
    service = ServiceManager(environment)
    assert environment == {"PATH": "/bin"}
    assert service.ready("2 networks\n0 drift")
    assert listener.recv(999) == b"READY=1\nSTATUS=2 networks 0 drift"
    assert service.status("x\nREADY=1")
    assert listener.recv(999) == b"STATUS=x READY=1"
    assert service.alive()
    assert listener.recv(999) == b"WATCHDOG=1"
    assert service.stopping()
    assert listener.recv(999) == b"STOPPING=1"


def test_a_reload_says_when_it_began(manager: tuple[str, socket.socket]) -> None:
    address, listener = manager
    before_us = time.monotonic_ns() // 1000
    assert ServiceManager({"NOTIFY_SOCKET": address}).reloading()
    first, second = listener.recv(999).decode().splitlines()
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before_us <= int(value) <= time.monotonic_ns() // 1000


def test_a_manager_that_does_not_read_is_not_waited_for(
    manager: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, listener = manager
    service = ServiceManager({"NOTIFY_SOCKET": address})
    sent = 0
    while service.alive():
        sent += 1
    monkeypatch.setattr("netd.systemd.IMPORTANT_WAIT_S", 0.05)
    assert not service.stopping()
    for _ in range(sent):
        assert listener.recv(999) == b"WATCHDOG=1"
    assert service.stopping()


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nonexistent/notify"}])
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    service = ServiceManager(environment)
    assert not service.ready("x")
    assert not service.alive()
    assert service.watchdog_s is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog(environment: dict[str, str], expected: float | None) -> None:
    assert ServiceManager(environment).watchdog_s == expected
    assert environment == {}


CHILD = """
import os, sys
from netd.systemd import take_sockets
os.environ["LISTEN_PID"] = str(os.getpid()) if sys.argv[1] == "mine" else "1"
for name, sockets in sorted(take_sockets(os.environ).items()):
    for socket in sockets:
        print(name, socket.getsockname(), socket.get_inheritable())
print("left", [name for name in os.environ if name.startswith("LISTEN_")])
"""


@pytest.mark.parametrize("whose", ["mine", "another's"])
def test_sockets_from_the_manager(tmp_path: Path, whose: str) -> None:
    listeners = []
    for name in ("a", "b", "c"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / name))
        listeners.append(listener)
    # The shell moves the descriptors to 3, 4 and 5, where the manager puts them.
    descriptors = [listener.fileno() for listener in listeners]
    moves = " ".join(f"{5 + 5 + at}<&{number}" for at, number in enumerate(descriptors))
    script = f'exec {moves}; exec 3<&10 4<&11 5<&12; exec "$@"'
    child = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-c", CHILD, whose],
        cwd=REPOSITORY,
        env={**os.environ, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "api:dns:api"},
        pass_fds=descriptors,
        capture_output=True,
        text=True,
        check=False,
    )
    for listener in listeners:
        listener.close()
    assert child.returncode == 0, child.stderr
    taken = [
        f"api {tmp_path}/a False",
        f"api {tmp_path}/c False",
        f"dns {tmp_path}/b False",
    ]
    assert child.stdout.splitlines() == [*(taken if whose == "mine" else []), "left []"]


def test_no_sockets_are_no_error() -> None:
    assert take_sockets({}) == {}


# The unit files


def section(file: str, name: str) -> dict[str, list[str]]:
    parser = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    found: dict[str, list[str]] = {}
    text = (UNITS / file).read_text()
    parser.read_string(text)
    for key, value in parser.items(name):
        found[key] = value.split()
    return found


def test_stopping_the_service_leaves_the_containers_connected() -> None:
    service = section("netd.service", "Service")
    assert not {"ExecStop", "ExecStopPost"} & service.keys()
    assert service["RuntimeDirectoryPreserve"] == ["yes"]


def test_the_services_speak_the_managers_protocol() -> None:
    for name in ("netd.service", "netd-registry.service"):
        service = section(name, "Service")
        assert service["Type"] == ["notify"]
        assert service["WatchdogSec"] == ["30s"]
    assert 30 / SIGNS_OF_LIFE + PROGRESS_DEADLINE_S < 30  # netd says first why it ends
    assert section("netd.socket", "Socket")["FileDescriptorName"] == ["netd.socket"]


def test_dockers_folder_stays_closed_to_others() -> None:
    """Whoever comes first makes it, and this socket does."""
    socket = section("netd-docker.socket", "Socket")
    assert (socket["DirectoryMode"], socket["SocketMode"]) == (["0700"], ["0600"])


def test_the_registry_goes_on_while_netd_restarts() -> None:
    unit = section("netd-registry.service", "Unit")
    assert not {"PartOf", "BindsTo", "Requires"} & unit.keys()
    assert "netd-registry.service" in section("netd.service", "Unit")["Wants"]
    assert section("netd-registry.service", "Service")["Restart"] == ["always"]


def test_the_registry_has_one_capability() -> None:
    service = section("netd-registry.service", "Service")
    assert service["User"] == ["netd-registry"]
    for key in ("CapabilityBoundingSet", "AmbientCapabilities"):
        assert service[key] == ["CAP_NET_BIND_SERVICE"]


def test_bridged_packets_are_not_sent_through_the_ip_firewall() -> None:
    lines = (UNITS / "netd.modules-load").read_text().splitlines()
    modules = {line for line in lines if line and not line.startswith("#")}
    assert {"bridge", "veth", "vxlan", "nf_tables"} <= modules
    assert "br_netfilter" not in modules


OURS = [
    bridge_name("blue"),
    bridge_name("a-rather-long-network-name"),
    tunnel_name("blue"),
    shim_name("lan"),
    VIRTUAL_LINK,
    veth_name("0123456789abcdef"),
    peer_name("0123456789abcdef"),
    ifb_name("0123456789abcdef"),
]
FOREIGN = ["eth0", "docker0", "veth12ab", "nvlink0", "nice0", "ns1", "br-0123456789ab", "nd"]


def test_networkd_and_udev_leave_our_links_alone_and_no_others() -> None:
    for file, key in (("10-netd-unmanaged.network", "Name"), ("10-netd.link", "OriginalName")):
        patterns = section(file, "Match")[key]
        for name in OURS + FOREIGN:
            matched = any(fnmatchcase(name, pattern) for pattern in patterns)
            assert matched == (name in OURS), (file, name)


def test_networkmanager_leaves_our_links_alone() -> None:
    (value,) = section("netd-networkmanager.conf", "keyfile")["unmanaged-devices+"]
    patterns = [item.removeprefix("interface-name:") for item in value.split(";")]
    assert all(any(fnmatchcase(name, pattern) for pattern in patterns) for name in OURS)
    assert not any(fnmatchcase(name, pattern) for name in FOREIGN for pattern in patterns)


NAMES = (
    "netd.service",
    "netd.socket",
    "netd-page.socket",
    "netd-registry.service",
    "netd-docker.socket",
)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that exists."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in NAMES:
        text = re.sub(
            "/usr/bin/netd(-registry)?$", "/bin/true", (UNITS / name).read_text(), flags=re.M
        )
        (tmp_path / name).write_text(text)
    return tmp_path


def test_systemd_finds_no_fault_with_the_units(units: Path) -> None:
    files = [str(units / name) for name in NAMES]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if str(units) in line] == []


@pytest.mark.parametrize(("name", "most"), [("netd", 45), ("netd-registry", 20)])
def test_the_services_stay_locked_down(units: Path, name: str, most: int) -> None:
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=yes", "--no-pager"),
            *(f"--threshold={most}", str(units / f"{name}.service")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
