"""netctl key: keys made, installed, used and removed; and all of that in one rotation."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import Result

from netd.cli import rotation
from tests.unit.cli_daemon import Netctl
from tests.unit.memory_cluster import MemoryCluster, key_id
from tests.unit.memory_engine import SECRET, Served, served

OLD = key_id(SECRET)
NEXT = base64.b64encode(SECRET[::-1]).decode()


@pytest.fixture
async def world() -> AsyncIterator[Served]:
    async with served() as world:
        yield world


async def run(world: Served, *arguments: str) -> Result:
    """Run netctl on a thread of its own, for the server lives on this one."""
    return await asyncio.to_thread(Netctl(world.path), *arguments)


async def joined(world: Served, name: str = "host-2") -> MemoryCluster:
    cluster = world.engine.cluster
    other = cluster.mesh.node(name, SECRET)
    await cluster.join([other.address], None)
    return other


def test_a_key_is_made_without_a_daemon(tmp_path: Path) -> None:
    nowhere = Netctl(tmp_path / "none.sock")
    keys = {nowhere("key", "generate").stdout for _ in range(3)}
    assert len(keys) == 3
    assert all(len(base64.b64decode(key, validate=True)) == 32 for key in map(str.strip, keys))
    file = tmp_path / "cluster.key"
    result = nowhere("key", "generate", "--output", str(file))
    assert (result.exit_code, result.stdout) == (0, "")
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(file.read_text())) == 32
    assert nowhere("key", "generate", "--output", str(file)).exit_code == 1
    assert nowhere("key", "generate", "--output", "/nowhere/key").exit_code == 1


def test_a_key_is_made_by_the_standard_library_alone() -> None:
    program = (
        "import sys; sys.argv[1:] = ['key', 'generate']\n"
        "from netd.cli.main import cli; cli(standalone_mode=False)\n"
        "print([name for name in ('msgspec', 'cryptography', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


async def test_keys_are_listed_with_holders_and_users(world: Served) -> None:
    await joined(world)
    shown = (await run(world, "key", "ls")).stdout
    assert shown == (
        f"ID        PRIMARY  HOLDERS      USERS\n{OLD}  yes      here,host-2  here,host-2\n"
    )
    assert (await run(world, "key", "ls", "-q")).stdout == f"{OLD}\n"
    found = json.loads((await run(world, "key", "ls", "--json")).stdout)
    assert [key["id"] for key in found] == [OLD]
    assert base64.b64encode(SECRET).decode() not in shown + json.dumps(found)


async def test_a_key_from_installed_to_removed(world: Served, tmp_path: Path) -> None:
    other = await joined(world)
    (tmp_path / "key").write_text(NEXT + "\n")
    result = await run(world, "key", "install", str(tmp_path / "key"))
    new = key_id(SECRET[::-1])
    assert (result.exit_code, result.stdout) == (0, f"{new}\n")
    assert other.ring[new] == SECRET[::-1]
    refused = await run(world, "key", "rm", OLD)
    assert (refused.exit_code, refused.stderr) == (4, "Error: here, host-2 send with it\n")
    assert (await run(world, "key", "use", new)).stdout == f"{new}\n"
    assert (await run(world, "key", "rm", OLD)).stdout == f"{OLD}\n"
    assert (await run(world, "key", "rm", OLD)).exit_code == 3
    assert (await run(world, "key", "use", OLD)).exit_code == 3


@pytest.mark.parametrize("content", ["AAAA", "no-base64!", NEXT[:-2]])
async def test_a_file_that_has_no_key_is_wrong_usage(
    world: Served, tmp_path: Path, content: str
) -> None:
    (tmp_path / "key").write_text(content)
    result = await run(world, "key", "install", str(tmp_path / "key"))
    assert (result.exit_code, "a key of 32 bytes in base64" in result.stderr) == (2, True)
    assert content not in result.stderr
    assert world.engine.cluster.node.ring.keys() == {OLD}


async def test_a_rotation_leaves_the_new_key_alone(world: Served) -> None:
    other = await joined(world)
    result = await run(world, "key", "rotate")
    new = result.stdout.strip()
    assert result.exit_code == 0, result.stderr
    assert other.ring.keys() == world.engine.cluster.node.ring.keys() == {new}
    assert result.stderr == (
        f"key {new} is installed; waiting until all members have it\n"
        f"key {new} is in use; waiting until nobody sends with {OLD}\n"
        f"key {OLD} is removed\n"
    )


async def test_a_rotation_waits_for_a_member_that_is_late(
    world: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await joined(world)
    other.cut_off = True
    monkeypatch.setattr(rotation, "POLL_S", 0.01)
    waited = asyncio.Event()

    class Told(MemoryCluster):
        def keys(self) -> tuple[object, ...]:  # type: ignore[override]
            if len(self.ring) == 2:
                loop.call_soon_threadsafe(waited.set)
            return super().keys()

    loop = asyncio.get_running_loop()
    world.engine.cluster.node.__class__ = Told
    rotating = asyncio.create_task(run(world, "key", "rotate"))
    async with asyncio.timeout(10):
        await waited.wait()
        assert not rotating.done()
        other.ring |= world.engine.cluster.node.ring  # it hears of the key at last
        result = await rotating
    assert result.exit_code == 0, result.stderr
    assert "  it is missing on host-2\n" in result.stderr
    assert other.ring.keys() == {result.stdout.strip()}


async def test_a_rotation_that_is_not_done_in_time_says_what_is_left(
    world: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await joined(world)
    other.cut_off = True
    monkeypatch.setattr(rotation, "POLL_S", 0.01)
    result = await run(world, "key", "rotate", "--timeout", "1s")
    (new,) = world.engine.cluster.node.ring.keys() - {OLD}
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith(
        "Error: not done in time: it is missing on host-2\n"
        f"Left to do, when that is mended: netctl key use {new}; netctl key rm {OLD}\n"
    )
    assert world.engine.cluster.node.primary == OLD


async def test_a_dead_member_does_not_stop_the_wait_but_the_daemon_decides(
    world: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await joined(world)
    other.cut_off = True
    other.becomes("dead")
    monkeypatch.setattr(rotation, "POLL_S", 0.01)
    result = await run(world, "key", "rotate", "--timeout", "1s")
    assert result.exit_code == 1
    assert "  not yet on host-2\n" in result.stderr


async def test_there_is_nothing_to_rotate_without_a_key(world: Served) -> None:
    world.engine.cluster.node.ring.clear()
    result = await run(world, "key", "rotate")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        1,
        "Error: this host has no key to replace",
    )
