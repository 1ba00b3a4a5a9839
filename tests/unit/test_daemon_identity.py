"""A host is the member that its database knows, or a new one."""

from pathlib import Path

import pytest

from netd.cluster.identity import KEY_FILE, NodeKey
from netd.daemon import identity
from netd.engine.interfaces import Change
from netd.engine.startup import NODE_ID
from netd.store.database import FILE_NAME
from netd.store.sqlite import SqliteStore


async def started(folder: Path) -> str:
    """As the daemon starts: who it is then."""
    store = await SqliteStore.open(folder)
    await identity.check(store, folder)
    member = NodeKey.open(folder).id.hex()
    await identity.remember(store, member)
    await store.close()
    return member


def lose_database(folder: Path) -> None:
    for file in folder.glob(f"{FILE_NAME}*"):
        file.unlink()


async def test_it_stays_the_same_as_long_as_its_database_is_there(tmp_path: Path) -> None:
    assert await started(tmp_path) == await started(tmp_path)


async def test_without_its_database_it_is_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = await started(tmp_path)
    key = (tmp_path / KEY_FILE).read_bytes()
    lose_database(tmp_path)
    second = await started(tmp_path)
    assert second != first
    (aside,) = tmp_path.glob(f"{KEY_FILE}.*")
    assert aside.read_bytes() == key
    assert str(aside) in caplog.text
    assert await started(tmp_path) == second


async def test_killed_before_its_database_knows_it_is_another(tmp_path: Path) -> None:
    first = await started(tmp_path)
    lose_database(tmp_path)
    store = await SqliteStore.open(tmp_path)  # and the process ends
    await store.close()
    assert await started(tmp_path) != first


async def test_a_database_of_before_this_rule_keeps_its_member(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Change(put_facts={NODE_ID: "5" * 32}))
    await store.close()
    member = NodeKey.open(tmp_path).id.hex()
    assert await started(tmp_path) == member


async def test_a_key_that_was_removed_makes_another(tmp_path: Path) -> None:
    first = await started(tmp_path)
    (tmp_path / KEY_FILE).unlink()
    second = await started(tmp_path)
    assert second != first
    assert await started(tmp_path) == second
