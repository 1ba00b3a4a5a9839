"""netd's hand on the registry's process: it starts it, finds it again, and ends it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

import netd
from netd.api.auth import Access, Authority, Peer
from netd.daemon import registry as module
from netd.daemon.registry import RegistryProcess, end_left_over

DEADLINE_S = 10.0

# Stands for the registry: waits for the word as that does, says its pid, and what it is sent.
PROGRAM = """
import os, signal, sys, time
if not os.read(int(sys.argv[-1]), 1):
    sys.exit(1)
out = open(sys.argv[1], "a", buffering=1)
signal.signal(signal.SIGUSR1, lambda *_: out.write("linger\\n"))
if len(sys.argv) > 4:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
out.write(f"{os.getpid()}\\n")
while True:
    time.sleep(60)
"""


class Bench:
    """Makes processes, and ends all that they have started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.out.touch()
        self.pids: set[int] = set()
        self.made: list[RegistryProcess] = []

    def process(self, *more: str, program: str = PROGRAM) -> RegistryProcess:
        made = RegistryProcess("/none", self.folder, "nobody", "info")
        self.made.append(made)
        made._command = [sys.executable, "-c", program, str(self.out), *more]
        return made

    def lines(self) -> list[str]:
        found = self.out.read_text().split()
        self.pids |= {int(line) for line in found if line.isdecimal()}
        return found


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "RESTART_MIN_S", 0.02)
    made = Bench(tmp_path)
    yield made
    made.lines()
    for pid in made.pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in made.made:
        if process._child is not None:
            process._child.wait(DEADLINE_S)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def kept(process: RegistryProcess) -> "asyncio.Task[None]":
    return asyncio.get_running_loop().create_task(process.keep())


async def stopped(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait((task,))


async def test_one_that_ends_is_started_again(bench: Bench) -> None:
    process = bench.process()
    task = kept(process)
    await until(lambda: len(bench.lines()) == 1)
    first = process.pid
    assert bench.lines() == [str(first)]
    os.kill(first, signal.SIGKILL)
    await until(lambda: len(bench.lines()) == 2)
    assert process.pid == int(bench.lines()[1]) != first
    await stopped(task)
    await process.end()
    assert process.pid == 0


async def test_the_next_netd_takes_it_over_and_looks_after_it(bench: Bench) -> None:
    first = bench.process()
    task = kept(first)
    await until(lambda: len(bench.lines()) == 1)
    await stopped(task)
    pid = first.pid
    first.leave()
    await until(lambda: bench.lines() == [str(pid), "linger"])

    second = bench.process()
    await second.adopt()
    assert second.pid == pid
    task = kept(second)
    await asyncio.sleep(0.05)
    assert bench.lines() == [str(pid), "linger"]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: len(bench.lines()) == 3)
    assert second.pid == int(bench.lines()[2])
    await stopped(task)
    await second.end()


@pytest.mark.parametrize(
    ("field", "value"),
    [("pid", 2**22), ("start_ticks", 1), ("boot_id", "00000000-0000-0000-0000-000000000000")],
)
async def test_another_process_with_its_pid_is_left_alone(
    bench: Bench, field: str, value: object
) -> None:
    first = bench.process()
    task = kept(first)
    await until(lambda: len(bench.lines()) == 1)
    await stopped(task)
    file = bench.folder / "registry.pid"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    second = bench.process()
    await second.adopt()
    assert second.pid == 0
    assert not await end_left_over(bench.folder)
    assert first.pid
    await first.end()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": "x"}', "\0" * 100])
async def test_a_file_that_says_nothing_is_no_registry(bench: Bench, text: str) -> None:
    (bench.folder / "registry.pid").write_text(text)
    process = bench.process()
    await process.adopt()
    assert process.pid == 0
    task = kept(process)
    await until(lambda: len(bench.lines()) == 1)
    await stopped(task)
    await process.end()


async def test_one_of_another_version_is_replaced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench.process()
    task = kept(first)
    await until(lambda: len(bench.lines()) == 1)
    await stopped(task)
    monkeypatch.setattr(netd, "__version__", "99.0")
    second = bench.process()
    await second.adopt()
    assert second.pid == 0
    await until(lambda: first.pid == 0)


async def test_one_that_does_not_end_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_END_S", 0.2)
    process = bench.process("stubborn")
    task = kept(process)
    await until(lambda: len(bench.lines()) == 1)
    await stopped(task)
    await process.end()
    assert process.pid == 0


async def test_what_ends_at_once_is_tried_less_and_less_often(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_MIN_S", 0.1)
    program = "import sys; open(sys.argv[1], 'a').write('tried ')"
    process = bench.process(program=program)
    task = kept(process)
    await asyncio.sleep(1.5)
    await stopped(task)
    # After 0.1, 0.2, 0.4 and 0.8 s, and the time that a start takes.
    assert 2 <= len(bench.lines()) <= 5


async def test_one_whose_netd_is_killed_before_it_is_written_down_ends(bench: Bench) -> None:
    process = bench.process()
    process._file = bench.folder / "none" / "registry.pid"  # so that writing fails
    with pytest.raises(FileNotFoundError):
        process._start()
    await until(lambda: process.pid == 0)
    assert bench.lines() == []


async def test_of_nobodys_processes_the_api_takes_this_one_only(bench: Bench) -> None:
    process = RegistryProcess("/none", bench.folder, "no-such-user", "info")
    authority = process.admitted(Authority())
    process.pid = 4711
    uid = authority.registry_uid
    assert uid not in (None, 0)
    assert uid is not None
    groups: frozenset[int] = frozenset()
    assert authority.access(Peer(4711, uid, uid, groups)) is Access.REGISTRY
    assert authority.access(Peer(4712, uid, uid, groups)) is Access.NOTHING
    process.pid = 0
    assert authority.access(Peer(4711, uid, uid, groups)) is Access.NOTHING
    known = Authority(registry_uid=12)
    assert RegistryProcess("/none", bench.folder, "nobody", "info").admitted(known) == known
