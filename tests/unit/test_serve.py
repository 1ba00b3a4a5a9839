"""The daemon's helpers: what happens when one of them fails."""

import asyncio
import logging

import pytest

from netd.daemon import logs, main
from netd.daemon.serve import Daemon, HelperFailed, work_until


async def forever() -> None:
    await asyncio.Event().wait()


async def broken() -> None:
    raise ValueError("no such thing")


async def told() -> None:
    raise HelperFailed("the kernel thread has not answered")


async def test_helpers_end_when_asked_to() -> None:
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(5):
        await work_until(stop, forever(), forever())


async def test_the_failure_of_one_ends_all_and_is_named() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(HelperFailed, match=r"^ValueError: no such thing$"):
            await work_until(asyncio.Event(), forever(), broken())
        with pytest.raises(HelperFailed, match=r"^the kernel thread has not answered$"):
            await work_until(asyncio.Event(), told(), forever())


def test_a_failed_helper_is_one_line_and_code_1(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run(_daemon: Daemon) -> None:
        await work_until(asyncio.Event(), broken())

    monkeypatch.setattr(Daemon, "run", run)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(logs, "configure", lambda _level, _form: None)
    with caplog.at_level(logging.INFO):
        assert main.main(["--config", "/dev/null"]) == 1
    assert caplog.messages == ["netd ends: ValueError: no such thing"]
