"""The commands in pages of documentation, run as they stand there.

A block that begins with ```console holds commands and what they print. A command begins with
`$ `, or with `outside$ `, `host-2$ ` and so on when another machine runs it, and goes on in lines
with `> `; the lines below it are its output, standard error included. Output is compared after
NORMAL has been applied to both sides; a line `...` stands for any lines. A command must succeed,
unless the next one is `echo $?`. Blocks of other kinds are not run here; one that begins with
```console and a word is run by the test of that name, which has what it needs.

`python -m tests.e2e.pages PAGE...` runs pages and writes what came out into them.
"""

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.lab import Host, Namespace

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
START: Final = "## Start netd by hand"  # of README.md: what all other pages begin with
HOST: Final = "host-1"
OUTSIDE: Final = "outside"
# Of further hosts; that of the first is `Host.ADDRESS`.
ADDRESSES: Final = {"host-2": "192.0.2.20", "host-3": "192.0.2.30"}

# What differs from run to run, and what it becomes.
NORMAL: Final = (
    (re.compile(r"\b(nv|ni)[0-9a-f]{12}\b"), r"\1<id>"),
    (re.compile(r"\b([0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{64})\b"), "<id>"),
    (re.compile(r"\b(key|use|rm) [0-9a-f]{8}\b|^[0-9a-f]{8}\b"), "<key>"),
    (re.compile(r"^(rtt_ms|clock_offset_ms|epoch|incarnation) +\S+$"), r"\1 <n>"),
    (re.compile(r"\bRTT +"), "RTT "),
    (re.compile(r"\balive +[0-9.]+ ms$"), "alive"),  # a host that has not been pinged has none
    (re.compile(r"\b(alive|suspect|dead|left) +(?:[0-9]+\.[0-9]|-) +"), r"\1 <rtt> "),
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z"), "<time>"),
    (re.compile(r"[0-9./]+ ms\b"), "<n> ms"),
    (re.compile(r"@if\d+"), "@if<n>"),
    (re.compile(r"\b[12]\d{9}\b"), "<table>"),  # of one endpoint, see netd/plan/interior.py
    (re.compile(r"\bLinux \d+\.\d+\.\d+\S*"), "Linux <version>"),
    (re.compile(r"process \d+"), "process <n>"),
    (re.compile(r"\brun-\d+-[0-9a-f]{8}\b"), "run-<id>"),
    (re.compile(r"net:\[\d+\]"), "net:[<n>]"),
)
_END: Final = "\x1e"
_COMMAND: Final = re.compile(r"(outside|host-[1-3])?\$ (.*)")


@dataclass
class Step:
    """One command of a page: its first line's number, counted from 1, and what it prints."""

    line: int
    machine: str
    command: list[str]
    output: list[str]

    @property
    def end(self) -> int:
        return self.line + len(self.command) + len(self.output)


def steps_of(text: str, kind: str = "console") -> list[Step]:
    """The commands in a page's blocks of that kind."""
    steps: list[Step] = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            inside = line == f"```{kind}"
        elif inside and (found := _COMMAND.fullmatch(line)):
            steps.append(Step(number, found[1] or HOST, [found[2]], []))
        elif inside and line.startswith("> ") and not steps[-1].output:
            steps[-1].command.append(line[2:])
        elif inside:
            steps[-1].output.append(line)
    return steps


def section(text: str, heading: str) -> str:
    """The part of a page from `heading` to the next heading of its level."""
    _, found, rest = text.partition(f"\n{heading}\n")
    if not found:
        raise ValueError(f"the page has no heading {heading!r}")
    level = heading.split(" ", 1)[0]
    return rest.split(f"\n{level} ", 1)[0]


def matches(expected: list[str], actual: list[str]) -> bool:
    """Whether output is as the page shows it."""
    pattern = "".join(
        r"(.*\n)*" if line == "..." else re.escape(normal(line)) + r"\n" for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{normal(line)}\n" for line in actual)) is not None


def normal(line: str) -> str:
    for pattern, replacement in NORMAL:
        line = pattern.sub(replacement, line)
    return line.rstrip()


class Shell:
    """One bash that takes commands one by one."""

    def __init__(self, stack: ExitStack, command: list[str]) -> None:
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command, "bash", "--noprofile", "--norc"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stack.enter_context(self._process)
        stack.callback(self._process.kill)

    def run(self, command: str) -> tuple[list[str], int]:
        """The lines that the command prints, and its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n{_MARK}\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            text, end, code = line.partition(_END)
            lines += [text.removesuffix("\n")] if text else []
            if end:
                return lines, int(code)
        raise AssertionError(f"the shell ended at: {command}\n" + "\n".join(lines))


_MARK: Final = r"_code=$?; printf '\036%d\n' $_code; (exit $_code)"


class Lab:
    """Hosts and a machine outside, where nothing that is done reaches the real machine.

    Each host has its own network, processes, mounts and host name, and an empty /run. All are
    on one segment and share /mnt. Further hosts than the first are there once a page names them.
    """

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._shared = folder / "shared"
        self._shared.mkdir()
        host = Host(stack, folder)
        self._segment = host.outside
        self._shells = {OUTSIDE: Shell(stack, host.outside.wrap())}
        self._add_shell(HOST, host, Host.ADDRESS)

    def run(self, step: Step) -> tuple[list[str], int]:
        return self._shells[step.machine].run("\n".join(step.command))

    def prepare(self, page: Path) -> None:
        """Start netd on all hosts of the page as README.md says, unless that is the page."""
        named = {step.machine for step in steps_of(page.read_text())} & ADDRESSES.keys()
        if named:
            self._widen_segment()
        for name in sorted(named):
            self._add_host(name)
        if page != README:
            for step in steps_of(section(README.read_text(), START)):
                for name in sorted({HOST, *named}):
                    self._do(name, "\n".join(step.command))

    def _add_shell(self, name: str, place: Namespace, address: str) -> None:
        own = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
        self._shells[name] = Shell(self._stack, place.wrap(*own))
        self._do(
            name,
            "mount -t tmpfs tmpfs /run && mkdir /run/cgroup && "
            # Engines want control groups, which the network's own /sys comes without.
            "mount --rbind /sys/fs/cgroup /run/cgroup && mount -t sysfs sysfs /sys && "
            f"mount --move /run/cgroup /sys/fs/cgroup && rmdir /run/cgroup && hostname {name} && "
            # Servers look the host's name up when they start.
            f"printf '127.0.0.1 localhost\\n{address} {name}\\n' >/run/hosts && "
            "mount --bind /run/hosts /etc/hosts && "
            f"mount --bind {shlex.quote(str(self._shared))} /mnt",
        )

    def _widen_segment(self) -> None:
        """Put the outside's end of the first host's cable, and its addresses, on a bridge."""
        outside = self._segment
        outside.run("ip", "link", "add", "segment", "type", "bridge")
        outside.run("ip", "address", "flush", "dev", "eth0")
        outside.run("ip", "link", "set", "eth0", "master", "segment")
        outside.run("ip", "link", "set", "segment", "up")
        outside.run("ip", "address", "add", f"{Host.OUTSIDE}/24", "dev", "segment")
        outside.run("ip", "address", "add", f"{Host.OUTSIDE6}/64", "dev", "segment", "nodad")

    def _add_host(self, name: str) -> None:
        place = Namespace(self._stack, loopback=True)
        place.run(
            *("ip", "link", "add", "eth0", "type", "veth"),
            *("peer", "name", name, "netns", str(self._segment.pid)),
        )
        self._segment.run("ip", "link", "set", name, "master", "segment", "up")
        place.run("ip", "address", "add", f"{ADDRESSES[name]}/24", "dev", "eth0")
        place.run("ip", "link", "set", "eth0", "up")
        place.run("ip", "route", "add", "default", "via", Host.OUTSIDE)
        self._add_shell(name, place, ADDRESSES[name])

    def _do(self, name: str, command: str) -> None:
        lines, code = self._shells[name].run(command)
        assert code == 0, f"{name}: {command}: {lines}"


def run_page(lab: Lab, page: Path) -> Iterator[tuple[Step, list[str], int]]:
    """Run a page's commands: each with what it printed and its exit code, 0 if it may fail."""
    lab.prepare(page)
    steps = steps_of(page.read_text())
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        output, code = lab.run(step)
        may_fail = after is not None and after.command == ["echo $?"]
        yield step, output, 0 if may_fail else code


def _rewrite(page: Path) -> None:
    lines = page.read_text().splitlines()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        results = list(run_page(Lab(stack, Path(folder)), page))
    for step, output, code in reversed(results):
        if code:
            print(f"{page.name}:{step.line}: exit code {code}: {step.command[0]}")
        if not matches(step.output, output):
            first = step.line - 1 + len(step.command)
            lines[first : step.end - 1] = [line.rstrip() for line in output]
    page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        _rewrite(Path(name).resolve())
