"""Who may call the real daemon, how its socket is made, and what callers cannot reach by it."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from netd.api.listening import BACKLOG
from netd.client.client import Client
from netd.client.errors import ApiError
from tests.e2e.lab import Host
from tests.e2e.wire import Refusal, ask, call, request

# Users and groups that every Debian has; what they are called elsewhere does not matter here.
NOBODY, REGISTRY = 65534, 8
ADMINS, VIEWERS, STRANGERS = 1, 2, 3
CONFIG = '[api]\ngroup = "daemon"\nview_group = "bin"\nregistry_user = "mail"\n'
ROOT = Path(__file__).parents[2]

# Programs are read as root, for whom all of this checkout can be read, and run as the user.
AS_USER = """
import os, sys
from tests.e2e import access_peer
uid, gid, *groups = map(int, sys.argv[3].split(","))
os.setgroups(groups)
os.setgid(gid)
os.setuid(uid)
getattr(access_peer, sys.argv[1])(sys.argv[2], *sys.argv[4:])
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host whose socket is in a folder that all users may enter."""
    with tempfile.TemporaryDirectory(prefix="netd-access-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "netd.toml").write_text(CONFIG)
        host = Host(stack, folder)
        host.start_daemon("--config", str(folder / "netd.toml"))
        yield host


def start_as(
    host: Host, work: str, *arguments: str, uid: int, gid: int, groups: tuple[int, ...] = ()
) -> "subprocess.Popen[str]":
    """Start a function of `access_peer` as another user."""
    ids = ",".join(map(str, (uid, gid, *groups)))
    return subprocess.Popen(
        [sys.executable, "-c", AS_USER, work, host.socket, ids, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_as(host: Host, work: str, *arguments: str, **who: Any) -> Any:
    """Run it to its end; the value that it printed."""
    with start_as(host, work, *arguments, **who) as process:
        printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return json.loads(printed)


# Users

OPERATIONS = ("read", "write")


def calls_of(host: Host) -> list[tuple[str, str, str]]:
    """Every call of the API that is no stream: whether it reads or writes, method, path."""
    return [
        (operation["x-access"], method.upper(), path)
        for path, methods in host.client.openapi()["paths"].items()
        for method, operation in methods.items()
        if path not in ("/v1/events", "/v1/names", "/v1/directory", "/v1/kv-changes")
    ]


@pytest.mark.parametrize(
    ("who", "allowed"),
    [
        ({"uid": NOBODY, "gid": ADMINS}, {"read", "registry", "write"}),
        ({"uid": NOBODY, "gid": STRANGERS, "groups": (ADMINS,)}, {"read", "registry", "write"}),
        ({"uid": NOBODY, "gid": STRANGERS, "groups": (VIEWERS,)}, {"read"}),
        ({"uid": NOBODY, "gid": VIEWERS}, {"read"}),
        ({"uid": REGISTRY, "gid": STRANGERS}, {"read", "registry"}),
    ],
)
def test_what_each_user_may_do(host: Host, who: dict[str, Any], allowed: set[str]) -> None:
    calls = calls_of(host)
    assert {access for access, _, _ in calls} == {"read", "registry", "write"}
    statuses = run_as(host, "make_calls", json.dumps(calls), **who)
    assert len(statuses) == len(calls)
    for (access, method, path), status in zip(calls, statuses, strict=True):
        assert (status != 403) == (access in allowed), (method, path, status)


@pytest.mark.parametrize("who", [{"uid": NOBODY, "gid": STRANGERS}, {"uid": NOBODY, "gid": 0}])
def test_strangers_cannot_even_connect(host: Host, who: dict[str, Any]) -> None:
    assert run_as(host, "make_calls", json.dumps(calls_of(host)), **who) == "Permission denied"


def test_a_stranger_who_can_connect_is_refused(host: Host) -> None:
    """As where an administrator has opened the socket's mode."""
    Path(host.socket).chmod(0o666)
    try:
        calls = calls_of(host)
        statuses = run_as(host, "make_calls", json.dumps(calls), uid=NOBODY, gid=STRANGERS)
        assert statuses == [403] * len(calls)
    finally:
        Path(host.socket).chmod(0o660)


def test_netctl_tells_a_viewer_what_he_lacks(host: Host) -> None:
    made = run_as(host, "run_netctl", "network", "create", "red", uid=NOBODY, gid=VIEWERS)
    assert (made["code"], made["out"]) == (1, "")
    assert "user id 65534 may not change this" in made["err"]
    assert "Run netctl as root or as a member of the group" in made["err"]
    seen = run_as(host, "run_netctl", "network", "ls", uid=NOBODY, gid=VIEWERS)
    assert (seen["code"], seen["err"]) == (0, "")
    kept_out = run_as(host, "run_netctl", "network", "ls", uid=NOBODY, gid=STRANGERS)
    assert kept_out["code"] == 5
    assert f"not allowed to connect to {host.socket}" in kept_out["err"]


def test_a_plugin_of_others_is_told_that_it_may_not(host: Host) -> None:
    """Not to try again later: that would be for ever."""
    assert run_as(host, "run_cni", uid=NOBODY, gid=STRANGERS) == [102, 102]


def test_one_user_cannot_take_all_connections(host: Host) -> None:
    with start_as(host, "hold_connections", "1100", uid=NOBODY, gid=VIEWERS) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        told = json.loads(process.stdout.readline())
        assert told["served"] == 1024
        assert told["refused"] == 1100 - 1024
        assert told["problem"]["code"] == "unavailable"
        assert "user id 65534 has 1024 connections open" in told["problem"]["detail"]
        assert ask(host.socket, request("GET", "/healthz")).status == 200  # root is served
        registry = run_as(host, "make_calls", '[["read","GET","/healthz"]]', uid=REGISTRY, gid=3)
        assert registry == [200]
        process.stdin.write("drop\n")  # all but a few
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == 200  # there is room again
        process.communicate()


# The socket


def test_modes_of_what_the_daemon_makes(host: Host) -> None:
    status = Path(host.socket).stat()
    assert stat.filemode(status.st_mode) == "srw-rw----"
    assert (status.st_uid, status.st_gid) == (0, ADMINS)
    lock = Path(f"{host.socket}.lock").stat()
    assert stat.filemode(lock.st_mode) == "-rw-------"
    state = host.folder / "state"
    assert stat.filemode(state.stat().st_mode) == "drwx------"
    assert not [path for path in state.iterdir() if path.stat().st_mode & 0o077]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text("precious"), "is not a socket"),
        (lambda path: path.mkdir(), "is not a socket"),
        (lambda path: path.symlink_to("/etc/passwd"), "is not a socket"),
        (lambda path: path.symlink_to(path.with_name("nothing")), "is not a socket"),
        (lambda path: os.mkfifo(path), "is not a socket"),
        (lambda path: path.with_name("netd.sock.lock").symlink_to("/etc/passwd"), "cannot lock"),
    ],
)
def test_a_path_that_belongs_to_something_else(
    stack: ExitStack, tmp_path: Path, make: Any, says: str
) -> None:
    host = Host(stack, tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "netd.sock"
    host.socket = str(path)
    make(path)
    before = sorted((entry.name, entry.lstat().st_mode) for entry in tmp_path.glob("run/*"))
    host.launch()
    assert host.await_end() == 1
    said = host.log.read_text()
    assert says in said.splitlines()[-1], said
    assert "Traceback" not in said
    after = sorted((entry.name, entry.lstat().st_mode) for entry in tmp_path.glob("run/*"))
    assert [entry for entry in after if entry[0] != "netd.sock.lock"] == [
        entry for entry in before if entry[0] != "netd.sock.lock"
    ]


def test_a_second_daemon_leaves_the_first_alone(host: Host) -> None:
    done = subprocess.run(
        host.wrap(
            *(sys.executable, "-m", "netd.daemon.main", "--socket", host.socket),
            *("--state-dir", str(host.folder / "other"), "--no-registry"),
        ),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "another netd uses" in done.stderr
    assert host.client.status()["ready"]


def test_a_killed_daemons_socket_is_replaced(cold_host: Host) -> None:
    cold_host.start_daemon()
    cold_host.kill()
    assert Path(cold_host.socket).is_socket()
    cold_host.start_daemon()
    cold_host.stop_daemon()
    assert not Path(cold_host.socket).exists()


# Paths


def test_the_daemons_own_descriptors_are_no_way_to_the_host(host: Host) -> None:
    """A caller may name /proc/self/fd/N, which is the daemon's, and one of them is the host's."""
    host.client.create_network(name="paths", driver="bridge")
    try:
        held = list(Path(f"/proc/{host.daemon_pid}/fd").iterdir())
        assert f"net:[{Path(host.path).stat().st_ino}]" in [str(link.readlink()) for link in held]
        for link in held:
            target = f"/proc/self/fd/{link.name}"
            answer = call(
                host.socket, "POST", "/v1/networks/paths/endpoints",
                {"container_id": "c", "netns": target, "ifname": "steal0"},
            )  # fmt: skip
            assert answer.status in (400, 404), (target, answer)
        assert "steal0" not in host.links()
    finally:
        host.client.delete_network("paths")


def test_a_path_that_is_swapped_meanwhile_leads_to_one_of_both(host: Host) -> None:
    """What was checked is what is used: never the host, whatever the path leads to later."""
    host.client.create_network(name="swap", driver="bridge")
    container = host.container()
    path, other = host.folder / "swapped", host.folder / "next"
    stop = threading.Event()

    def swap() -> None:
        targets = [container.path, host.path]
        while not stop.is_set():
            targets.reverse()
            with suppress(FileNotFoundError):
                other.unlink()
            other.symlink_to(targets[0])
            other.replace(path)

    before = host.links()
    path.symlink_to(container.path)
    swapper = threading.Thread(target=swap)
    swapper.start()
    outcomes: dict[str, int] = {}
    try:
        for number in range(150):
            try:
                made = host.client.attach(
                    "swap", container_id="c", netns=str(path), ifname=f"s{number}"
                )
                assert f"s{number}" in container.links()
                outcome = "attached"
                host.client.detach(made["id"])
            except ApiError as error:
                outcome = error.code
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    finally:
        stop.set()
        swapper.join()
    assert not [link for link in host.links() if re.match(r"s\d", link)]
    # The host's own is refused; one that turns into another between check and use is gone.
    assert outcomes.keys() <= {"attached", "invalid", "kernel", "not-found"}, outcomes
    assert outcomes["attached"]
    assert outcomes["invalid"]
    path.unlink()
    host.client.detach_container("c")
    assert host.client.plan() == []
    host.client.delete_network("swap")
    assert set(host.links()) <= set(before)


# Content

NASTY = "\x1b]0;owned\x07\x1b[31m\n\r\u202e'\";$(id)`{}%s\0"


def test_what_callers_write_steers_nothing(host: Host) -> None:
    """Neither the ruleset, nor the log, nor the terminal of who looks at it."""
    folder = host.folder / "dir\x1b[31m\nnetd: owned"
    folder.mkdir()
    host.client.create_network(name="ink", driver="bridge", labels={NASTY: NASTY})
    container = host.container()
    path = folder / "ns"
    path.symlink_to(container.path)
    try:
        made = host.client.attach(
            "ink", container_id="c", netns=str(path), labels={NASTY: NASTY}, aliases=["a"]
        )
        assert (made["labels"], made["netns"]) == ({NASTY: NASTY}, str(path))
        for target in (NASTY.replace("\0", ""), "x\x1b[31m"):
            with pytest.raises(ApiError) as caught:
                host.client.attach(target, container_id="c", netns=str(path))
            assert caught.value.code == "not-found"
        path.unlink()  # makes the daemon speak of the path
        host.client.reconcile()
        rules = host.run("nft", "list", "ruleset")
        assert "owned" not in rules
        for command in (
            ("network", "inspect", "ink"),
            ("network", "ls"),
            ("endpoint", "inspect", made["id"]),
            ("endpoint", "ls"),
            ("plan",),
        ):
            shown = run_as(host, "run_netctl", *command, uid=0, gid=0)
            assert shown["code"] in (0, 3)
            for line in (shown["out"] + shown["err"]).splitlines():
                assert line.isprintable(), line
        for line in host.log.read_bytes().split(b"\n"):
            assert line.decode().isprintable(), line
            assert not line.startswith(b"netd: owned")
    finally:
        host.client.detach_container("c")
        host.client.delete_network("ink")


# Slowness


def test_slow_and_silent_peers_hinder_nobody(host: Host) -> None:
    """Slowloris: requests that never end, bodies that never come, peers that never read."""
    with ExitStack() as stack:
        for number in range(300):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.connect(host.socket)
            if number % 3 == 0:
                peer.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
            elif number % 3 == 1:
                peer.sendall(b"POST /v1/networks HTTP/1.1\r\nHost: n\r\nContent-Length: 9\r\n\r\n{")
            else:
                peer.sendall(request("GET", "/v1/openapi.json", last=False) * 20)
        for _ in range(20):
            answer = ask(host.socket, request("GET", "/v1/networks"))
            assert answer.status == 200
        Refusal(404, "not-found", None, "there is no").check(
            ask(host.socket, request("GET", "/nothing"))
        )


def test_a_burst_of_callers_waits_for_its_turn(host: Host) -> None:
    """More at once than the socket's queue holds: each is served, none is turned away."""

    def ask_status() -> bool:
        with Client(host.socket) as client:
            return bool(client.status()["ready"])

    os.kill(host.daemon_pid, signal.SIGSTOP)
    with ThreadPoolExecutor(700) as threads:
        answers = [threads.submit(ask_status) for _ in range(700)]
        try:
            while _queued(host) <= BACKLOG:
                time.sleep(0.01)  # nothing tells from outside that the queue is full
        finally:
            os.kill(host.daemon_pid, signal.SIGCONT)
        assert all(answer.result() for answer in answers)


def _queued(host: Host) -> int:
    """How many connections wait to be accepted."""
    for line in host.run("ss", "-Hxl").splitlines():
        if host.socket in line:
            return int(line.split()[2])
    raise AssertionError("the daemon does not listen")
