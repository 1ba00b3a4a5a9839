"""The API's calls about keys and sessions, and the client's methods for them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest

from netd.client import ApiError, Client
from netd.model.kv import OPERATIONS_MAX, VALUE_MAX_BYTES
from tests.unit.memory_engine import Served, served

T = TypeVar("T")


@pytest.fixture
async def api() -> AsyncIterator[Served]:
    async with served() as world:
        yield world


async def asked(api: Served, work: Callable[[Client], T]) -> T:
    """What a client gets that runs in a thread of its own."""

    def run() -> T:
        with Client(str(api.path)) as client:
            return work(client)

    return await asyncio.to_thread(run)


KEYS = ["a", "a/b", "..", ".", "é/ü", "a b?c#d%2F", "\x01", "x" * 1024]


@pytest.mark.parametrize("key", KEYS)
async def test_keys_of_any_kind(api: Served, key: str) -> None:
    value = bytes(range(256))

    def work(client: Client) -> None:
        assert client.kv.get(key) == {"index": 1, "entry": None}
        assert client.kv.put(key, value, flags=2**64 - 1)
        found = client.kv.get(key)["entry"]
        assert (found["key"], found["value"], found["flags"]) == (key, value, 2**64 - 1)
        assert client.kv.names()["keys"] == [key]
        assert client.kv.entries(key)["entries"] == [found]
        assert not client.kv.delete(key, cas=found["modify_index"] + 1)
        assert client.kv.delete(key)
        assert client.kv.get(key)["entry"] is None

    await asked(api, work)


async def test_conditions_and_trees(api: Served) -> None:
    def work(client: Client) -> None:
        assert client.kv.put("t/1", b"", cas=0)
        assert not client.kv.put("t/1", b"", cas=0)
        client.kv.put("t/2/3")
        assert client.kv.names("t/", "/")["keys"] == ["t/1", "t/2/"]
        client.kv.delete_tree("t/2")
        assert client.kv.names("t/", "/")["keys"] == ["t/1"]

    await asked(api, work)


async def test_sessions_and_locks(api: Served) -> None:
    def work(client: Client) -> None:
        session = client.kv.create_session(name="leader", ttl_s=10.0, behavior="delete")
        assert (session["node"], session["lock_delay_s"]) == ("here", 15.0)
        assert client.kv.put("lock", b"1", acquire=session["id"])
        assert client.kv.session(session["id"]) == session
        assert client.kv.sessions() == client.kv.sessions("here") == [session]
        assert client.kv.sessions("there") == []
        assert client.kv.renew_session(session["id"]) == session
        client.kv.destroy_session(session["id"])
        client.kv.destroy_session(session["id"])
        assert client.kv.get("lock")["entry"] is None
        for call in (client.kv.session, client.kv.renew_session):
            with pytest.raises(ApiError) as caught:
                call(session["id"])
            assert caught.value.code == "not-found"

    await asked(api, work)


async def test_transactions(api: Served) -> None:
    def work(client: Client) -> None:
        done = client.kv.transact(
            {"verb": "set", "key": "a", "value": b"1"}, {"verb": "get", "key": "a"}
        )
        assert [entry["value"] for entry in done["results"]] == [b"", b"1"]
        failed = client.kv.transact(
            {"verb": "set", "key": "b"}, {"verb": "check-not-exists", "key": "a"}
        )
        assert failed["results"] == []
        assert failed["failures"] == [
            {"operation": 1, "fault": "exists", "detail": "key 'a' exists"}
        ]
        assert client.kv.names()["keys"] == ["a"]

    await asked(api, work)


async def test_a_read_waits(api: Served) -> None:
    def wait(client: Client) -> int:
        index: int = client.kv.get("k", index=1, wait_s=15)["index"]
        return index

    waiting = asyncio.create_task(asked(api, wait))
    async with asyncio.timeout(10):
        while not api.engine.kv.changes.waiting:
            await asyncio.sleep(0.01)
    await asked(api, lambda client: client.kv.put("other"))
    await asked(api, lambda client: client.kv.put("k"))
    async with asyncio.timeout(10):
        assert await waiting == 3


async def test_changes_are_a_stream(api: Served) -> None:
    def follow(client: Client) -> list[str]:
        with client.kv.changes() as changes:
            for change in changes:
                if change["keys"]:
                    return list(change["keys"])
        raise AssertionError("the stream has ended")

    following = asyncio.create_task(asked(api, follow))
    async with asyncio.timeout(10):
        while not api.engine.kv.changes.wanted.is_set():
            await asyncio.sleep(0.01)
    await asked(api, lambda client: client.kv.put("k"))
    async with asyncio.timeout(10):
        assert await following == ["k"]


async def test_the_holder(api: Served) -> None:
    def work(client: Client) -> None:
        assert client.kv.status()["holder"] == "here"
        assert client.kv.move("there")["holder"] == "there"
        with pytest.raises(ApiError) as caught:
            client.kv.move("nowhere")
        assert (caught.value.code, caught.value.field) == ("not-found", "node")

    await asked(api, work)


LARGE = "A" * (4 * (VALUE_MAX_BYTES // 3 + 1))


@pytest.mark.parametrize(
    ("method", "target", "body", "field"),
    [
        ("PUT", "/v1/kv/a", {"value": "no base64!"}, "value"),
        ("PUT", "/v1/kv/a", {"value": LARGE}, "value"),
        ("PUT", "/v1/kv/a", {"flags": -1}, "flags"),
        ("PUT", "/v1/kv/a", {"flags": 2**64}, "operations[0].flags"),
        ("PUT", "/v1/kv/a", {"cas": 1, "acquire": "s"}, "cas"),
        ("PUT", "/v1/kv/a", {"cas": -1}, "cas"),
        ("PUT", "/v1/kv/a", {"acquire": "nobody"}, "acquire"),
        ("PUT", "/v1/kv/" + "a" * 1025, {}, "operations[0].key"),
        ("DELETE", "/v1/kv/a?cas=0", None, "cas"),
        ("DELETE", "/v1/kv/a?cas=x", None, "cas"),
        ("DELETE", "/v1/kv", None, "prefix"),
        ("GET", "/v1/kv?wait_s=16", None, "wait_s"),
        ("GET", "/v1/kv?index=-1", None, "index"),
        ("GET", "/v1/kv/a?wait_s=-1", None, "wait_s"),
        ("POST", "/v1/transactions", {"operations": []}, "operations"),
        ("POST", "/v1/transactions", {"operations": [{"verb": "put", "key": "a"}]}, None),
        (
            "POST",
            "/v1/transactions",
            {"operations": [{"verb": "get", "key": "a"}] * (OPERATIONS_MAX + 1)},
            "operations",
        ),
        ("POST", "/v1/sessions", {"ttl_s": 9}, "ttl_s"),
        ("POST", "/v1/sessions", {"ttl_s": 86401}, "ttl_s"),
        ("POST", "/v1/sessions", {"lock_delay_s": 61}, "lock_delay_s"),
        ("POST", "/v1/sessions", {"behavior": "keep"}, "behavior"),
        ("POST", "/v1/kv-holder", {}, "node"),
    ],
)
async def test_what_cannot_be(
    api: Served, method: str, target: str, body: dict[str, Any] | None, field: str | None
) -> None:
    def work(client: Client) -> ApiError:
        with pytest.raises(ApiError) as caught:
            client._whole(method, target, body)
        return caught.value

    error = await asked(api, work)
    assert (error.status, error.code) == (400, "invalid")
    if field is not None:
        assert error.field == field
    assert (await api.engine.kv.status()).keys == 0
