"""A program that goes on while something happens."""

import ctypes
import signal
import subprocess
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_END_S: Final = 20.0
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """To be called in a child: it is killed when its parent ends, however that ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A program that was started; text is what it says, line by line."""

    def __init__(self, process: "subprocess.Popen[str]", what: str) -> None:
        self._process = process
        self.what = what

    def line(self) -> str:
        """The next line that it prints, without its end; empty at the end."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def await_line(self, expected: str) -> None:
        """Wait for its next line, which has to be `expected`."""
        line = self.line()
        if line != expected:
            _, errors = self._process.communicate(timeout=_END_S)
            raise AssertionError(f"{self.what} said {line!r}, not {expected!r}: {errors}")

    def tell(self, text: str) -> None:
        """Give it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()

    def finish(self, timeout_s: float = _END_S) -> str:
        """End its input and wait for it; the rest of what it prints. Fails when it does."""
        told, errors = self._process.communicate(timeout=timeout_s)
        assert self._process.returncode == 0, f"{self.what}: {told}{errors}"
        return told

    def stop(self) -> None:
        """End it; nothing if it has ended."""
        with self._process:  # closes its input, which ends it wherever it is
            self._process.kill()

    @property
    def running(self) -> bool:
        return self._process.poll() is None


def spawn(command: list[str], what: str) -> Process:
    """Start a local command that ends with this process, however that ends."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )
    return Process(process, what)
