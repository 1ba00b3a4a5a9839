"""script: a program ends with 0 (passing), 1 (warning) or anything else (critical).

It runs as the registry's user, without the registry's one privilege, in a session of its own. It
and what it has started are killed at the deadline, and what it has left behind at its end.
"""

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

from netd.model.service import CheckResult
from netd.registry.checks.probe import (
    OUTPUT_MAX,
    Failed,
    Run,
    critical,
    passing,
    text_of,
    warning,
)

_MARK: Final = "NETD_CHECK_RUN"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# It gets none of the registry's capabilities, and ends if the registry does.
_BARE: Final = (
    *("setpriv", "--ambient-caps=-all", "--inh-caps=-all", "--no-new-privs"),
    *("--pdeathsig=KILL", "--"),
)
_READ_MAX: Final = 64 * 1024
_END_S: Final = 5.0
_KILL_PASSES: Final = 5  # over /proc; each finds what has been started meanwhile


async def run(run: Run) -> CheckResult:
    """Raises `Failed` when the program cannot be started."""
    mark = token_hex(16)
    run.stage = f"end of {run.probe.spec.args[0] if run.probe.spec.args else 'nothing'}"
    process = await _started(run, mark)
    output = _Output(process)
    try:
        await _ended(process)
    finally:
        output.stop()
        await asyncio.shield(asyncio.to_thread(_sweep, process, mark))
    return _verdict(process.returncode, text_of(output.kept))


async def _started(run: Run, mark: str) -> "subprocess.Popen[bytes]":
    if not run.probe.spec.args:
        raise Failed("a script check needs args: a program and its arguments")
    starting = asyncio.ensure_future(asyncio.to_thread(_start, run, mark))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # The thread goes on: what it starts has to be ended all the same.
        starting.add_done_callback(lambda done: _drop(done, mark))
        raise
    except (OSError, ValueError) as error:
        raise Failed(f"cannot start {run.probe.spec.args[0]!r}: {error}") from None


def _start(run: Run, mark: str) -> "subprocess.Popen[bytes]":
    probe = run.probe
    return subprocess.Popen(
        [*_BARE, *probe.spec.args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
        env={
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "NETD_SERVICE_ID": probe.service,
            "NETD_CHECK_ID": probe.check,
            "NETD_ADDRESS": probe.address,
            "NETD_PORT": str(probe.port),
            _MARK: mark,
        },
    )


def _drop(starting: "asyncio.Future[subprocess.Popen[bytes]]", mark: str) -> None:
    if not starting.cancelled() and starting.exception() is None:
        _sweep(starting.result(), mark)


class _Output:
    """Takes what the program writes as it comes, and keeps the beginning of it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        self.kept = b""
        self._pipe = process.stdout
        self._loop = asyncio.get_running_loop()
        os.set_blocking(self._pipe.fileno(), False)
        self._loop.add_reader(self._pipe.fileno(), self._read)

    def stop(self) -> None:
        """Take what is there, and no more: what it has started may hold the pipe open."""
        if not self._pipe.closed:
            self._read()
            self._close()

    def _read(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), _READ_MAX)
        except BlockingIOError:
            return
        if not data:
            self._close()
        self.kept = (self.kept + data)[: OUTPUT_MAX * 4]  # bytes: UTF-8 has up to four for each

    def _close(self) -> None:
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()


async def _ended(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the process itself. It is a zombie afterwards, so its number is nobody else's."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    try:
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)


def _sweep(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """Kill the program, its process group, and whoever has left that but still has its mark."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for _ in range(_KILL_PASSES):
        if not [pid for pid in _processes() if _kill_marked(pid, mark)]:
            break
    with suppress(subprocess.TimeoutExpired):  # the kernel itself may be at a dead disk
        process.wait(_END_S)
    if process.stdout is not None:
        process.stdout.close()


def _processes() -> list[int]:
    own = os.getpid()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    return [pid for pid in pids if pid != own]


def _kill_marked(pid: int, mark: str) -> bool:
    """Whether this process had to be killed. Those of other users do not let us look."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        if f"{_MARK}={mark}".encode() not in environment.split(b"\0"):
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _verdict(code: int, output: str) -> CheckResult:
    if code == 0:
        return passing(output or "exit status 0")
    if code == 1:
        return warning(output or "exit status 1")
    how = f"exit status {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
    return critical(f"{how}: {output}" if output else how)
