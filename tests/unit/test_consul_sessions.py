"""Consul's calls about sessions and transactions."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.kv import OPERATIONS_MAX, VALUE_MAX_BYTES
from netd.registry.consul.fields import Fields
from netd.registry.consul.reserved import QUERIES
from netd.registry.consul.session import spec_of
from netd.registry.consul.txn import Faulty, asked_of
from netd.registry.http.call import Failure
from tests.unit.consul_keys_lab import Lab, consul_keys, web


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with consul_keys() as made:
        yield made


async def test_a_session(lab: Lab) -> None:
    session = await lab.session()
    shown = await lab.get(f"/v1/session/info/{session}")
    assert shown.json() == [
        {
            "ID": session,
            "Name": "",
            "Node": "here",
            "LockDelay": 15_000_000_000,
            "Behavior": "release",
            "TTL": "",
            "NodeChecks": ["serfHealth"],
            "ServiceChecks": None,
            "CreateIndex": 2,
            "ModifyIndex": 2,
        }
    ]
    assert shown.index == 2
    assert (await lab.get("/v1/session/list")).json() == shown.json()
    assert (await lab.get("/v1/session/node/here")).json() == shown.json()
    assert (await lab.get("/v1/session/node/there")).json() == []
    assert (await lab.call("PUT", f"/v1/session/renew/{session}")).json() == shown.json()
    assert await lab.put(f"/v1/session/destroy/{session}") is True
    assert await lab.put(f"/v1/session/destroy/{session}") is True
    gone = await lab.get(f"/v1/session/info/{session}")
    assert (gone.json(), gone.index) == ([], 3)
    missing = await lab.call("PUT", f"/v1/session/renew/{session}")
    assert (missing.status, missing.text) == (404, f"Session id '{session}' not found")


async def test_what_a_session_may_say(lab: Lab) -> None:
    asked = {
        "name": "leader",
        "node": "here",
        "lockdelay": "30s",
        "behavior": "delete",
        "ttl": "1m30s",
        "checks": [],
    }
    session = await lab.session(json.dumps(asked))
    (row,) = (await lab.get(f"/v1/session/info/{session}")).json()
    assert (row["Name"], row["LockDelay"], row["Behavior"]) == ("leader", 30 * 10**9, "delete")
    assert (row["TTL"], row["NodeChecks"]) == ("90s", [])


async def test_checks_of_instances(lab: Lab) -> None:
    lab.put_entries(web("web-1"))
    asked = {"NodeChecks": ["serfHealth"], "ServiceChecks": [{"ID": "service:web-1:c"}]}
    session = await lab.session(json.dumps(asked))
    (held,) = (await lab.api.sessions()).sessions
    assert held.service_checks == ("web-1/c",)
    (row,) = (await lab.get(f"/v1/session/info/{session}")).json()
    assert row["ServiceChecks"] == [{"ID": "service:web-1:c", "Namespace": ""}]


@pytest.mark.parametrize(
    ("given", "delay_s"),
    [(None, 15), ("15s", 15), ("500ms", 0.5), (5, 5), (0, 0), (5_000_000_000, 5), ("2h", 60)],
)
def test_lock_delays(given: Any, delay_s: float) -> None:
    assert spec_of(Fields({"LockDelay": given})).lock_delay_s == delay_s


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"TTL": "9s"}', 500),
        ('{"TTL": "25h"}', 500),
        ('{"TTL": "soon"}', 500),
        ('{"TTL": 10}', 400),
        ('{"LockDelay": "-1s"}', 400),
        ('{"LockDelay": []}', 400),
        ('{"LockDelay": NaN}', 400),
        ('{"Behavior": "keep"}', 500),
        ('{"Checks": "serfHealth"}', 400),
        ('{"ServiceChecks": ["c"]}', 400),
        ('{"Name": "' + "n" * 300 + '"}', 400),
        ('{"Name": 1}', 400),
        ("[]", 400),
        ("{", 400),
        ("\xff", 400),
        ("[" * 10_000, 400),
    ],
)
async def test_no_session(lab: Lab, body: str, status: int) -> None:
    answer = await lab.call("PUT", "/v1/session/create", body.encode("latin-1"))
    assert answer.status == status, answer.text
    assert (await lab.get("/v1/session/list")).json() == []


async def test_sessions_are_waited_for(lab: Lab) -> None:
    one = await lab.session()
    loop = asyncio.get_running_loop()
    listed = loop.create_task(lab.get("/v1/session/list?index=2&wait=9s"))
    info = loop.create_task(lab.get(f"/v1/session/info/{one}?index=2&wait=9s"))
    elsewhere = loop.create_task(lab.get("/v1/session/node/there?index=2&wait=1s"))
    await lab.started(3)
    two = await lab.session()
    assert {row["ID"] for row in (await listed).json()} == {one, two}
    assert not info.done()
    assert not elsewhere.done()
    await lab.put(f"/v1/session/destroy/{one}")
    assert (await info).json() == []
    assert (await elsewhere).json() == []


# Transactions


def kv(verb: str, key: str, value: bytes | None = None, **fields: Any) -> dict[str, Any]:
    shown = None if value is None else base64.b64encode(value).decode()
    return {"KV": {"Verb": verb, "Key": key, "Value": shown, **fields}}


async def txn(lab: Lab, *steps: Any) -> Any:
    return await lab.put("/v1/txn", json.dumps(steps))


async def refused(lab: Lab, *steps: Any) -> Any:
    answer = await lab.call("PUT", "/v1/txn", json.dumps(steps))
    assert answer.status == 409
    found = answer.any_json()
    assert found["Results"] is None
    return [(error["OpIndex"], error["What"]) for error in found["Errors"]]


async def test_a_transaction(lab: Lab) -> None:
    done = await txn(
        lab, kv("set", "a", b"1", Flags=3), kv("get", "a"), kv("get-or-empty", "b"), kv("set", "c")
    )
    assert done["Errors"] is None
    rows = [result["KV"] for result in done["Results"]]
    assert [(row["Key"], row["Value"], row["Flags"]) for row in rows] == [
        ("a", None, 3),
        ("a", "MQ==", 3),
        ("b", None, 0),
        ("c", None, 0),
    ]
    assert {row["ModifyIndex"] for row in rows} == {2, 0}


async def test_nothing_is_done_where_something_fails(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    faults = await refused(
        lab, kv("set", "b", b"1"), kv("cas", "a", b"2", Index=7), kv("check-not-exists", "a")
    )
    assert [number for number, _ in faults] == [1, 2]
    assert "stale" in faults[0][1]
    assert (await lab.get("/v1/kv/?keys")).json() == ["a"]


async def test_locks_in_a_transaction(lab: Lab) -> None:
    session = await lab.session()
    done = await txn(lab, kv("lock", "a", b"1", Session=session))
    assert done["Results"][0]["KV"]["Session"] == session
    assert (await txn(lab, kv("check-session", "a", Session=session)))["Errors"] is None
    assert (await refused(lab, kv("unlock", "a", Session="other")))[0][0] == 0
    assert (await refused(lab, kv("lock", "a", Session="other")))[0][0] == 0


async def test_what_only_reads_has_the_headers_of_reads(lab: Lab) -> None:
    await lab.put("/v1/kv/a", b"1")
    answer = await lab.call("PUT", "/v1/txn", json.dumps([kv("get-tree", "")]))
    assert (answer.index, len(answer.json()["Results"])) == (2, 1)
    answer = await lab.call("PUT", "/v1/txn", json.dumps([kv("set", "a", b"2")]))
    assert "X-Consul-Index" not in answer.headers


@pytest.mark.parametrize("body", ["", "null", "[]"])
async def test_nothing_to_do(lab: Lab, body: str) -> None:
    assert await lab.put("/v1/txn", body) == {"Results": [], "Errors": None}


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ({"KV": {}}, 400),
        (["set"], 400),
        ([{}], 400),
        ([{"KV": []}], 400),
        ([{"Other": {}}], 400),
        ([kv("put", "a")], 409),
        ([kv("set", "")], 409),
        ([{"Node": {"Verb": "get", "Node": {"Node": "nowhere"}}}], 409),
        ([kv("set", "a", Value="?")], 400),
        ([kv("set", "a", Value=1)], 400),
        ([kv("set", "a", Flags=-1)], 400),
        ([kv("set", "a", Flags=2**64)], 400),
        ([kv("cas", "a", Index=2**63)], 400),
        ([kv("set", "a" * 1025)], 400),
        ([kv("set", "a")] * (OPERATIONS_MAX + 1), 413),
        ([kv("set", "a", b"x" * (VALUE_MAX_BYTES // 2 + 1))] * 2, 413),
        ([kv("set", QUERIES, b"x")], 409),
        ([kv("get", QUERIES)], 409),
    ],
)
async def test_no_transaction(lab: Lab, steps: Any, status: int) -> None:
    answer = await lab.call("PUT", "/v1/txn", json.dumps(steps))
    assert answer.status == status, answer.text
    assert (await lab.get("/v1/kv/?keys")).json() == []


async def test_a_full_transaction(lab: Lab) -> None:
    steps = [kv("set", f"k{number}", b"x" * 4096) for number in range(OPERATIONS_MAX)]
    assert len((await txn(lab, *steps))["Results"]) == OPERATIONS_MAX


async def test_reserved_keys_outlive_a_transaction(lab: Lab) -> None:
    made = await lab.call("POST", "/v1/query", '{"Name": "q", "Service": {"Service": "web"}}')
    assert made.status == 200
    await lab.put("/v1/kv/a", b"1")
    done = await txn(lab, kv("delete-tree", ""), kv("set", "b", b"1"), kv("get-tree", ""))
    assert [each["KV"]["Key"] for each in done["Results"]] == ["b", "b"]
    faults = await refused(lab, kv("delete-tree", ""), kv("get", "missing"))
    assert [number for number, _ in faults] == [1]
    assert (await lab.get("/v1/kv/?keys")).json() == ["b"]
    assert [row["Name"] for row in (await lab.get("/v1/query")).json()] == ["q"]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=4), SCALARS)
NAMES = ["KV", "Node", "Verb", "Key", "Value", "Flags", "Index", "Session", "TTL", "LockDelay"]
NAMES += ["Behavior", "Checks", "NodeChecks", "ServiceChecks", "ID", "Name"]
OBJECTS = st.dictionaries(
    st.sampled_from(NAMES), JSON | st.dictionaries(st.sampled_from(NAMES), JSON)
)


def status_of(work: Callable[[], object]) -> int:
    """Of what it is answered with; what is raised beside a `Failure` is a fault of ours."""
    try:
        work()
    except Failure as failure:
        return failure.status
    except Faulty:
        return 409
    return 200


@given(st.lists(OBJECTS, max_size=4))
def test_transactions_are_refused_by_failures_alone(steps: list[Any]) -> None:
    body = json.dumps(steps).encode("utf-8", "surrogatepass")
    assert status_of(lambda: asked_of(body)) in (200, 400, 409, 413)


@given(st.binary(max_size=64))
def test_bodies_of_any_bytes(body: bytes) -> None:
    assert status_of(lambda: asked_of(body)) in (200, 400)


@given(OBJECTS)
def test_sessions_are_refused_by_failures_alone(asked: dict[str, Any]) -> None:
    assert status_of(lambda: spec_of(Fields(asked))) in (200, 400, 500)
