"""The daemon's helpers when one of them fails, and how it refuses to start in a cluster."""

import asyncio
import logging
from pathlib import Path

import pytest

from netd import logs
from netd.daemon import main
from netd.daemon.config import load
from netd.daemon.serve import Daemon, HelperFailed, work_until
from netd.daemon.settings.parts import cluster_settings


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


def run_with(arguments: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """`netd` with a state folder of its own; it ends before it would touch the kernel."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(logs, "configure", lambda _level, _form: None)
    state = ["--config", "/dev/null", "--state-dir", str(folder / "state")]
    return main.main([*state, "--socket", str(folder / "netd.sock"), *arguments])


def test_an_address_that_others_reach_needs_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(["--bind", "192.0.2.1:7940"], monkeypatch, tmp_path) == main.CONFIG_IS_WRONG
    error = capsys.readouterr().err
    assert "without a key, everybody who reaches 192.0.2.1:7940 could enter" in error
    assert "netctl key generate" in error
    # Nothing is left open: the folder can be used at once.
    assert run_with(["--join", "192.0.2.2"], monkeypatch, tmp_path) == main.CONFIG_IS_WRONG


def test_a_key_file_that_others_may_change_is_a_wrong_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    key.chmod(0o622)
    assert run_with(["--cluster-key", str(key)], monkeypatch, tmp_path) == main.CONFIG_IS_WRONG
    assert f"chmod 600 {key}" in capsys.readouterr().err


def test_the_configuration_of_the_cluster_reaches_it_whole(tmp_path: Path) -> None:
    config = load(
        flags={
            "node": {"name": "host-1"},
            "state": {"dir": str(tmp_path)},
            "cluster": {
                "bind": "[::]:7000",
                "advertise": "192.0.2.1",
                "join": ["db-1", "[2001:db8::1]:7"],
                "profile": "fast",
                "join_token_file": "/t",
                "insecure": True,
            },
        }
    )
    settings = cluster_settings(config)
    assert (settings.name, settings.directory) == ("host-1", tmp_path)
    assert (settings.bind, settings.advertise) == (("::", 7000), ("192.0.2.1", 7940))
    assert [str(seed) for seed in settings.seeds] == ["db-1:7940", "[2001:db8::1]:7"]
    assert (settings.profile, settings.insecure) == ("fast", True)
    assert (settings.key_file, settings.token_file) == (None, Path("/t"))
    alone = cluster_settings(load(flags={"node": {"name": "host-1"}}))
    assert (alone.bind, alone.asks_for_cluster) == (None, False)
