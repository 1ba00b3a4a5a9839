"""The registry's process, where no service manager looks after it.

netd starts it, starts it again when it ends, and leaves it alone when netd itself ends: names are
answered while netd restarts, and the next netd finds it by `registry.pid` in the state folder.
"""

import asyncio
import logging
import os
import pwd
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

import netd
from netd.api.auth import Authority
from netd.daemon.page import PageSocket
from netd.engine.interfaces import WatchedProcess
from netd.kernel.processes import watch_process
from netd.model.errors import NetdError

log = logging.getLogger(__name__)

RESTART_MIN_S: Final = 0.2
RESTART_MAX_S: Final = 5.0
STEADY_S: Final = 10.0  # who has lived so long is started again at once
_END_S: Final = 2.0
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "JOURNAL_STREAM", "SSL_CERT_FILE", "SSL_CERT_DIR")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class _Record(msgspec.Struct, frozen=True):
    """What `registry.pid` holds; it says which process is meant even when pids come again."""

    pid: int
    start_ticks: int
    boot_id: str
    version: str


class RegistryProcess:
    """One registry for the API at `socket`. `pid` is its process, 0 while there is none.

    It runs as `user`, or as `nobody` where there is no such user; its page is on `page`.
    """

    def __init__(
        self,
        socket: str,
        state_dir: Path,
        user: str,
        log_level: str,
        page: PageSocket | None = None,
    ) -> None:
        self.pid = 0
        self._borrowed = not _exists(user)
        self._user = "nobody" if self._borrowed else user
        self._command = [
            *(sys.executable, "-P", "-m", "netd.registry.main"),
            *("--socket", socket, "--user", self._user, "--log-level", log_level),
        ]
        self._page = page
        self._file = state_dir / "registry.pid"
        self._child: subprocess.Popen[bytes] | None = None
        self._watch: WatchedProcess | None = None
        self._ended = asyncio.Event()
        self._how = ""

    def admitted(self, authority: Authority) -> Authority:
        """`authority`, and that the registry may call, but no other program of `nobody`."""
        if not self._borrowed:
            return authority
        uid = pwd.getpwnam(self._user).pw_uid
        return replace(authority, registry_uid=uid, registry_pid=lambda: self.pid)

    async def adopt(self) -> None:
        """Take over what an earlier netd has started. One of another version is ended."""
        version = self.find()
        if version == netd.__version__:
            log.info("the registry goes on as process %d", self.pid)
        elif version is not None:
            log.info("the registry is of version %s: it is replaced", version)
            await self.end()

    def find(self) -> str | None:
        """Look for one that an earlier netd has started; its version, None if there is none."""
        record = _read(self._file)
        if record is None or record.boot_id != _boot_id():
            return None
        try:
            self._watch_over(record.pid, record.start_ticks)
        except NetdError:  # it has ended
            return None
        return record.version

    async def keep(self) -> None:
        """Have it run, for ever."""
        delay_s = 0.0
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            if not self.pid:
                try:
                    self._start()
                except (OSError, NetdError) as error:
                    log.error("the registry does not start: %s", error)
            if self.pid:
                await self._ended.wait()
                log.error("the registry has ended%s", self._how)
            if loop.time() - began_s >= STEADY_S:
                delay_s = 0.0
                continue
            delay_s = min(max(delay_s * 2, RESTART_MIN_S), RESTART_MAX_S)
            await asyncio.sleep(delay_s)

    def leave(self) -> None:
        """netd ends: the registry waits a while for the next one, see `netd.registry.service`."""
        if self.pid:
            _send(self.pid, signal.SIGUSR1)
        if self._watch is not None:
            self._watch.stop()

    async def end(self) -> None:
        """Have it end, by force if it does not by itself."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.pid:
                return
            _send(self.pid, number)
            try:
                async with asyncio.timeout(_END_S):
                    await self._ended.wait()
            except TimeoutError:
                log.warning("the registry does not end")

    def _start(self) -> None:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment["PYTHONPATH"] = str(Path(netd.__file__).parents[1])
        # It waits for a word before it does anything, and ends if the other end is closed without:
        # so there is none that the file does not name, whenever netd is killed.
        waiting, telling = os.pipe()
        page = self._page.open() if self._page is not None else None
        handed = [waiting] if page is None else [waiting, page.fileno()]
        flags = ("--await-word", "--page-socket")
        given = [str(word) for pair in zip(flags, handed, strict=False) for word in pair]
        try:
            self._child = subprocess.Popen(
                [*self._command, *given],
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=environment,
                pass_fds=handed,
                start_new_session=True,  # it does not get what a terminal sends netd
            )
            ticks = self._watch_over(self._child.pid, None)
            record = _Record(self._child.pid, ticks, _boot_id(), netd.__version__)
            new = self._file.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(record))
            new.replace(self._file)
            os.write(telling, b"!")
        finally:
            os.close(waiting)
            os.close(telling)
            if page is not None:
                page.close()
        log.info("the registry is process %d", self._child.pid)

    def _watch_over(self, pid: int, start_ticks: int | None) -> int:
        """Be told when it ends; its start. Raises `NetdError` when it has."""
        self._ended.clear()
        self._watch = watch_process(pid, start_ticks, self._is_over)
        self.pid = pid
        return self._watch.start_ticks

    def _is_over(self) -> None:
        # The exit code, or the signal below zero; of one that is not a child nobody but init knows.
        child, self._child = self._child, None
        self._how = "" if child is None else f" with {child.wait()}"
        self.pid = 0
        self._watch = None
        self._ended.set()


async def end_left_over(state_dir: Path) -> bool:
    """End a registry whose netd runs no more; whether there was one."""
    left = RegistryProcess("", state_dir, "", "")
    found = left.find() is not None
    await left.end()
    return found


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _read(file: Path) -> _Record | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        log.warning("%s: %s", file, error)
        return None


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended, and the event loop does not know yet
        os.kill(pid, number)
