"""The registry's life: what it tells the service manager, and when it ends by itself."""

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netd.api.auth import Authority
from netd.api.listening import admit
from netd.registry import service
from netd.registry.service import Service
from netd.systemd import ServiceManager
from tests.unit.registry_lab import DEADLINE_S, Lab, registry


@asynccontextmanager
async def running(path: Path, manager: ServiceManager) -> AsyncIterator["asyncio.Task[None]"]:
    """A registry without a daemon."""
    made = Service(str(path), manager)
    task = asyncio.get_running_loop().create_task(made.run())
    await asyncio.sleep(0)  # it has its signal handlers then
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def heard(manager: socket.socket) -> list[str]:
    async with asyncio.timeout(DEADLINE_S):
        return (await asyncio.get_running_loop().sock_recv(manager, 999)).decode().splitlines()


async def test_the_manager_hears_when_it_is_ready_and_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "READY_S", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        async with running(tmp_path / "none", ServiceManager(environment)):
            # There is no daemon, but what comes after it is not held up for ever.
            assert await heard(manager) == ["READY=1", "STATUS=0 entries"]
            for _ in range(3):
                assert await heard(manager) == ["WATCHDOG=1"]
                assert await heard(manager) == ["STATUS=0 entries"]


async def test_sigterm_ends_it(tmp_path: Path) -> None:
    async with running(tmp_path / "none", ServiceManager({})) as task:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            await task


async def test_it_ends_when_no_daemon_follows_the_one_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LINGER_S", 0.3)
    async with registry(tmp_path) as lab:
        os.kill(os.getpid(), signal.SIGUSR1)
        await lab.daemon.stop()
        async with asyncio.timeout(DEADLINE_S):
            await lab.running


async def test_it_goes_on_when_there_is_another_daemon_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LINGER_S", 1.0)
    async with registry(tmp_path) as lab:
        os.kill(os.getpid(), signal.SIGUSR1)
        await lab.daemon.stop()
        await asyncio.sleep(0)
        await lab.daemon.start()
        await _ask_until(lab, 1.3)


async def test_it_ends_when_the_folder_of_the_socket_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LINGER_S", 0.1)
    folder = tmp_path / "run"
    folder.mkdir()
    async with running(folder / "netd.sock", ServiceManager({})) as task:
        await asyncio.sleep(0.3)
        assert not task.done()
        folder.rmdir()
        async with asyncio.timeout(DEADLINE_S):
            await task


async def _ask_until(lab: Lab, seconds: float) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + seconds
    found: list[str] = []
    while loop.time() < ends_s:
        found = await lab.addresses("web.blue.netd.internal")
        assert not lab.running.done()
        await asyncio.sleep(0.02)
    assert found == ["127.0.1.5"]


def test_a_socket_that_the_service_manager_has_made_is_open_to_the_registry(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "netd.sock"))
        (tmp_path / "netd.sock").chmod(0o660)
        admit(sock, Authority(registry_uid=4711))
    try:
        found = os.getxattr(tmp_path / "netd.sock", "system.posix_acl_access")
    except OSError as error:
        pytest.skip(f"no access lists here: {error}")
    entries = list(struct.iter_unpack("<HHI", found[4:]))
    assert (0x02, 6, 4711) in entries  # ACL_USER, read and write: posix_acl.h
    assert (tmp_path / "netd.sock").stat().st_mode & 0o007 == 0
