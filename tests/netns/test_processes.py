"""What only Linux can show of processes that are watched."""

import asyncio
import os
import resource
import subprocess
import threading
import time
from pathlib import Path

import pytest

from netd.kernel.processes import watch_process
from netd.model.errors import Exhausted, Invalid, NotFound


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_process_has_ended_before_its_parent_asks_for_it() -> None:
    with subprocess.Popen(["sleep", "infinity"]) as child:
        ended = asyncio.Event()
        watch_process(child.pid, None, ended.set)
        began_s = time.perf_counter()
        child.kill()
        async with asyncio.timeout(5):
            await ended.wait()
        assert time.perf_counter() - began_s < 1.0
        assert child.returncode is None  # nobody has waited: it is a zombie
        with pytest.raises(NotFound):
            watch_process(child.pid, None, lambda: None)


async def test_descriptors_are_given_back() -> None:
    with subprocess.Popen(["sleep", "infinity"]) as child:
        before = open_descriptors()
        ended = asyncio.Event()
        stopped = watch_process(child.pid, None, lambda: None)
        watch_process(child.pid, None, ended.set)
        with pytest.raises(NotFound):
            watch_process(child.pid, stopped.start_ticks + 1, lambda: None)
        assert open_descriptors() == before + 2
        stopped.stop()
        child.kill()
        async with asyncio.timeout(5):
            await ended.wait()
        assert open_descriptors() == before


async def test_a_thread_is_no_process() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        with pytest.raises(Invalid, match="thread"):
            watch_process(thread.native_id or 0, None, lambda: None)
    finally:
        over.set()
        thread.join()


async def test_a_pid_that_cannot_be() -> None:
    with pytest.raises(NotFound):
        watch_process(4_194_304, None, lambda: None)  # PID_MAX_LIMIT: pids are below it


async def test_without_a_descriptor_it_is_told_so() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(Exhausted, match="open files"):
            watch_process(os.getpid(), None, lambda: None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
