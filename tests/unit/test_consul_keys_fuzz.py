"""Consul's calls about keys, asked for nonsense: each is answered, none by a fault of ours."""

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.consul_keys_lab import Lab, consul_keys, web

ROUNDS = 400
PATHS = [
    *("kv/", "kv/a", "kv/a/b", "kv/%ff", "kv/.netd/", "kv/.netd/consul/queries", "kv//", "kv/%00"),
    *("session/create", "session/list", "session/info/x", "session/node/here", "session/renew/x"),
    *("session/destroy/x", "txn", "event/list", "event/fire/e", "event/fire/_e"),
    *("query", "query/x", "query/q", "query/q/execute", "query/q/explain", "query//execute"),
]
NAMES = [
    *("recurse", "keys", "separator", "seperator", "raw", "cas", "flags", "acquire", "release"),
    *("index", "wait", "dc", "stale", "consistent", "pretty", "limit", "near", "name", "node"),
    *("service", "tag", "connect", "cached", "token"),
]
VALUES = ["", "0", "1", "-1", "x", "a/b", "%ff", "(", "2" * 30, "1ms", "dc1", "true", "_agent"]
FIELDS = [
    *("KV", "Verb", "Key", "Value", "Flags", "Index", "Session", "Name", "Service", "Template"),
    *("Type", "Regexp", "Tags", "TTL", "LockDelay", "Checks", "NodeChecks", "ServiceChecks"),
    *("DNS", "Failover", "Targets", "Datacenters", "NodeMeta", "Node", "Behavior", "Token"),
]
TEXTS = ["", "a", "set", "delete-tree", "get-tree", "q", "web", "10s", "${match(9)}", "(", "MQ=="]
TEXTS += ["name_prefix_match", "${name.full}", "\ud800", "x" * 2000]


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with consul_keys() as made:
        yield made


def value(pick: random.Random, depth: int = 0) -> Any:
    kind = pick.randrange(9 if depth < 4 else 5)
    if kind == 0:
        return pick.choice([None, True, False])
    if kind == 1:
        return pick.choice([0, -1, 7, 2**63, 2**64, 1e300, 1.5])
    if kind < 5:
        return pick.choice(TEXTS)
    if kind == 5:
        return [value(pick, depth + 1) for _ in range(pick.randrange(3))]
    return {pick.choice(FIELDS): value(pick, depth + 1) for _ in range(pick.randrange(5))}


def body(pick: random.Random) -> bytes:
    if pick.random() < 0.2:
        return pick.randbytes(pick.randrange(40))
    asked = value(pick)
    if pick.random() < 0.4:
        asked = [{"KV": asked}]
    return json.dumps(asked).encode()


@pytest.mark.parametrize("seed", range(4))
async def test_nonsense(lab: Lab, seed: int) -> None:
    pick = random.Random(seed)
    lab.put_entries(web("web-1"))
    statuses = set()
    for _ in range(ROUNDS):
        given = [f"{pick.choice(NAMES)}={pick.choice(VALUES)}" for _ in range(pick.randrange(4))]
        given = [each for each in given if not each.startswith("wait=")] + ["wait=1ms"]
        method = pick.choice(["GET", "PUT", "PUT", "POST", "DELETE", "HEAD"])
        target = f"/v1/{pick.choice(PATHS)}?{'&'.join(given)}"
        sent = None if method in ("GET", "HEAD") else body(pick)
        answer = await lab.call(method, target, sent)
        assert "internal error" not in answer.text, (method, target, sent)
        assert answer.status in (200, 400, 403, 404, 405, 409, 413, 500), (method, target, sent)
        statuses.add(answer.status)
    assert {200, 400, 404} <= statuses
    assert await lab.put("/v1/kv/still-there", b"1") is True
    assert (await lab.get("/v1/query")).status == 200
