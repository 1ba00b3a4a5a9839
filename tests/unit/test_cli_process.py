"""netctl as a process: start-up, signals, pipes, terminals, help and completion."""

import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from netd.cli.main import cli
from tests.unit.cli_daemon import ENDPOINT, NETWORK, Daemon, Netctl, serving

NETCTL = (sys.executable, "-m", "netd.cli.main")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        daemon.on("GET", "/v1/networks", [NETWORK])
        daemon.on("GET", "/v1/endpoints", [ENDPOINT])
        daemon.on("GET", "/v1/doctor", [{"check": "kernel", "level": "ok", "detail": "6.18"}])
        yield daemon


def environment(daemon: Daemon, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return kept | {"NETD_SOCKET": str(daemon.path)} | more


def test_a_command_imports_nothing_heavy(daemon: Daemon) -> None:
    program = (
        "import sys, json\n"
        "from netd.cli.main import cli\n"
        "cli(['network', 'ls', '-q'], standalone_mode=False)\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), env=environment(daemon), capture_output=True, check=True
    )
    names, modules = done.stdout.splitlines()
    assert names == b"blue"
    loaded = set(json.loads(modules))
    heavy = {
        "aiohttp", "asyncio", "msgspec", "pyroute2", "ctypes", "http.client", "ssl",
        "prometheus_client", "netd.model", "netd.engine", "netd.cli.endpoint",
    }  # fmt: skip
    assert not heavy & loaded


def test_an_interrupt_ends_events_in_silence(daemon: Daemon) -> None:
    daemon.stream("/v1/events", [first_event()])
    with subprocess.Popen(
        (*NETCTL, "events"), env=environment(daemon), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert b"endpoint.attached" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=10)
    assert rest == (b"", b"")
    assert process.returncode == -signal.SIGINT


def test_events_end_with_their_reader(daemon: Daemon) -> None:
    daemon.stream("/v1/events", [first_event()])
    with subprocess.Popen(
        (*NETCTL, "events"), env=environment(daemon), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"endpoint.attached" in process.stdout.readline()
        process.stdout.close()
        # No second event comes: the end of the reader alone has to be noticed.
        assert process.wait(timeout=10) == 1
        assert process.stderr.read() == b""


def test_a_closed_pipe_is_no_traceback(daemon: Daemon) -> None:
    daemon.on("GET", "/v1/networks", [NETWORK] * 2000)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            (*NETCTL, "network", "ls"), env=environment(daemon),
            stdout=writing, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.stderr, done.returncode) == (b"", 1)


def first_event() -> dict[str, object]:
    return {
        "revision": 1, "at": "2026-01-02T03:04:05Z", "type": "endpoint.attached",
        "object": "x", "name": "web", "detail": "", "data": {},
    }  # fmt: skip


def on_terminal(daemon: Daemon, *arguments: str, **env: str) -> str:
    """What netctl writes to a terminal."""
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            (*NETCTL, *arguments), env=environment(daemon, **env), stdout=slave
        )
        os.close(slave)
        shown = b""
        while True:
            try:
                part = screen.read(4096)
            except OSError:  # EIO: the last process has closed the terminal
                break
            shown += part
        assert process.wait(timeout=10) == 0
    return shown.decode().replace("\r\n", "\n")


def test_colour_is_for_terminals_that_want_it(daemon: Daemon) -> None:
    assert on_terminal(daemon, "doctor") == "\x1b[32mok\x1b[0m       kernel  6.18\n"
    assert on_terminal(daemon, "doctor", NO_COLOR="1") == "ok       kernel  6.18\n"
    assert Netctl(daemon.path)("doctor").stdout == "ok       kernel  6.18\n"


def test_json_is_indented_on_a_terminal(daemon: Daemon) -> None:
    shown = on_terminal(daemon, "network", "ls", "--json")
    assert shown == json.dumps([NETWORK], indent=2) + "\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("network", "ls"), "Error: no netd answers on {path}\nStart it with"),
        (("events",), "Error: no netd answers on {path}\nStart it with"),
    ],
)
def test_no_daemon_is_exit_code_5(tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    path = tmp_path / "none.sock"
    result = Netctl(path)(*arguments)
    assert result.stderr.startswith(line.format(path=path))
    assert (result.stdout, result.exit_code) == ("", 5)


def test_the_option_wins_over_the_environment(daemon: Daemon) -> None:
    result = Netctl(Path("/none"))("--socket", str(daemon.path), "network", "ls", "-q")
    assert result.stdout == "blue\n"


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


LEAVES = [(path, cmd) for path, cmd in commands(cli) if not isinstance(cmd, click.Group)]


def test_all_commands_are_there() -> None:
    assert [" ".join(path) for path, _ in LEAVES] == [
        "completion", "dns status", "dns trace", "doctor",
        "endpoint attach", "endpoint detach", "endpoint inspect", "endpoint ls", "endpoint update",
        "events", "explain", "import cni", "import docker", "import podman",
        "key generate", "key install", "key ls", "key rm", "key rotate", "key use",
        "kv delete", "kv get", "kv ls", "kv move", "kv put", "kv status",
        "member inspect", "member join", "member leave", "member ls", "member token",
        "network create", "network inspect", "network ls", "network reclaim", "network rm",
        "plan", "reconcile", "resolve", "run",
        "service deregister", "service expose", "service fail", "service inspect", "service ls",
        "service maintenance", "service pass", "service register", "service unexpose",
        "service virtual inspect", "service virtual ls", "service warn",
        "status", "topology", "version", "wait",
    ]  # fmt: skip


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=lambda value: str(value))
def test_help_has_examples_that_are_valid(path: tuple[str, ...], command: click.Command) -> None:
    shown = Netctl(Path("/none"))(*path, "--help").stdout
    examples = [line.strip() for line in shown.splitlines() if line.startswith("    netctl ")]
    assert examples
    for example in examples:
        arguments = shlex.split(example.partition(">")[0])[1:]
        assert tuple(arguments[: len(path)]) == path
        command.make_context(path[-1], arguments[len(path) :]).close()


@pytest.mark.parametrize(("path", "command"), list(commands(cli)), ids=lambda value: str(value))
def test_short_help_is_not_cut(path: tuple[str, ...], command: click.Command) -> None:
    assert not command.get_short_help_str(limit=70).endswith("...")


def complete(path: Path, line: str) -> list[str]:
    """What the shell offers at the end of `line`."""
    words = line.split(" ")
    done = subprocess.run(
        NETCTL,
        env=os.environ
        | {
            "NETD_SOCKET": str(path),
            "_NETCTL_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return [offer.partition(",")[2] for offer in done.stdout.split()]


def test_completion_knows_commands_and_live_names(daemon: Daemon) -> None:
    assert complete(daemon.path, "netctl net") == ["network"]
    assert complete(daemon.path, "netctl network rm b") == ["blue"]
    assert complete(daemon.path, "netctl network rm x") == []
    assert complete(daemon.path, "netctl endpoint detach ") == ["3f9a1c0de5b72468"]
    assert complete(daemon.path, "netctl endpoint ls --container ") == ["c" * 64]
    daemon.on("GET", "/v1/members", [{"name": "host-1", "state": "alive"}])
    assert complete(daemon.path, "netctl member inspect h") == ["host-1"]
    daemon.on("GET", "/v1/keys", [{"id": "8f31c09a", "primary": True}])
    assert complete(daemon.path, "netctl key use ") == ["8f31c09a"]


def test_completion_is_silent_without_a_daemon(tmp_path: Path) -> None:
    assert complete(tmp_path / "none.sock", "netctl network inspect ") == []


def test_completion_does_not_wait_for_a_daemon_that_hangs(tmp_path: Path) -> None:
    path = tmp_path / "netd.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        begun = time.monotonic()
        assert complete(path, "netctl network inspect ") == []
        assert time.monotonic() - begun < 5  # of the client's 30 s


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_netctl_back(shell: str) -> None:
    script = Netctl(Path("/none"))("completion", shell).stdout
    assert f"_NETCTL_COMPLETE={shell}_complete" in script


def test_the_script_for_bash_completes_in_bash(daemon: Daemon, tmp_path: Path) -> None:
    launcher = tmp_path / "bin" / "netctl"
    launcher.parent.mkdir()
    launcher.write_text(f'#!/bin/sh\nexec {shlex.join(NETCTL)} "$@"\n')
    launcher.chmod(0o755)
    script = Netctl(daemon.path)("completion", "bash").stdout
    (tmp_path / "completion").write_text(script)
    program = (
        f"source {shlex.quote(str(tmp_path / 'completion'))}\n"
        "COMP_WORDS=(netctl network inspect b); COMP_CWORD=3\n"
        '_netctl_completion netctl; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{launcher.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ("bash", "--norc", "-c", program), env=environment(daemon, PATH=path),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "blue\n"
