"""script checks: real programs, and what becomes of those that do not behave."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from netd.model.service import CheckResult, CheckSpec
from netd.registry.checks import script
from netd.registry.checks.probe import Run, critical
from tests.unit.checks_lab import outcome, probe


async def found(*args: str, timeout_s: float = 10) -> CheckResult:
    run = Run(probe(CheckSpec(kind="script", args=args, timeout_s=timeout_s)))
    try:
        async with asyncio.timeout(timeout_s):
            return await outcome(script.run(run))
    except TimeoutError:
        return critical(f"late: {run.stage}")


async def shell(text: str, *args: str, timeout_s: float = 10) -> CheckResult:
    return await found("sh", "-c", text, "sh", *args, timeout_s=timeout_s)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int) -> None:
    """Wait for the end of a process that is not a child of ours."""
    async with asyncio.timeout(5):
        while is_alive(pid):
            await asyncio.sleep(0.01)  # what ends elsewhere tells nobody here


@pytest.mark.parametrize(
    ("code", "expected", "output"),
    [
        (0, "passing", "out\nerr"),
        (1, "warning", "out\nerr"),
        (2, "critical", "exit status 2: out\nerr"),
        (77, "critical", "exit status 77: out\nerr"),
    ],
)
async def test_the_exit_status_is_the_verdict(code: int, expected: str, output: str) -> None:
    result = await shell('echo out; echo err >&2; exit "$1"', str(code))
    assert (result.status, result.output) == (expected, output)


async def test_a_script_that_says_nothing() -> None:
    assert (await shell("exit 0")).output == "exit status 0"


async def test_a_script_that_is_killed() -> None:
    assert await shell("kill -SEGV $$") == critical("killed by SIGSEGV")


async def test_a_program_that_does_not_exist() -> None:
    result = await found("/no/such/program")
    assert result.status == "critical"
    assert "/no/such/program" in result.output


async def test_a_check_without_a_program() -> None:
    assert (await found()).status == "critical"


async def test_words_are_handed_over_as_they_are() -> None:
    assert (await shell('echo "$1"', "a b; touch /tmp/x $(id)")).output == (
        "a b; touch /tmp/x $(id)"
    )


async def test_it_knows_what_it_looks_at_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the registry")
    words = (await shell("env; pwd; cat")).output.splitlines()
    names = {word.partition("=")[0] for word in words}
    assert {"NETD_SERVICE_ID=web-1", "NETD_ADDRESS=127.0.0.1", "NETD_PORT=80", "/"} <= set(words)
    assert "SECRET" not in names


async def test_it_has_none_of_the_registrys_capabilities() -> None:
    status = (await shell("grep -E 'CapInh|CapAmb|NoNewPrivs' /proc/self/status")).output
    assert status.split() == [
        *("CapInh:", "0000000000000000", "CapAmb:", "0000000000000000", "NoNewPrivs:", "1")
    ]


async def test_of_a_flood_the_beginning_is_kept() -> None:
    result = await shell("yes | head -c 20000000")
    assert result.status == "passing"
    assert len(result.output) == 4096


async def test_any_bytes_are_output() -> None:
    result = await shell(r"printf 'a\377\000\033[31mb'")
    assert result.output == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}" + (
        "\N{REPLACEMENT CHARACTER}[31mb"
    )


async def test_a_script_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hang = 'sleep 100 & echo $! >>"$1"; echo $$ >>"$1"; trap "" TERM INT; wait'
    result = await shell(hang, str(pids), timeout_s=0.5)
    assert result == critical("late: end of sh")
    hung = [int(line) for line in pids.read_text().split()]
    assert len(hung) == 2
    for pid in hung:
        await gone(pid)


async def test_a_child_in_a_session_of_its_own_is_killed_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    escape = 'setsid sh -c \'echo $$ >"$1"; exec sleep 100\' sh "$1" & sleep 100'
    await shell(escape, str(pids), timeout_s=0.5)
    await gone(int(pids.read_text()))


async def test_what_a_script_leaves_behind_neither_delays_it_nor_stays(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    loop = asyncio.get_running_loop()
    began = loop.time()
    result = await shell('sleep 100 & echo $! >"$1"; echo well', str(pids))
    assert result == CheckResult(status="passing", output="well")
    assert loop.time() - began < 5
    await gone(int(pids.read_text()))


async def test_a_run_that_is_cancelled_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    for delay_s in (0, 0.001, 0.002, 0.005, 0.01):
        work = asyncio.ensure_future(shell('echo $$ >>"$1"; exec sleep 100', str(pids)))
        await asyncio.sleep(delay_s)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    await asyncio.sleep(0.2)  # for those that a thread was about to start
    for pid in pids.read_text().split() if pids.exists() else ():
        await gone(int(pid))


async def test_no_descriptor_and_no_zombie_stays() -> None:
    await shell("true")  # opens what Python keeps
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        await shell("echo x")
        await shell("sleep 100", timeout_s=0.05)
    await asyncio.sleep(0.2)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [child for child in children if not is_alive(int(child))]


async def test_it_ends_when_the_registry_does(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import asyncio; from tests.unit.test_checks_script import shell; "
        f"asyncio.run(shell('echo $$ >\"$1\"; exec sleep 100', {str(pids)!r}, timeout_s=60))"
    )
    registry = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    async with asyncio.timeout(20):
        while not pids.exists() or not pids.read_text():
            await asyncio.sleep(0.01)  # another process writes it
    registry.send_signal(signal.SIGKILL)
    await registry.wait()
    await gone(int(pids.read_text()))
