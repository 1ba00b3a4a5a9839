"""Clients that people use, unmodified, upon Consul's calls about keys.

`consul` is py-consul or python-consul2, whichever is installed: what is asked here is the same.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import consul
import pytest

from tests.unit.consul_keys_lab import Lab, consul_keys, web

T = TypeVar("T")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the clients


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with consul_keys() as made:
        yield made


async def asked(lab: Lab, work: Callable[[Any], T]) -> T:
    """What a program gets that runs in a thread of its own."""

    def run() -> T:
        client = consul.Consul("127.0.0.1", lab.port)
        try:
            return work(client)
        finally:
            client.http.session.close()

    return await asyncio.to_thread(run)


async def test_keys(lab: Lab) -> None:
    def work(c: Any) -> None:
        index, data = c.kv.get("foo")
        assert (index, data) == ("1", None)
        assert c.kv.put("foo", "bar") is True
        index, data = c.kv.get("foo")
        assert (index, data["Value"], data["Flags"]) == ("2", b"bar", 0)
        assert c.kv.put("foo", b"\x00\xff", flags=50)
        assert c.kv.get("foo")[1]["Value"] == b"\x00\xff"
        assert c.kv.get("foo")[1]["Flags"] == 50
        assert c.kv.put("foo", None)
        assert c.kv.get("foo")[1]["Value"] is None
        assert c.kv.put("foo", "x", cas=0) is False
        assert c.kv.delete("foo", cas=1) is False
        assert c.kv.delete("foo") is True
        assert c.kv.get("foo")[1] is None

    await asked(lab, work)


async def test_trees(lab: Lab) -> None:
    def work(c: Any) -> None:
        for key in ("base/a", "base/b/c", "base/b/d", "other"):
            c.kv.put(key, key)
        _, rows = c.kv.get("base/", recurse=True)
        assert [row["Key"] for row in rows] == ["base/a", "base/b/c", "base/b/d"]
        assert rows[0]["Value"] == b"base/a"
        assert c.kv.get("base/", keys=True)[1] == ["base/a", "base/b/c", "base/b/d"]
        assert c.kv.get("base/", keys=True, separator="/")[1] == ["base/a", "base/b/"]
        assert c.kv.get("", keys=True)[1] == ["base/a", "base/b/c", "base/b/d", "other"]
        assert c.kv.get("none", recurse=True)[1] is None
        assert c.kv.delete("base/", recurse=True)
        assert c.kv.get("", keys=True)[1] == ["other"]
        assert c.kv.delete("", recurse=True)
        assert not c.kv.get("", keys=True)[1]

    await asked(lab, work)


async def test_a_program_that_follows_its_configuration(lab: Lab) -> None:
    seen: list[bytes] = []
    ready = threading.Event()

    def work(c: Any) -> None:
        index = None
        while len(seen) < 3:
            index, data = c.kv.get("config", index=index, wait="5s")
            if data is not None:
                seen.append(data["Value"])
            ready.set()

    following = asyncio.get_running_loop().create_task(asked(lab, work))
    await asyncio.to_thread(ready.wait, 10)
    for number in range(3):
        await lab.started(1)
        await lab.put("/v1/kv/config", str(number))
        async with asyncio.timeout(10):
            while len(seen) <= number:
                await asyncio.sleep(0.005)
    await following
    assert seen == [b"0", b"1", b"2"]


async def test_one_leader_of_two(lab: Lab) -> None:
    def work(c: Any) -> None:
        one = c.session.create(name="one", behavior="delete", ttl=10, lock_delay=0)
        two = c.session.create(name="two", ttl=20, lock_delay=0)
        assert c.kv.put("leader", "one", acquire=one) is True
        assert c.kv.put("leader", "two", acquire=two) is False
        row = c.kv.get("leader")[1]
        assert (row["Session"], row["Value"]) == (one, b"one")
        assert c.session.renew(one)["ID"] == one
        assert c.session.destroy(one) is True
        assert c.kv.get("leader")[1] is None
        assert c.kv.put("leader", "two", acquire=two) is True
        assert c.kv.put("leader", "two", release=two) is True
        with pytest.raises(consul.ConsulException):
            c.kv.put("leader", "x", acquire="1" * 8 + "-1111-1111-1111-" + "1" * 12)

    await asked(lab, work)


async def test_sessions(lab: Lab) -> None:
    def work(c: Any) -> None:
        index, sessions = c.session.list()
        assert sessions == []
        made = c.session.create("name", ttl=10, lock_delay=15, behavior="delete")
        assert c.session.list(index=index)[1][0]["ID"] == made
        assert c.session.node("here")[1][0]["ID"] == made
        info = c.session.info(made)[1]
        assert (info["ID"], info["Name"], info["TTL"]) == (made, "name", "10s")
        assert info["LockDelay"] == 15e9
        assert c.session.destroy(made) is True
        assert not c.session.info(made)[1]
        with pytest.raises(consul.NotFound):
            c.session.renew(made)

    await asked(lab, work)


async def test_transactions(lab: Lab) -> None:
    def work(c: Any) -> None:
        value = "MTIz"
        done = c.txn.put([{"KV": {"Verb": "set", "Key": "asdf", "Value": value}}])
        assert done["Results"][0]["KV"]["Key"] == "asdf"
        assert done["Errors"] is None
        done = c.txn.put([{"KV": {"Verb": "get", "Key": "asdf"}}])
        assert done["Results"][0]["KV"]["Value"] == value

    await asked(lab, work)


async def test_events(lab: Lab) -> None:
    def work(c: Any) -> None:
        assert c.event.fire("fooname", "foobody")
        index, events = c.event.list()
        assert [event["Name"] for event in events] == ["fooname"]
        assert events[0]["Payload"] in (b"foobody", "Zm9vYm9keQ==")  # one decodes it, one does not
        assert c.event.list(name="other")[1] == []
        assert c.event.list(index=index, wait="20ms")[0] == index

    await asked(lab, work)


async def test_prepared_queries(lab: Lab) -> None:
    lab.put_entries(web("web-1", tags=("master",)))

    def work(c: Any) -> None:
        made = c.query.create("web", "fooquery", onlypassing=True, tags=["master"], ttl="10s")
        assert c.query.get(made["ID"])[0]["Name"] == "fooquery"
        assert [row["ID"] for row in c.query.list()] == [made["ID"]]
        assert c.query.explain("fooquery")["Query"]["Service"]["Service"] == "web"
        answer = c.query.execute("fooquery")
        assert [row["Service"]["ID"] for row in answer["Nodes"]] == ["web-1"]
        assert c.query.update(made["ID"], "db", "fooquery")
        assert c.query.execute("fooquery")["Nodes"] == []
        assert c.query.delete(made["ID"]) is True
        assert c.query.list() == []

    await asked(lab, work)
