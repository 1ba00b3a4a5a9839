"""Keys and sessions in the database."""

import sqlite3
from pathlib import Path

import pytest

from netd.engine.interfaces import Change
from netd.kv.space import NOTHING, Numbers, Stored
from netd.model.errors import Unavailable
from netd.model.kv import Entry, Session
from netd.store.database import FILE_NAME
from netd.store.sqlite import SqliteStore

FIRST = Stored(
    numbers=Numbers(index=9, keys=8, sessions=9, reaped=1),
    entries={
        "a\x00/é": Entry(
            key="a\x00/é",
            value=b"\x00\xff",
            flags=2**64 - 1,
            create_index=1,
            modify_index=8,
            lock_index=3,
            session="s1",
        ),
        "b": Entry(key="b", create_index=2, modify_index=2),
    },
    sessions={"s1": Session(id="s1", node="n", ttl_s=10.0, service_checks=("c",))},
    graves={"c": 7},
    delays={"b": 15.0},
)


async def test_what_is_committed_is_loaded(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    assert (await store.load()).keys == NOTHING
    await store.commit(Change(keys=FIRST))
    await store.close()
    store = await SqliteStore.open(tmp_path)
    assert (await store.load()).keys == FIRST
    await store.commit(
        Change(
            keys=Stored(
                numbers=Numbers(index=10, keys=10, sessions=10, reaped=7),
                entries={"b": None, "d": Entry(key="d", create_index=10, modify_index=10)},
                sessions={"s1": None},
                graves={"b": 10, "c": None},
                delays={"b": None, "d": 1.0},
            )
        )
    )
    assert (await store.load()).keys == Stored(
        numbers=Numbers(index=10, keys=10, sessions=10, reaped=7),
        entries={
            "a\x00/é": FIRST.entries["a\x00/é"],
            "d": Entry(key="d", create_index=10, modify_index=10),
        },
        graves={"b": 10},
        delays={"d": 1.0},
    )
    await store.close()


async def test_all_is_replaced_together_with_facts(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Change(keys=FIRST, put_facts={"role": "holder"}))
    await store.commit(Change(keys=NOTHING, replace_keys=True, put_facts={"role": "none"}))
    snapshot = await store.load()
    assert snapshot.keys == NOTHING
    assert snapshot.facts == {"role": "none"}
    await store.close()


async def test_what_cannot_be_understood_is_not_guessed(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Change(keys=FIRST))
    await store.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("UPDATE kv SET flags = 'many' WHERE key = 'b'")
    connection.close()
    store = await SqliteStore.open(tmp_path)
    with pytest.raises(Unavailable, match="keys and sessions cannot be understood"):
        await store.load()
    await store.close()
