"""Consul's calls about keys."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from netd.api.auth import Authority
from netd.api.limits import Limits
from netd.api.server import ApiServer
from netd.model.directory import Entry
from netd.model.kv import VALUE_MAX_BYTES, KeyReading, Operation
from netd.registry.api import Refused
from netd.registry.consul import reserved
from netd.registry.consul.keys_api import KeysApi
from netd.registry.consul.reserved import QUERIES
from tests.unit.consul_keys_lab import Answer, Lab, consul_keys


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with consul_keys() as made:
        yield made


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


async def test_a_key(lab: Lab) -> None:
    missing = await lab.get("/v1/kv/a")
    assert (missing.status, missing.body, missing.index) == (404, b"", 1)
    assert await lab.put("/v1/kv/a", bytes(range(256))) is True
    found = await lab.get("/v1/kv/a")
    assert found.json() == [
        {
            "LockIndex": 0,
            "Key": "a",
            "Flags": 0,
            "Value": b64(bytes(range(256))),
            "CreateIndex": 2,
            "ModifyIndex": 2,
        }
    ]
    assert found.index == 2
    assert found.headers["X-Consul-KnownLeader"] == "true"
    assert found.headers["X-Consul-LastContact"] == "0"
    assert found.headers["X-Consul-Effective-Consistency"] == "leader"
    deleted = await lab.call("DELETE", "/v1/kv/a")
    assert deleted.json() is True
    gone = await lab.get("/v1/kv/a")
    assert (gone.status, gone.index) == (404, 3)


async def test_an_empty_value_is_null(lab: Lab) -> None:
    assert await lab.put("/v1/kv/a") is True
    assert (await lab.get("/v1/kv/a")).json()[0]["Value"] is None


async def test_raw(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"<b>\xff")
    raw = await lab.get("/v1/kv/a?raw")
    assert (raw.status, raw.body) == (200, b"<b>\xff")
    assert raw.headers["Content-Type"] == "text/plain"
    assert raw.headers["X-Content-Type-Options"] == "nosniff"
    assert raw.headers["Content-Security-Policy"] == "sandbox"
    assert raw.index == 2


async def test_pretty(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    pretty = await lab.get("/v1/kv/a?pretty")
    assert pretty.text == json.dumps(pretty.json(), indent=4) + "\n"


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("a/b", "a/b"),
        ("a%2Fb", "a/b"),
        ("a//b/", "a//b/"),
        ("%C3%A9", "é"),
        ("a+b%20c", "a+b c"),
        ("%2E%2E", ".."),
        ("v1/kv/x", "v1/kv/x"),
        ("a?flags=1", "a"),
        ("a%3Fb", "a?b"),
    ],
)
async def test_names_of_keys(lab: Lab, target: str, key: str) -> None:
    await lab.put(f"/v1/kv/{target}", b"x")
    assert (await lab.get("/v1/kv/?keys")).json() == [key]
    assert (await lab.get(f"/v1/kv/{target}")).json()[0]["Key"] == key


@pytest.mark.parametrize("target", ["%FF", "a%00b", "%01"])
async def test_what_is_no_key(lab: Lab, target: str) -> None:
    assert (await lab.call("PUT", f"/v1/kv/{target}", b"x")).status == 400
    assert (await lab.get("/v1/kv/?keys")).json() == []


async def test_flags(lab: Lab) -> None:
    most = 2**64 - 1
    assert await lab.put(f"/v1/kv/a?flags={most}", b"x") is True
    assert (await lab.get("/v1/kv/a")).json()[0]["Flags"] == most


async def test_recurse(lab: Lab) -> None:
    for key in ("a/1", "a/2", "b"):
        await lab.put(f"/v1/kv/{key}", key)
    under = await lab.get("/v1/kv/a/?recurse")
    assert [row["Key"] for row in under.json()] == ["a/1", "a/2"]
    assert under.index == 3
    everything = await lab.get("/v1/kv/?recurse=true")
    assert [row["Key"] for row in everything.json()] == ["a/1", "a/2", "b"]
    missing = await lab.get("/v1/kv/c?recurse")
    assert (missing.status, missing.body, missing.index) == (404, b"", 1)
    assert (await lab.call("DELETE", "/v1/kv/a?recurse")).json() is True
    assert (await lab.get("/v1/kv/?keys")).json() == ["b"]


@pytest.mark.parametrize("name", ["separator", "seperator"])
async def test_keys_up_to_a_separator(lab: Lab, name: str) -> None:
    for key in ("a/1", "a/2/x", "a/2/y", "b"):
        await lab.put(f"/v1/kv/{key}")
    assert (await lab.get(f"/v1/kv/a/?keys&{name}=/")).json() == ["a/1", "a/2/"]
    assert (await lab.get(f"/v1/kv/?keys&{name}=/")).json() == ["a/", "b"]
    assert (await lab.get("/v1/kv/c?keys")).status == 404


async def test_no_keys_at_all(lab: Lab) -> None:
    empty = await lab.get("/v1/kv/?keys")
    assert (empty.json(), empty.index) == ([], 1)
    assert (await lab.get("/v1/kv/?recurse")).status == 404


async def test_check_and_set(lab: Lab) -> None:
    assert await lab.put("/v1/kv/a?cas=0", b"1") is True
    assert await lab.put("/v1/kv/a?cas=0", b"2") is False
    assert await lab.put("/v1/kv/a?cas=7", b"2") is False
    assert (await lab.get("/v1/kv/a")).index == 2
    assert await lab.put("/v1/kv/a?cas=2", b"2") is True
    assert await lab.value("a") == b"2"
    assert (await lab.call("DELETE", "/v1/kv/a?cas=0")).json() is False
    assert (await lab.call("DELETE", "/v1/kv/a?cas=2")).json() is False
    assert (await lab.call("DELETE", "/v1/kv/a?cas=3")).json() is True
    assert await lab.value("a") is None


async def test_locks(lab: Lab) -> None:
    one, two = await lab.session('{"LockDelay": "0s"}'), await lab.session()
    assert await lab.put(f"/v1/kv/a?acquire={one}", b"1") is True
    assert await lab.put(f"/v1/kv/a?acquire={two}", b"2") is False
    (row,) = (await lab.get("/v1/kv/a")).json()
    assert (row["Session"], row["LockIndex"], row["Value"]) == (one, 1, b64(b"1"))
    assert await lab.put(f"/v1/kv/a?release={two}", b"2") is False
    assert await lab.put(f"/v1/kv/a?release={one}", b"3") is True
    (row,) = (await lab.get("/v1/kv/a")).json()
    assert ("Session" in row, row["LockIndex"], row["Value"]) == (False, 1, b64(b"3"))
    assert await lab.put(f"/v1/kv/a?acquire={two}", b"2") is True
    assert (await lab.get("/v1/kv/a")).json()[0]["LockIndex"] == 2


@pytest.mark.parametrize("session", ["nobody", ""])
async def test_a_lock_needs_a_session(lab: Lab, session: str) -> None:
    refused = await lab.call("PUT", f"/v1/kv/a?acquire={session}", b"1")
    assert (refused.status, "invalid session" in refused.text) == (500, True)
    assert await lab.put(f"/v1/kv/a?release={session}", b"1") is False
    assert await lab.value("a") is None


@pytest.mark.parametrize(
    ("method", "target", "status", "text"),
    [
        ("GET", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/", 400, "Missing key name"),
        ("DELETE", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/a?cas=1&acquire=s", 400, "Conflicting flags"),
        ("PUT", "/v1/kv/a?acquire=s&release=s", 400, "Conflicting flags"),
        ("DELETE", "/v1/kv/a?cas=1&recurse", 400, "Conflicting flags"),
        ("PUT", "/v1/kv/a?flags=x", 400, "flags"),
        ("PUT", "/v1/kv/a?flags=-1", 400, "flags"),
        ("PUT", "/v1/kv/a?flags=18446744073709551616", 400, "flags"),
        ("PUT", "/v1/kv/a?cas=", 400, "cas"),
        ("PUT", "/v1/kv/a?cas=%D9%A1", 400, "cas"),
        ("PUT", "/v1/kv/" + "k" * 1025, 400, "1024"),
        ("GET", "/v1/kv/a?dc=elsewhere", 500, "No path to datacenter"),
        ("PUT", "/v1/kv/a?dc=elsewhere", 500, "No path to datacenter"),
        ("GET", "/v1/kv/a?stale&consistent", 400, "conflicting"),
        ("GET", "/v1/kv/a?index=x", 400, "Invalid index"),
        ("GET", "/v1/kv/a?index=1&wait=soon", 400, "Invalid wait time"),
        ("POST", "/v1/kv/a", 405, "not allowed"),
    ],
)
async def test_what_is_refused(lab: Lab, method: str, target: str, status: int, text: str) -> None:
    answer = await lab.call(method, target, b"" if method == "GET" else b"x")
    assert answer.status == status
    assert text in answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert (await lab.get("/v1/kv/?keys")).json() == []


async def test_a_value_that_is_too_large(lab: Lab) -> None:
    assert await lab.put("/v1/kv/a", b"x" * VALUE_MAX_BYTES) is True
    refused = await lab.call("PUT", "/v1/kv/b", b"x" * (VALUE_MAX_BYTES + 1))
    assert refused.status == 413
    assert await lab.value("b") is None


# Waiting


async def waits(lab: Lab, target: str, count: int = 1) -> "asyncio.Task[Answer]":
    waiting = asyncio.get_running_loop().create_task(lab.get(target))
    await lab.started(count)
    return waiting


async def test_a_read_waits_for_its_own_key(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    waiting = await waits(lab, "/v1/kv/a?index=2&wait=9s")
    reads = lab.watches.reads
    await lab.put("/v1/kv/b", b"1")
    await lab.put("/v1/kv/ab", b"1")
    await lab.session()
    assert (lab.watches.waiting, lab.watches.reads) == (1, reads)
    await lab.put("/v1/kv/a", b"2")
    answer = await waiting
    assert (answer.json()[0]["Value"], answer.index) == (b64(b"2"), 6)


async def test_a_read_waits_for_a_key_to_come(lab: Lab) -> None:
    waiting = await waits(lab, "/v1/kv/a?index=1&wait=9s")
    await lab.put("/v1/kv/a", b"1")
    assert (await waiting).json()[0]["Value"] == b64(b"1")
    waiting = await waits(lab, "/v1/kv/a?index=2&wait=9s")
    await lab.call("DELETE", "/v1/kv/a")
    gone = await waiting
    assert (gone.status, gone.index) == (404, 3)


async def test_a_read_waits_for_what_is_under_a_prefix(lab: Lab) -> None:
    await lab.put("/v1/kv/a/1", b"1")
    entries = await waits(lab, "/v1/kv/a/?recurse&index=2&wait=9s", 1)
    names = await waits(lab, "/v1/kv/a/?keys&index=2&wait=9s", 2)
    await lab.put("/v1/kv/b", b"1")
    await lab.put("/v1/kv/a/1", b"2")
    assert (await entries).json()[0]["Value"] == b64(b"2")
    await lab.put("/v1/kv/a/2", b"2")
    assert (await names).json() == ["a/1", "a/2"]


async def test_a_wait_ends(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    answer = await lab.get("/v1/kv/a?index=2&wait=50ms")
    assert (answer.json()[0]["Value"], answer.index) == (b64(b"1"), 2)
    missing = await lab.get("/v1/kv/b?index=1&wait=50ms")
    assert (missing.status, missing.index) == (404, 1)
    assert lab.watches.waiting == 0


async def test_an_older_index_is_answered_at_once(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    assert (await lab.get("/v1/kv/a?index=1&wait=9m")).index == 2
    assert (await lab.get("/v1/kv/a?index=-1&wait=9m")).index == 2


async def test_who_hangs_up_waits_no_more(lab: Lab) -> None:
    waiting = await waits(lab, "/v1/kv/a?index=1&wait=9m")
    waiting.cancel()
    async with asyncio.timeout(10):
        while lab.watches.waiting:
            await asyncio.sleep(0.005)


async def test_many_wait_for_one_key_by_one_read(lab: Lab) -> None:
    loop = asyncio.get_running_loop()
    count = 200
    waiting = [loop.create_task(lab.get("/v1/kv/a?index=1&wait=9s")) for _ in range(count)]
    others = [loop.create_task(lab.get(f"/v1/kv/o{n}?index=1&wait=9s")) for n in range(count)]
    await lab.started(2 * count)
    async with asyncio.timeout(10):
        while lab.watches.reads < 2 * count + 2 and not _quiet(lab):
            await asyncio.sleep(0.02)
    before = lab.watches.reads
    await lab.put("/v1/kv/a", b"1")
    answers = await asyncio.gather(*waiting)
    assert {answer.json()[0]["Value"] for answer in answers} == {b64(b"1")}
    assert lab.watches.reads - before == 1
    assert lab.watches.streams == 1
    for each in others:
        assert not each.done()
        each.cancel()


def _quiet(lab: Lab) -> bool:
    return not any(watch._under_way for watch in lab.watches._watches.values())


async def test_the_daemon_is_away_for_a_while(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    waiting = await waits(lab, "/v1/kv/a?index=2&wait=9s")
    await lab.daemon.server.stop()
    async with asyncio.timeout(10):
        while lab.watches.live:
            await asyncio.sleep(0.005)
    away = await lab.get("/v1/kv/a")
    assert (away.status, away.text.startswith("No cluster leader")) == (500, True)
    async with another_daemon(lab):
        await lab.started(1)
        assert not waiting.done()
        await lab.put("/v1/kv/a", b"2")
        assert (await waiting).json()[0]["Value"] == b64(b"2")


async def test_what_changed_while_the_daemon_was_away(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    waiting = await waits(lab, "/v1/kv/a?index=2&wait=9s")
    await lab.daemon.server.stop()
    await lab.daemon.engine.kv.delete("a", None)
    async with another_daemon(lab):
        assert (await waiting).status == 404


async def test_the_daemon_stays_away() -> None:
    async with consul_keys(patience_s=0.1) as lab:
        await lab.put("/v1/kv/a", b"1")
        waiting = await waits(lab, "/v1/kv/a?index=2&wait=9s")
        await lab.daemon.server.stop()
        assert (await waiting).status == 500
        refused = await lab.call("PUT", "/v1/kv/a", b"2")
        assert refused.status == 500


@asynccontextmanager
async def another_daemon(lab: Lab) -> AsyncIterator[None]:
    """In the place of the first, and with the same keys."""
    server = ApiServer(lab.daemon.engine, authority=Authority(), limits=Limits())
    await server.start(lab.daemon.path, mode=0o660)
    try:
        yield
    finally:
        await server.stop()


# What is netd's own


async def stored(lab: Lab) -> Any:
    entry = (await lab.api.read(QUERIES)).entry
    return entry and entry.value


async def test_prepared_queries_are_no_keys(lab: Lab) -> None:
    made = await lab.call("POST", "/v1/query", '{"Name": "q", "Service": {"Service": "web"}}')
    assert made.status == 200
    before = await stored(lab)
    await lab.put("/v1/kv/a", b"1")
    assert (await lab.get("/v1/kv/?keys")).json() == ["a"]
    assert (await lab.get("/v1/kv/?keys&separator=/")).json() == ["a"]
    assert [row["Key"] for row in (await lab.get("/v1/kv/?recurse")).json()] == ["a"]
    for target in (QUERIES, f"{QUERIES}?raw", ".netd/?recurse", ".netd/?keys", ".n?recurse"):
        assert (await lab.get(f"/v1/kv/{target}")).status == 404
    assert (await lab.call("PUT", f"/v1/kv/{QUERIES}", b"x")).status == 403
    assert (await lab.call("DELETE", f"/v1/kv/{QUERIES}")).status == 403
    for target in (".netd/", ".netd/consul/q", ".", ""):
        assert (await lab.call("DELETE", f"/v1/kv/{target}?recurse")).json() is True
        assert await stored(lab) == before
    assert (await lab.get("/v1/kv/?keys")).json() == []
    assert [row["Name"] for row in (await lab.get("/v1/query")).json()] == ["q"]


async def test_all_keys_are_deleted_where_there_are_no_queries(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    assert (await lab.call("DELETE", "/v1/kv/?recurse")).json() is True
    assert (await lab.get("/v1/kv/?keys")).json() == []
    assert await stored(lab) is None


# Who may ask


async def test_containers_have_the_same_keys_if_they_may(lab: Lab) -> None:
    lab.guests.add("127.0.0.1")
    assert await lab.put("/v1/kv/a", b"1") is True
    lab.are_guests_welcome = False
    lab.consul.server.callers.change(None, Entry(revision=2, kind="network", id="n"))
    for method, target in (
        ("GET", "/v1/kv/a"),
        ("PUT", "/v1/session/create"),
        ("PUT", "/v1/txn"),
        ("PUT", "/v1/event/fire/e"),
        ("GET", "/v1/query"),
    ):
        assert (await lab.call(method, target)).status == 403
    lab.guests.clear()
    lab.consul.server.callers.change(None, Entry(revision=3, kind="network", id="n"))
    assert await lab.value("a") == b"1"


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/v1/kv/a", None),
        ("GET", "/v1/kv/?recurse", None),
        ("PUT", "/v1/kv/a", b"2"),
        ("DELETE", "/v1/kv/?recurse", None),
        ("PUT", "/v1/txn", b'[{"KV": {"Verb": "delete-tree", "Key": ""}}]'),
        ("PUT", "/v1/session/create", None),
        ("GET", "/v1/session/list", None),
        ("PUT", "/v1/event/fire/e", None),
        ("GET", "/v1/event/list", None),
        ("GET", "/v1/query", None),
        ("POST", "/v1/query", b'{"Name": "q", "Service": {"Service": "web"}}'),
    ],
)
async def test_who_is_neither_the_host_nor_a_container_of_it_has_no_keys(
    lab: Lab, method: str, target: str, body: bytes | None
) -> None:
    await lab.put("/v1/kv/a", b"1")
    lab.guests.add("127.0.0.1")
    lab.let_container_go()
    answer = await lab.call(method, target, body)
    assert answer.status == 403
    assert answer.text == "Permission denied: keys are for the host and its containers"
    lab.guests.clear()
    lab.let_container_go()  # so that it is found out again who calls
    assert await lab.value("a") == b"1"
    assert (await lab.get("/v1/session/list")).json() == []
    assert (await lab.get("/v1/event/list")).json() == []


async def test_a_container_that_is_gone_after_a_wait_is_told_of_no_key(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    lab.guests.add("127.0.0.1")
    lab.let_container_go()
    lab.put_entries()  # the container is there
    waiting = await waits(lab, "/v1/kv/a?index=2&wait=9s")
    lab.let_container_go()
    await lab.api.transact(Operation(verb="set", key="a", value=b"2"))
    assert (await waiting).status == 403


class Racing(KeysApi):
    """Somebody makes a prepared query just after this has read them."""

    def __init__(self, lab: Lab, names: list[str]) -> None:
        super().__init__(str(lab.daemon.path))
        self._lab = lab
        self._names = names

    async def read(self, key: str) -> KeyReading:
        found = await super().read(key)
        if key == QUERIES and self._names:
            asked = {"Name": self._names.pop(), "Service": {"Service": "web"}}
            made = await self._lab.call("POST", "/v1/query", json.dumps(asked))
            assert made.status == 200
        return found


async def test_a_query_that_is_made_meanwhile_is_not_deleted(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    racing = Racing(lab, ["one", "two"])
    delete = Operation(verb="delete-tree", key="")
    assert not (await reserved.transact(racing, [delete])).failures
    assert {row["Name"] for row in (await lab.get("/v1/query")).json()} == {"one", "two"}
    assert (await lab.get("/v1/kv/?keys")).json() == []
    racing._names += [f"n{number}" for number in range(9)]
    with pytest.raises(Refused) as caught:
        await reserved.transact(racing, [delete])
    assert caught.value.status == 503
    await racing.close()
