"""Programs that people write for Consul, unmodified, on hosts and in containers; and curl.

The programs are in `consul_programs`. Which library answers to `import consul` is told by the
path: py-consul is installed, python-consul2 has a folder of its own.
"""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.lab.process import die_with_parent

PROGRAMS: Final = Path(__file__).parent / "consul_programs"
CLIENTS: Final = {
    "py-consul": "",
    "python-consul2": str(Path(sys.executable).parents[1] / "consul2"),
}
LINE_S: Final = 20.0
AGENT: Final = "127.0.0.1:8500"

Wrap = Callable[..., Sequence[str]]


class Answer(NamedTuple):
    status: int
    body: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def consul_index(self) -> int:
        return int(self.headers["x-consul-index"])


class Place:
    """Where programs run: a host or a container. `wrap` makes a command one that runs there,
    `agent` is where Consul's API is for it.
    """

    def __init__(
        self, stack: ExitStack, wrap: Wrap, client: str = "py-consul", agent: str = AGENT
    ) -> None:
        self._stack = stack
        self._wrap = wrap
        self.client = client
        self._agent = agent

    def start(self, program: str, *arguments: str) -> "Program":
        """It ends with the test, or with the machine that it is on."""
        return self.python(str(PROGRAMS / f"{program}.py"), *arguments)

    def python(self, *words: str) -> "Program":
        """The same with any program in Python."""
        process = subprocess.Popen(
            self._command(*words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        return Program(self._stack, process, words[0])

    def run(self, program: str, *arguments: str) -> str:
        """What it prints. Fails when it does."""
        done = self._done(program, arguments)
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout.rstrip("\n")

    def failure(self, program: str, *arguments: str) -> str:
        """What it says at its end. Fails when it does not fail."""
        done = self._done(program, arguments)
        assert done.returncode == 1, f"{program}: {done}"
        return done.stderr

    def _done(self, program: str, arguments: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
        command = self._command(str(PROGRAMS / f"{program}.py"), *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def _command(self, *words: str) -> Sequence[str]:
        return self._wrap(
            # On a machine of its own the program is not this process's child.
            *("setpriv", "--pdeathsig", "KILL"),
            *("env", f"PYTHONPATH={CLIENTS[self.client]}", f"CONSUL_HTTP_ADDR={self._agent}"),
            *(sys.executable, *words),
        )

    def curl(self, path: str, *flags: str, body: object = None, timeout_s: int = 20) -> Answer:
        """The answer to `GET`, to `PUT` where there is a body, or to what the flags say. A body
        that is no text is sent as JSON.
        """
        if body is not None:
            flags = ("-X", "PUT", "--data-binary", "@-", *flags)
        done = subprocess.run(
            self._wrap(
                *("curl", "-sS", "-D", "/dev/stderr", "-m", str(timeout_s), *flags),
                f"http://{self._agent}{path}",
            ),
            input=body if isinstance(body, str) else json.dumps(body),
            capture_output=True,
            text=True,
            timeout=timeout_s + 10,
            check=False,
        )
        assert done.returncode == 0, f"{path}: {done.stderr}"
        head = done.stderr.rstrip().splitlines()
        while head[0].startswith("HTTP/1.1 100"):
            del head[:2]
        headers = (line.split(": ", 1) for line in head[1:] if ": " in line)
        found = {name.lower(): value for name, value in headers}
        return Answer(int(head[0].split()[1]), done.stdout, found)

    def answers(self) -> bool:
        """Whether anybody takes a connection where the API is."""
        command = ("curl", "-s", "-o", "/dev/null", "-m", "5", f"http://{self._agent}/")
        done = subprocess.run(self._wrap(*command), timeout=20, check=False)
        return done.returncode == 0

    def passing(self, service: str) -> list[str]:
        """Ids of its healthy instances."""
        rows = self.curl(f"/v1/health/service/{service}?passing").json
        return [row["Service"]["ID"] for row in rows]


class Program:
    """One that was started, line by line."""

    def __init__(self, stack: ExitStack, process: "subprocess.Popen[str]", name: str) -> None:
        self._process = process
        self._name = name
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        stack.callback(self._close)

    def _close(self) -> None:
        self.kill()
        self._reader.join(LINE_S)
        with self._process:  # closes the pipes
            assert not self._reader.is_alive(), f"{self._name} goes on"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, within_s: float = LINE_S) -> str:
        """The next line that it prints."""
        try:
            found = self._lines.get(timeout=within_s)
        except queue.Empty:
            raise AssertionError(f"{self._name} has said nothing for {within_s:g} s") from None
        assert found is not None, f"{self._name} has ended"
        return found

    def tell(self, text: str) -> str:
        """Give it a line; its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()
        return self.line()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(LINE_S)

    def finish(self) -> None:
        """End its input, and wait until it has ended well."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(LINE_S) == 0, f"{self._name} has failed"
