"""`netctl run`: commands that have a network for as long as they run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.lab import Host, await_true, ip_of
from tests.e2e.registry_lab import host_with_registry

NETCTL = (sys.executable, "-m", "netd.cli.main")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with host_with_registry() as host:
        host.client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24"])
        yield host


@contextmanager
def running(host: Host, *words: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        host.wrap(*NETCTL, "run", *words), env={**os.environ, "NETD_SOCKET": host.socket},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


def ended(host: Host, *words: str) -> tuple[int, str, str]:
    """Its exit code and what it wrote; its endpoint is gone then."""
    with running(host, *words) as process:
        out, err = process.communicate(timeout=20)
    assert host.client.endpoints() == []
    assert "Traceback" not in err
    return process.returncode, out, err


def test_a_command_has_an_interface_and_nothing_else(host: Host) -> None:
    code, out, err = ended(host, "blue", "--address", "10.20.0.77", "--", "ip", "-j", "address")
    assert code == 0
    assert [link["ifname"] for link in json.loads(out)] == ["lo", "eth0"]
    assert "10.20.0.77" in out
    assert "on blue: 10.20.0.77/24" in err


def test_names_are_those_of_the_network(host: Host) -> None:
    with running(host, "blue", "--name", "web", "--", "sleep", "60") as web:
        await_true(lambda: [each["name"] for each in host.client.endpoints()] == ["web"])
        with running(host, "blue", "--", "getent", "ahostsv4", "web") as client:
            out, _ = client.communicate(timeout=20)
        assert out.startswith(ip_of(host.client.endpoints()[0]))
        web.terminate()
        assert web.wait(10) == 128 + signal.SIGTERM  # the command has been told, too
    assert host.client.endpoints() == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("blue", "--", "sh", "-c", "exit 7"), 7, ""),
        (("blue", "--", "sh", "-c", "kill -KILL $$"), 128 + signal.SIGKILL, ""),
        (("blue", "--", "no-such-command"), 127, "no command 'no-such-command'"),
        (("red", "--", "true"), 3, "no network 'red'"),
        (("blue", "--address", "10.99.0.1", "--", "true"), 2, "10.99.0.1"),
        (("blue",), 2, "COMMAND"),
    ],
)
def test_exit_codes(host: Host, words: tuple[str, ...], code: int, says: str) -> None:
    got, out, err = ended(host, *words)
    assert (got, out) == (code, "")
    assert says in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_before_the_command_begins(host: Host, number: signal.Signals) -> None:
    os.kill(host.daemon_pid, signal.SIGSTOP)
    try:
        with running(host, "blue", "--", "echo", "ran") as process:
            await_true(lambda: heeds_signals(process.pid), within_s=20)
            process.send_signal(number)
            await_true(lambda: not children(process.pid))
            os.kill(host.daemon_pid, signal.SIGCONT)
            out, err = process.communicate(timeout=20)
    finally:
        os.kill(host.daemon_pid, signal.SIGCONT)
    assert (process.returncode, out, err) == (128 + number, "", "")
    assert host.client.endpoints() == []


def heeds_signals(pid: int) -> bool:
    """Whether a netctl has come to where it has its child, and handlers."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught & 1 << signal.SIGTERM - 1)


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_the_command_outlives_netctl_with_its_network(host: Host) -> None:
    """Nobody detaches it then but the daemon, when it ends."""
    with running(host, "blue", "--", "sh", "-c", "echo $$; exec sleep 60") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        process.wait(10)
    assert len(host.client.endpoints()) == 1
    os.kill(pid, signal.SIGKILL)
    await_true(lambda: host.client.endpoints() == [])


def test_without_the_daemon_nothing_runs(host: Host) -> None:
    process = subprocess.run(
        host.wrap(*NETCTL, "--socket", "/nowhere", "run", "blue", "--", "echo", "ran"),
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (process.returncode, process.stdout) == (5, "")
    assert "no netd answers" in process.stderr
