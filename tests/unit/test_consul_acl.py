"""Tokens of Consul's API: who may make them, what they allow, and what is kept of them."""

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from netd.model.consul_token import hash_of
from netd.model.directory import RegistrySettings
from netd.model.service import NODE_SERVICE, Check, Service
from netd.registry.catalog.records import node_record
from netd.registry.consul.events import Event
from netd.registry.consul.reserved import ACL
from tests.unit.consul_keys_lab import Answer, Lab, consul_keys, until, web

ROOT = "6b2f1c1e-7f65-4d35-9d60-6f6d9f5f4f11"  # as configured
ANONYMOUS = "00000000-0000-0000-0000-000000000002"


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    """With access control, a token that is configured, and nothing allowed without one."""
    async with consul_keys() as made:
        switch_on(made, token=ROOT)
        yield made


def switch_on(lab: Lab, *, token: str = "", default: Any = "deny") -> None:
    lab.settings = RegistrySettings(
        consul_acl=True,
        consul_acl_default=default,
        consul_acl_token=hash_of(token) if token else "",
    )


async def ask(lab: Lab, method: str, target: str, body: Any = None, *, token: str = ROOT) -> Answer:
    headers = {"X-Consul-Token": token} if token else {}
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
    return await lab.call(method, target, data, **headers)


async def policy(lab: Lab, name: str, rules: str) -> str:
    made = await ask(lab, "PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
    ident: str = made.json()["ID"]
    return ident


async def token(lab: Lab, rules: str = "", **more: Any) -> dict[str, Any]:
    """A new token with rules of its own."""
    links = []
    if rules:
        name = f"p{len((await ask(lab, 'GET', '/v1/acl/policies')).json())}"
        links = [{"ID": await policy(lab, name, rules)}]
    made = await ask(lab, "PUT", "/v1/acl/token", {"Policies": links, **more})
    found: dict[str, Any] = made.json()
    return found


# Off


async def test_without_access_control_there_is_none() -> None:
    async with consul_keys() as lab:
        for method, path in (
            ("PUT", "/v1/acl/bootstrap"),
            ("PUT", "/v1/acl/token"),
            ("GET", "/v1/acl/token/self"),
            ("GET", "/v1/acl/token/x"),
            ("GET", "/v1/acl/tokens"),
            ("GET", "/v1/acl/policies"),
            ("GET", "/v1/acl/policy/name/x"),
            ("GET", "/v1/acl/role/name/x"),
            ("POST", "/v1/acl/login"),
            ("PUT", "/v1/acl/create"),
            ("PUT", "/v1/agent/token/default"),
        ):
            answer = await lab.call(method, path)
            assert (answer.status, answer.text) == (401, "ACL support disabled"), path
            assert answer.headers["X-Consul-Default-ACL-Policy"] == "allow"
        # A token that nobody asks for does no harm.
        assert (await ask(lab, "PUT", "/v1/kv/a", b"1", token="whatever")).json() is True
        assert (await ask(lab, "GET", "/v1/kv/a?token=other", token="")).status == 200


# The first token


async def test_the_first_token_is_given_once(lab: Lab) -> None:
    switch_on(lab)
    answer = await ask(lab, "PUT", "/v1/acl/bootstrap", token="")
    made = answer.json()
    assert made["ID"] == made["SecretID"]
    assert made["Policies"] == [
        {"ID": "00000000-0000-0000-0000-000000000001", "Name": "global-management"}
    ]
    assert answer.headers["Cache-Control"] == "no-store"
    again = await ask(lab, "PUT", "/v1/acl/bootstrap", token="")
    assert again.status == 403
    assert again.text.startswith("Permission denied: ACL bootstrap no longer allowed (reset index")
    secret = made["SecretID"]
    assert (await ask(lab, "PUT", "/v1/kv/a", b"1", token=secret)).json() is True
    assert (await ask(lab, "GET", "/v1/acl/tokens", token=secret)).status == 200


async def test_the_first_token_may_be_chosen(lab: Lab) -> None:
    switch_on(lab)
    made = await ask(lab, "PUT", "/v1/acl/bootstrap", {"BootstrapSecret": "nonsense"}, token="")
    assert made.status == 400
    made = await ask(lab, "PUT", "/v1/acl/bootstrap", {"BootstrapSecret": ROOT}, token="")
    assert made.json()["SecretID"] == ROOT


async def test_who_has_configured_a_token_needs_no_first_one(lab: Lab) -> None:
    assert (await ask(lab, "PUT", "/v1/acl/bootstrap", token="")).status == 403
    own = (await ask(lab, "GET", "/v1/acl/token/self")).json()
    assert own["Description"] == "Configured by consul.acl_token_file"
    assert own["Policies"][0]["Name"] == "global-management"


async def test_a_container_does_not_get_the_first_token(lab: Lab) -> None:
    switch_on(lab)
    lab.guests.add("127.0.0.1")
    answer = await ask(lab, "PUT", "/v1/acl/bootstrap", token="")
    assert (answer.status, answer.text) == (
        403,
        "Permission denied: this is for the host itself",
    )


# Who shows what


async def test_ways_to_show_a_token(lab: Lab) -> None:
    await ask(lab, "PUT", "/v1/kv/a", b"1")
    for target, headers in (
        (f"/v1/kv/a?token={ROOT}", {}),
        ("/v1/kv/a", {"X-Consul-Token": ROOT}),
        ("/v1/kv/a", {"Authorization": f"Bearer {ROOT}"}),
        ("/v1/kv/a", {"Authorization": f"bEaReR   {ROOT} "}),
        # Of several, the parameter is looked at first, then Consul's own header.
        (f"/v1/kv/a?token={ROOT}", {"X-Consul-Token": "none"}),
        ("/v1/kv/a", {"X-Consul-Token": ROOT, "Authorization": "Bearer none"}),
        ("/v1/kv/a?token=", {"X-Consul-Token": ROOT}),
    ):
        assert (await lab.call("GET", target, **headers)).status == 200, (target, headers)
    refused = await lab.call("GET", "/v1/kv/a", Authorization=f"Basic {ROOT}")
    assert refused.status == 403


async def test_no_token_is_the_anonymous_one(lab: Lab) -> None:
    for secret in ("", "anonymous"):
        answer = await ask(lab, "GET", "/v1/kv/a", token=secret)
        assert (answer.status, answer.text) == (
            403,
            "Permission denied: anonymous token lacks permission 'key:read' on \"a\". The "
            "anonymous token is used implicitly when a request does not specify a token.",
        )
        assert answer.headers["X-Consul-Default-ACL-Policy"] == "deny"
    ident = await policy(lab, "all-may-read", 'key_prefix "" { policy = "read" }')
    changed = await ask(lab, "PUT", f"/v1/acl/token/{ANONYMOUS}", {"Policies": [{"ID": ident}]})
    assert changed.json()["SecretID"] == "anonymous"
    assert (await ask(lab, "GET", "/v1/kv/a", token="")).status == 404
    assert (await ask(lab, "PUT", "/v1/kv/a", b"1", token="")).status == 403
    assert (await ask(lab, "DELETE", f"/v1/acl/token/{ANONYMOUS}")).status == 400


async def test_a_token_that_nobody_knows(lab: Lab) -> None:
    for path in ("/v1/kv/a", "/v1/catalog/nodes", "/v1/agent/self", "/v1/acl/token/self"):
        answer = await ask(lab, "GET", path, token="nobody's")
        assert (answer.status, answer.text) == (403, "ACL not found"), path
    assert lab.acl.gate.denied == 4
    # What tells nothing of anybody is answered, so that clients that wait for it go on.
    for path in ("/", "/v1/status/leader", "/v1/status/peers", "/v1/catalog/datacenters"):
        assert (await ask(lab, "GET", path, token="nobody's")).status == 200, path


async def test_everything_may_be_allowed_but_what_a_rule_denies(lab: Lab) -> None:
    switch_on(lab, token=ROOT, default="allow")
    answer = await ask(lab, "PUT", "/v1/kv/a", b"1", token="")
    assert answer.json() is True
    assert answer.headers["X-Consul-Default-ACL-Policy"] == "allow"
    assert (await ask(lab, "GET", "/v1/acl/tokens", token="")).status == 403
    made = await token(lab, 'key_prefix "secret/" { policy = "deny" }')
    assert (await ask(lab, "PUT", "/v1/kv/a", b"2", token=made["SecretID"])).json() is True
    refused = await ask(lab, "GET", "/v1/kv/secret/a", token=made["SecretID"])
    assert (refused.status, refused.text) == (
        403,
        f"Permission denied: token with AccessorID '{made['AccessorID']}' lacks permission "
        "'key:read' on \"secret/a\"",
    )


# What is kept


async def test_no_secret_is_kept_or_told_or_logged(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = await token(lab, 'key "a" { policy = "read" }', Description="of web")
    secret = made["SecretID"]
    assert len(secret) == 36
    answers = [
        await ask(lab, "GET", "/v1/acl/tokens"),
        await ask(lab, "GET", f"/v1/acl/token/{made['AccessorID']}"),
        await ask(lab, "GET", "/v1/kv/?keys"),
        await ask(lab, "GET", "/v1/kv/?recurse"),
        await ask(lab, "GET", "/v1/kv/b", token=secret),
        await ask(lab, "GET", f"/v1/no/such?token={secret}"),
        await ask(lab, "GET", f"/v1/kv/a?index=x&token={secret}"),
        await ask(lab, "PUT", f"/v1/acl/token/{made['AccessorID']}", {"Description": "x"}),
    ]
    for answer in answers:
        assert secret not in answer.text
        assert ROOT not in answer.text
        assert hash_of(secret) not in answer.text
    stored = (await lab.api.read(ACL)).entry
    assert stored is not None
    assert secret.encode() not in stored.value
    assert hash_of(secret).encode() in stored.value
    assert secret not in caplog.text
    assert ROOT not in caplog.text


@pytest.mark.parametrize("target", [ACL, ".netd/", ".netd/consul/acl?raw", "?recurse", "?keys"])
async def test_the_key_that_it_is_kept_in_is_nobodys(lab: Lab, target: str) -> None:
    await token(lab, 'key "a" { policy = "read" }')
    answer = await ask(lab, "GET", f"/v1/kv/{target}")
    assert answer.status == 404 or answer.json() == []
    for method, path, body in (
        ("PUT", f"/v1/kv/{ACL}", b"{}"),
        ("DELETE", f"/v1/kv/{ACL}", None),
        ("PUT", f"/v1/kv/{ACL}?cas=0", b"{}"),
    ):
        assert (await ask(lab, method, path, body)).status == 403, (method, path)
    operations = [{"KV": {"Verb": "set", "Key": ACL, "Value": ""}}]
    assert (await ask(lab, "PUT", "/v1/txn", operations)).status == 409


async def test_who_deletes_all_keys_deletes_no_tokens(lab: Lab) -> None:
    made = await token(lab, 'key_prefix "" { policy = "write" }')
    assert (await ask(lab, "DELETE", "/v1/kv/?recurse", token=made["SecretID"])).json() is True
    answer = await ask(lab, "GET", "/v1/acl/token/self", token=made["SecretID"])
    assert answer.json()["AccessorID"] == made["AccessorID"]


# Tokens and policies


async def test_the_life_of_a_token(lab: Lab) -> None:
    made = await token(lab, 'key "a" { policy = "read" }', Description="first", Local=True)
    accessor, secret = made["AccessorID"], made["SecretID"]
    shown = (await ask(lab, "GET", f"/v1/acl/token/{accessor}")).json()
    assert shown == {**made, "SecretID": "<hidden>"}
    assert made["CreateIndex"] == made["ModifyIndex"] > 0
    own = (await ask(lab, "GET", "/v1/acl/token/self", token=secret)).json()
    assert own == made
    cloned = (await ask(lab, "PUT", f"/v1/acl/token/{accessor}/clone", {})).json()
    assert cloned["Policies"] == made["Policies"]
    assert cloned["Description"] == "first"
    assert cloned["SecretID"] not in (secret, "<hidden>")
    assert (await ask(lab, "GET", "/v1/kv/a", token=cloned["SecretID"])).status == 404
    changed = (await ask(lab, "PUT", f"/v1/acl/token/{accessor}", {"AccessorID": accessor})).json()
    assert changed["Policies"] == []
    assert changed["CreateIndex"] == made["CreateIndex"]
    assert changed["ModifyIndex"] > made["ModifyIndex"]
    assert (await ask(lab, "GET", "/v1/kv/a", token=secret)).status == 403
    same = (await ask(lab, "PUT", f"/v1/acl/token/{accessor}", {})).json()
    assert same["ModifyIndex"] == changed["ModifyIndex"]
    listed = (await ask(lab, "GET", "/v1/acl/tokens")).json()
    assert {each["AccessorID"] for each in listed} == {
        accessor,
        cloned["AccessorID"],
        ANONYMOUS,
    }
    assert (await ask(lab, "DELETE", f"/v1/acl/token/{accessor}")).json() is True
    assert (await ask(lab, "GET", "/v1/kv/a", token=secret)).text == "ACL not found"
    gone = await ask(lab, "GET", f"/v1/acl/token/{accessor}")
    assert (gone.status, gone.text) == (403, "Requested token does not exist: ACL not found")


async def test_ids_of_a_token_may_be_chosen(lab: Lab) -> None:
    asked = {
        "AccessorID": "11111111-2222-3333-4444-555555555555",
        "SecretID": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    }
    made = (await ask(lab, "PUT", "/v1/acl/token", asked)).json()
    assert {key: made[key] for key in asked} == asked
    wrong: Any
    for wrong in (
        asked,
        {"SecretID": asked["SecretID"]},
        {"SecretID": "short"},
        {"AccessorID": ANONYMOUS},
        {"Policies": [{"Name": "nothing"}]},
        {"Policies": [{"ID": "nothing"}]},
        {"Policies": ["x"]},
        {"Roles": [{"Name": "x"}]},
        {"TemplatedPolicies": [{"TemplateName": "x"}]},
        {"ServiceIdentities": [{"ServiceName": "Not A Name"}]},
        {"ExpirationTTL": "1s"},
        {"ExpirationTTL": "1000h"},
        {"ExpirationTime": "yesterday"},
        {"ExpirationTTL": "1h", "ExpirationTime": "2030-01-01T00:00:00Z"},
        {"Description": "x" * 2000},
        {"Local": "yes"},
        [],
    ):
        assert (await ask(lab, "PUT", "/v1/acl/token", wrong)).status == 400, wrong
    path = f"/v1/acl/token/{made['AccessorID']}"
    for wrong in ({"SecretID": ROOT}, {"AccessorID": "x"}, {"ExpirationTTL": "1h"}):
        assert (await ask(lab, "PUT", path, wrong)).status == 400, wrong
    same = {"SecretID": asked["SecretID"], "Description": "new"}
    assert (await ask(lab, "PUT", path, same)).json()["Description"] == "new"


async def test_a_token_that_has_expired_is_none(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await token(lab, 'key "a" { policy = "read" }', ExpirationTTL="60s")
    assert made["ExpirationTime"] > made["CreateTime"]
    assert (await ask(lab, "GET", "/v1/kv/a", token=made["SecretID"])).status == 404
    later_s = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later_s)
    assert (await ask(lab, "GET", "/v1/kv/a", token=made["SecretID"])).text == "ACL not found"
    await token(lab)
    stored = (await lab.api.read(ACL)).entry
    assert stored is not None
    assert made["AccessorID"].encode() not in stored.value


async def test_the_life_of_a_policy(lab: Lab) -> None:
    body = {"Name": "web", "Description": "d", "Rules": 'service "web" { policy = "write" }'}
    made = (await ask(lab, "PUT", "/v1/acl/policy", body)).json()
    assert {key: made[key] for key in body} == body
    by_id = (await ask(lab, "GET", f"/v1/acl/policy/{made['ID']}")).json()
    assert by_id == made
    assert (await ask(lab, "GET", "/v1/acl/policy/name/web")).json() == made
    changed = await ask(lab, "PUT", f"/v1/acl/policy/{made['ID']}", {**body, "Name": "web2"})
    assert changed.json()["CreateIndex"] == made["CreateIndex"]
    assert (await ask(lab, "GET", "/v1/acl/policy/name/web")).status == 403
    listed = (await ask(lab, "GET", "/v1/acl/policies")).json()
    assert [each["Name"] for each in listed] == [
        "builtin/global-read-only",
        "global-management",
        "web2",
    ]
    assert all("Rules" not in each for each in listed)
    linked = await ask(lab, "PUT", "/v1/acl/token", {"Policies": [{"Name": "web2"}]})
    assert (await ask(lab, "DELETE", f"/v1/acl/policy/{made['ID']}")).json() is True
    shown = (await ask(lab, "GET", f"/v1/acl/token/{linked.json()['AccessorID']}")).json()
    assert shown["Policies"] == []


async def test_what_is_no_policy(lab: Lab) -> None:
    wrong: Any
    for wrong in (
        {},
        {"Name": "no spaces"},
        {"Name": "global-management"},
        {"Name": "a", "Rules": "nonsense"},
        {"Name": "a", "ID": "x"},
        {"Name": "a", "Datacenters": ["dc2"]},
        [],
    ):
        assert (await ask(lab, "PUT", "/v1/acl/policy", wrong)).status == 400, wrong
    for built_in in ("00000000-0000-0000-0000-000000000001", ANONYMOUS):
        path = f"/v1/acl/policy/{built_in}"
        assert (await ask(lab, "PUT", path, {"Name": "mine"})).status == 400
        assert (await ask(lab, "DELETE", path)).status == 400
    missing = "/v1/acl/policy/11111111-2222-3333-4444-555555555555"
    assert (await ask(lab, "PUT", missing, {"Name": "a"})).status == 403
    assert (await ask(lab, "DELETE", missing)).status == 403


async def test_rights_are_changed_by_who_has_the_right_to(lab: Lab) -> None:
    reader = (await token(lab, 'acl = "read"'))["SecretID"]
    nobody = (await token(lab))["SecretID"]
    lists = ("tokens", "policies", "roles", "auth-methods", "binding-rules")
    for path in (
        *lists,
        f"token/{ANONYMOUS}",
        f"policy/{ANONYMOUS}",
        "policy/name/global-management",
    ):
        assert (await ask(lab, "GET", f"/v1/acl/{path}", token=reader)).status == 200, path
        assert (await ask(lab, "GET", f"/v1/acl/{path}", token=nobody)).status == 403, path
    for method, path in (
        ("PUT", "token"),
        ("PUT", f"token/{ANONYMOUS}"),
        ("PUT", f"token/{ANONYMOUS}/clone"),
        ("DELETE", "token/x"),
        ("PUT", "policy"),
        ("PUT", "policy/x"),
        ("DELETE", "policy/x"),
    ):
        answer = await ask(lab, method, f"/v1/acl/{path}", {"Name": "x"}, token=reader)
        assert answer.status == 403, path
        assert answer.text.endswith("lacks permission 'acl:write'"), path
    answer = await ask(lab, "GET", "/v1/acl/role/name/x")
    assert answer.status == 404


async def test_a_token_does_not_delete_itself(lab: Lab) -> None:
    made = await token(lab, 'acl = "write"')
    path = f"/v1/acl/token/{made['AccessorID']}"
    assert (await ask(lab, "DELETE", path, token=made["SecretID"])).status == 400


async def test_two_change_tokens_at_once(lab: Lab) -> None:
    made = await asyncio.gather(*(token(lab) for _ in range(6)))
    listed = (await ask(lab, "GET", "/v1/acl/tokens")).json()
    assert {each["AccessorID"] for each in listed} == {
        *(each["AccessorID"] for each in made),
        ANONYMOUS,
    }


# What rights allow: keys, sessions, transactions, events, queries


async def test_keys(lab: Lab) -> None:
    rules = """
    key_prefix "app/" { policy = "write" }
    key_prefix "app/secret/" { policy = "deny" }
    key "shared" { policy = "read" }
    """
    mine = (await token(lab, rules))["SecretID"]
    for key in ("app/a", "app/secret/b", "shared", "other"):
        assert (await ask(lab, "PUT", f"/v1/kv/{key}", b"1")).json() is True
    expected = {"app/a": (200, 200), "app/secret/b": (403, 403)}
    expected |= {"shared": (200, 403), "other": (403, 403)}
    for key, (reads, writes) in expected.items():
        assert (await ask(lab, "GET", f"/v1/kv/{key}", token=mine)).status == reads, key
        assert (await ask(lab, "GET", f"/v1/kv/{key}?raw", token=mine)).status == reads, key
        put = await ask(lab, "PUT", f"/v1/kv/{key}", b"2", token=mine)
        assert put.status == writes, key
        acquire = await ask(lab, "PUT", f"/v1/kv/{key}?acquire=none", b"", token=mine)
        assert acquire.status == (500 if writes == 200 else 403), key
        deleted = await ask(lab, "DELETE", f"/v1/kv/{key}?cas=1", token=mine)
        assert deleted.status == writes, key
    every = await ask(lab, "GET", "/v1/kv/?recurse", token=mine)
    assert [each["Key"] for each in every.json()] == ["app/a", "shared"]
    assert every.headers["X-Consul-Results-Filtered-By-ACLs"] == "true"
    names = await ask(lab, "GET", "/v1/kv/?keys", token=mine)
    assert names.json() == ["app/a", "shared"]
    hidden = await ask(lab, "GET", "/v1/kv/app/secret/?recurse", token=mine)
    assert (hidden.status, hidden.text) == (404, "")
    all_seen = await ask(lab, "GET", "/v1/kv/?keys")
    assert all_seen.json() == ["app/a", "app/secret/b", "other", "shared"]
    assert "X-Consul-Results-Filtered-By-ACLs" not in all_seen.headers
    async with asyncio.timeout(5):  # who may not read does not wait
        path = f"/v1/kv/other?index={every.index + 1000}&wait=60s"
        assert (await ask(lab, "GET", path, token=mine)).status == 403
    assert (await ask(lab, "DELETE", "/v1/kv/app/?recurse", token=mine)).status == 403
    assert (await ask(lab, "DELETE", "/v1/kv/app/a?recurse", token=mine)).json() is True


async def test_nobody_is_told_that_there_is_more(lab: Lab) -> None:
    await ask(lab, "PUT", "/v1/kv/a", b"1")
    answer = await ask(lab, "GET", "/v1/kv/?keys", token="")
    assert answer.json() == []
    assert "X-Consul-Results-Filtered-By-ACLs" not in answer.headers


async def test_transactions(lab: Lab) -> None:
    mine = (await token(lab, 'key_prefix "a" { policy = "write" }'))["SecretID"]
    await ask(lab, "PUT", "/v1/kv/b", b"1")

    def step(verb: str, key: str) -> dict[str, Any]:
        return {"KV": {"Verb": verb, "Key": key, "Value": "MQ=="}}

    done = await ask(lab, "PUT", "/v1/txn", [step("set", "a1"), step("get", "b")], token=mine)
    assert [each["KV"]["Key"] for each in done.json()["Results"]] == ["a1"]
    for verb in ("set", "delete", "delete-tree", "check-index", "lock", "cas", "delete-cas"):
        steps = [step("set", "a2"), step(verb, "b")]
        refused = await ask(lab, "PUT", "/v1/txn", steps, token=mine)
        assert refused.status == 409, verb
        (error,) = refused.any_json()["Errors"]
        assert error["OpIndex"] == 1
        assert "lacks permission 'key:" in error["What"]
    assert (await ask(lab, "GET", "/v1/kv/a2", token=mine)).status == 404


async def test_sessions(lab: Lab) -> None:
    mine = (await token(lab, 'session "here" { policy = "write" }'))["SecretID"]
    other = (await token(lab, 'session "there" { policy = "write" }'))["SecretID"]
    made = (await ask(lab, "PUT", "/v1/session/create", token=mine)).json()["ID"]
    assert (await ask(lab, "PUT", "/v1/session/create", token=other)).status == 403
    assert len((await ask(lab, "GET", "/v1/session/list", token=mine)).json()) == 1
    hidden = await ask(lab, "GET", f"/v1/session/info/{made}", token=other)
    assert hidden.json() == []
    assert hidden.headers["X-Consul-Results-Filtered-By-ACLs"] == "true"
    assert (await ask(lab, "PUT", f"/v1/session/renew/{made}", token=other)).status == 403
    assert (await ask(lab, "PUT", f"/v1/session/destroy/{made}", token=other)).status == 403
    assert (await ask(lab, "PUT", f"/v1/session/renew/{made}", token=mine)).status == 200
    assert (await ask(lab, "PUT", f"/v1/session/destroy/{made}", token=mine)).json() is True


async def test_events(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = (await token(lab, 'event_prefix "deploy" { policy = "write" }'))["SecretID"]
    assert (await ask(lab, "PUT", "/v1/event/fire/deploy-web", token=mine)).status == 200
    assert (await ask(lab, "PUT", "/v1/event/fire/other", token=mine)).status == 403
    await ask(lab, "PUT", "/v1/event/fire/other")
    seen = await ask(lab, "GET", "/v1/event/list", token=mine)
    assert [each["Name"] for each in seen.json()] == ["deploy-web"]
    # Who waits is asked again.
    made = await token(lab, 'event_prefix "" { policy = "read" }')
    index = (await ask(lab, "GET", "/v1/event/list", token=made["SecretID"])).index
    path = f"/v1/event/list?index={index}&wait=8s"
    begun, wait = asyncio.Event(), lab.events.wait

    async def noted(name: str, index: int, wait_s: float) -> list[Event]:
        begun.set()
        return await wait(name, index, wait_s)

    monkeypatch.setattr(lab.events, "wait", noted)
    waiting = asyncio.ensure_future(ask(lab, "GET", path, token=made["SecretID"]))
    async with asyncio.timeout(5):
        await begun.wait()
    assert (await ask(lab, "DELETE", f"/v1/acl/token/{made['AccessorID']}")).json() is True
    await ask(lab, "PUT", "/v1/event/fire/last")
    assert (await waiting).text == "ACL not found"


@pytest.mark.parametrize(
    "asked",
    [
        'filter=Address+==+"192.0.2.1"',
        "filter=Node+==+here",
        'filter=NodeMeta.rack+==+"a"',
        "node-meta=rack:a",
    ],
)
async def test_what_nodes_are_is_not_found_out_by_their_services(lab: Lab, asked: str) -> None:
    lab.put_entries(web("web-1"), tags={"rack": "a"})
    services = 'service_prefix "" { policy = "read" }'
    blind = (await token(lab, services))["SecretID"]
    seeing = (await token(lab, services + 'node "here" { policy = "read" }'))["SecretID"]
    path = "/v1/catalog/services"
    assert (await ask(lab, "GET", path, token=blind)).json() == {"consul": [], "web": []}
    answer = await ask(lab, "GET", f"{path}?{asked}", token=blind)
    assert answer.json() == {}
    assert answer.headers["X-Consul-Results-Filtered-By-ACLs"] == "true"
    assert "web" in (await ask(lab, "GET", f"{path}?{asked}", token=seeing)).json()
    of_all = await ask(lab, "GET", path + "?node-meta=rack:a", token=seeing)
    assert of_all.json() == {"consul": [], "web": []}


async def test_whether_there_is_a_node_is_for_who_may_read_it(lab: Lab) -> None:
    lab.put_entries(nodes=("here", "there"))
    mine = (await token(lab, 'node "here" { policy = "read" }'))["SecretID"]
    for node in ("there", "THERE", "nowhere"):
        answer = await ask(lab, "GET", f"/v1/coordinate/node/{node}", token=mine)
        assert answer.status == 403, node
        assert "lacks permission 'node:read'" in answer.text
    assert (await ask(lab, "GET", "/v1/coordinate/node/here", token=mine)).status == 404
    assert (await ask(lab, "GET", "/v1/coordinate/node/nowhere")).status == 404


async def test_an_alias_of_a_node_needs_the_right_to_see_it(lab: Lab) -> None:
    lab.put_entries(nodes=("here", "there"))
    rules = 'service "api" { policy = "write" }'
    mine = (await token(lab, rules))["SecretID"]
    body = {"Name": "api", "Check": {"AliasNode": "there"}}
    refused = await ask(lab, "PUT", "/v1/agent/service/register", body, token=mine)
    assert (refused.status, refused.text) == (
        400,
        'Invalid check: there is no node "there" to be seen',
    )
    sees = (await token(lab, rules + ' node "there" { policy = "read" }'))["SecretID"]
    assert (await ask(lab, "PUT", "/v1/agent/service/register", body, token=sees)).status == 200


async def test_an_alias_tells_nothing_of_what_its_token_does_not(lab: Lab) -> None:
    lab.put_entries(web("web-1"))
    mine = (await token(lab, 'service "api" { policy = "write" }'))["SecretID"]
    body = {"Name": "api", "Check": {"AliasService": "web-1"}}
    answer = await ask(lab, "PUT", "/v1/agent/service/register", body, token=mine)
    assert answer.status == 400
    assert "to be seen" in answer.text
    both = 'service "api" { policy = "write" } service "web" { policy = "read" }'
    mine = (await token(lab, both))["SecretID"]
    answer = await ask(lab, "PUT", "/v1/agent/service/register", body, token=mine)
    assert "to be seen" not in answer.text


async def test_queries(lab: Lab) -> None:
    rules = 'query "mine" { policy = "write" } node_prefix "" { policy = "read" }'
    mine = (await token(lab, rules + 'service "web" { policy = "read" }'))["SecretID"]
    blind = (await token(lab, rules))["SecretID"]
    lab.put_entries(web("web-1"))
    body = {"Name": "mine", "Service": {"Service": "web"}}
    made = (await ask(lab, "POST", "/v1/query", body, token=mine)).json()["ID"]
    refused = await ask(lab, "POST", "/v1/query", {**body, "Name": "other"}, token=mine)
    assert refused.status == 403
    with_token = {**body, "Name": "mine", "Token": ROOT}
    assert (await ask(lab, "PUT", f"/v1/query/{made}", with_token, token=mine)).status == 400
    await ask(lab, "POST", "/v1/query", {**body, "Name": "other"})
    unnamed = (await ask(lab, "POST", "/v1/query", {"Service": {"Service": "web"}})).json()["ID"]
    seen = (await ask(lab, "GET", "/v1/query", token=mine)).json()
    assert [each["ID"] for each in seen] == [made]
    assert len((await ask(lab, "GET", "/v1/query")).json()) == 3
    assert (await ask(lab, "GET", f"/v1/query/{unnamed}", token=mine)).status == 200
    assert (await ask(lab, "GET", "/v1/query/other/explain", token=mine)).status == 403
    found = (await ask(lab, "GET", "/v1/query/mine/execute", token=mine)).json()
    assert len(found["Nodes"]) == 1
    found = (await ask(lab, "GET", "/v1/query/mine/execute", token=blind)).json()
    assert found["Nodes"] == []
    other = (await ask(lab, "GET", "/v1/query")).json()
    foreign = next(each["ID"] for each in other if each["Name"] == "other")
    for method, sent in (("GET", None), ("PUT", body), ("DELETE", None)):
        answer = await ask(lab, method, f"/v1/query/{foreign}", sent, token=mine)
        assert answer.status == 403, method
        assert answer.text.endswith('on "other"'), method
    assert (await ask(lab, "DELETE", f"/v1/query/{made}", token=mine)).status == 200


# What rights show: the catalogue


async def test_instances_are_seen_by_who_may_see_service_and_node(lab: Lab) -> None:
    lab.put_entries(web("web-1"), web("web-2", node="there"), nodes=("here", "there"))
    both = 'service "web" { policy = "read" } node "here" { policy = "read" }'
    mine = (await token(lab, both))["SecretID"]
    only_node = (await token(lab, 'node_prefix "" { policy = "read" }'))["SecretID"]
    for path, key in (
        ("/v1/health/service/web", "Service"),
        ("/v1/catalog/service/web", "ServiceID"),
        ("/v1/health/checks/web", "ServiceID"),
    ):
        answer = await ask(lab, "GET", path, token=mine)
        assert len(answer.json()) == 1, path
        assert answer.headers["X-Consul-Results-Filtered-By-ACLs"] == "true"
        assert len((await ask(lab, "GET", path)).json()) == 2
        assert (await ask(lab, "GET", path, token=only_node)).json() == []
        assert (await ask(lab, "GET", path, token="")).json() == []
        assert key in answer.json()[0]
    assert (await ask(lab, "GET", "/v1/catalog/services", token=mine)).json() == {"web": []}
    nodes = (await ask(lab, "GET", "/v1/catalog/nodes", token=mine)).json()
    assert [each["Node"] for each in nodes] == ["here"]
    assert (await ask(lab, "GET", "/v1/catalog/node/there", token=mine)).text == "null"
    here = (await ask(lab, "GET", "/v1/catalog/node/here", token=mine)).json()
    assert set(here["Services"]) == {"web-1"}
    here = (await ask(lab, "GET", "/v1/catalog/node/here", token=only_node)).json()
    assert here["Services"] == {}
    state = (await ask(lab, "GET", "/v1/health/state/any", token=mine)).json()
    assert {each["Node"] for each in state} == {"here"}
    assert (await ask(lab, "GET", "/v1/health/node/there", token=mine)).json() == []
    assert set((await ask(lab, "GET", "/v1/agent/services", token=mine)).json()) == {"web-1"}
    assert (await ask(lab, "GET", "/v1/agent/services", token=only_node)).json() == {}
    assert (await ask(lab, "GET", "/v1/agent/service/web-1", token=only_node)).status == 403
    assert (await ask(lab, "GET", "/v1/agent/health/service/id/web-1", token="")).status == 403
    members = (await ask(lab, "GET", "/v1/agent/members", token=mine)).json()
    assert [each["Name"] for each in members] == ["here"]


async def test_answers_are_made_once_for_all_with_the_same_rights(lab: Lab) -> None:
    lab.put_entries(web("web-1"))
    reads = 'service "web" { policy = "read" } node_prefix "" { policy = "read" }'
    first = await token(lab, reads)
    second = await token(lab, reads + 'service "web" { policy = "read" }')
    await ask(lab, "GET", "/v1/health/service/web", token=first["SecretID"])
    made = lab.consul.parts.reads._kept.made
    for secret in (first["SecretID"], second["SecretID"]):
        await ask(lab, "GET", "/v1/health/service/web", token=secret)
    assert lab.consul.parts.reads._kept.made == made
    await ask(lab, "GET", "/v1/health/service/web")
    assert lab.consul.parts.reads._kept.made == made + 1


async def test_who_waits_is_asked_again_what_it_may(lab: Lab) -> None:
    lab.put_entries(web("web-1"))
    reads = 'service "web" { policy = "read" } node_prefix "" { policy = "read" }'
    made = await token(lab, reads + 'key "a" { policy = "read" }')
    secret = made["SecretID"]
    answer = await ask(lab, "GET", "/v1/health/service/web", token=secret)
    path = f"/v1/health/service/web?index={answer.index}&wait=8s"
    waiting = asyncio.ensure_future(ask(lab, "GET", path, token=secret))
    await until(lambda: lab.catalog.indexes.waiting == 1)
    key = await ask(lab, "GET", "/v1/kv/a", token=secret)
    path = f"/v1/kv/a?index={key.index}&wait=8s"
    waiting_for_key = asyncio.ensure_future(ask(lab, "GET", path, token=secret))
    await lab.started(2)  # with the table of tokens
    await ask(lab, "PUT", f"/v1/acl/token/{made['AccessorID']}", {})
    lab.put_entries(web("web-1"), web("web-2"))
    assert (await waiting).json() == []
    await ask(lab, "PUT", "/v1/kv/a", b"1")
    assert (await waiting_for_key).status == 403


async def test_who_waits_with_a_token_that_is_withdrawn_is_refused(lab: Lab) -> None:
    lab.put_entries(web("web-1"))
    made = await token(lab, 'service_prefix "" { policy = "read" }')
    secret = made["SecretID"]
    waiting = []
    for path in ("/v1/catalog/services", "/v1/agent/service/web-1"):
        answer = await ask(lab, "GET", path, token=secret)
        more = f"?index={answer.index}&hash={answer.headers.get('X-Consul-ContentHash')}&wait=8s"
        waiting.append(asyncio.ensure_future(ask(lab, "GET", path + more, token=secret)))
    await until(lambda: lab.catalog.indexes.waiting == 2)
    await ask(lab, "DELETE", f"/v1/acl/token/{made['AccessorID']}")
    lab.put_entries(web("web-1", tags=("new",)))
    for each in waiting:
        answer = await each
        assert (answer.status, answer.text) == (403, "ACL not found")


# What rights allow: the agent and the catalogue


async def test_services_are_registered_by_who_may_write_them(lab: Lab) -> None:
    lab.put_entries(web("web-1"))
    mine = (await token(lab, "", ServiceIdentities=[{"ServiceName": "api"}]))["SecretID"]
    register = "/v1/agent/service/register"
    assert (await ask(lab, "PUT", register, {"Name": "api"}, token=mine)).status == 200
    sidecar = {"Name": "api", "Connect": {"SidecarService": {}}}
    assert (await ask(lab, "PUT", register, sidecar, token=mine)).status == 200
    refused = await ask(lab, "PUT", register, {"Name": "web", "ID": "api-1"}, token=mine)
    assert refused.status == 403
    assert refused.text.endswith("lacks permission 'service:write' on \"web\"")
    # Nor by giving another's id to one's own.
    taken = {"Name": "api", "ID": "web-1"}
    assert (await ask(lab, "PUT", register, taken, token=mine)).status == 403
    check = {"Name": "c", "TTL": "10s"}
    for method, path, body in (
        ("PUT", "/v1/agent/service/deregister/web-1", None),
        ("PUT", "/v1/agent/service/maintenance/web-1?enable=true", None),
        ("PUT", "/v1/agent/check/register", {**check, "ServiceID": "web-1"}),
        ("PUT", "/v1/agent/check/register", check),
        ("PUT", "/v1/agent/check/deregister/service:web-1:c", None),
        ("PUT", "/v1/agent/check/pass/service:web-1:c", None),
        ("PUT", "/v1/agent/check/update/service:web-1:c", {"Status": "passing"}),
        ("PUT", "/v1/agent/maintenance?enable=true", None),
        ("PUT", "/v1/catalog/register", {"Node": "n", "Address": "192.0.2.7"}),
        ("PUT", "/v1/catalog/register", {"Node": "here", "Service": {"Service": "web"}}),
        ("PUT", "/v1/catalog/register", {"Node": "here", "Check": check}),
        ("PUT", "/v1/catalog/deregister", {"Node": "n"}),
        ("PUT", "/v1/catalog/deregister", {"Node": "here", "ServiceID": "web-1"}),
        ("PUT", "/v1/catalog/deregister", {"Node": "here", "CheckID": "service:web-1:c"}),
        ("PUT", "/v1/coordinate/update", {"Node": "here"}),
        ("GET", "/v1/agent/self", None),
        ("GET", "/v1/agent/version", None),
        ("GET", "/v1/agent/metrics", None),
        ("GET", "/v1/agent/host", None),
        ("GET", "/v1/agent/monitor", None),
        ("PUT", "/v1/agent/reload", None),
        ("PUT", "/v1/agent/join/x", None),
        ("PUT", "/v1/agent/force-leave/x", None),
        ("GET", "/v1/operator/raft/configuration", None),
        ("GET", "/v1/operator/autopilot/configuration", None),
        ("GET", "/v1/operator/autopilot/health", None),
        ("GET", "/v1/operator/usage", None),
        ("PUT", "/v1/operator/keyring", None),
    ):
        answer = await ask(lab, method, path, body, token=mine)
        assert answer.status == 403, (path, body, answer.text)
        assert "lacks permission" in answer.text, path


async def test_checks_of_a_host_are_for_who_may_write_the_node(lab: Lab) -> None:
    check = Check(id="disk", name="disk", kind="ttl", status="passing")
    host = Service(
        id=node_record("here"), name=NODE_SERVICE, node="here", address="192.0.2.1", checks=(check,)
    )
    lab.put_entries(host)
    mine = (await token(lab, 'service_prefix "" { policy = "write" }'))["SecretID"]
    for path in ("check/deregister/disk", "check/pass/disk", "check/fail/disk"):
        answer = await ask(lab, "PUT", f"/v1/agent/{path}", token=mine)
        assert answer.status == 403, path
        assert answer.text.endswith("'node:write' on \"here\""), path
    assert (await ask(lab, "GET", "/v1/agent/checks", token=mine)).json() == {}
    assert set((await ask(lab, "GET", "/v1/agent/checks")).json()) == {"disk"}


async def test_what_others_look_after_is_registered_by_who_may_write_all_of_it(lab: Lab) -> None:
    told = {"consul": {"node": {"Node": "box"}, "id": "web-1", "name": "web"}}
    lab.put_entries(web("w", extra=told))
    rules = 'node "box" { policy = "write" } service "api" { policy = "write" }'
    mine = (await token(lab, rules))["SecretID"]
    no_node = (await token(lab, 'service "api" { policy = "write" }'))["SecretID"]
    box = {"Node": "box", "Address": "192.0.2.7"}
    register = "/v1/catalog/register"
    check = {"CheckID": "c", "Status": "passing"}
    body: Any
    for body in (
        {**box, "Service": {"Service": "web"}},
        {**box, "Service": {"Service": "api", "ID": "web-1"}},  # in the place of web's
        {**box, "Check": {**check, "ServiceID": "web-1"}},
    ):
        refused = await ask(lab, "PUT", register, body, token=mine)
        assert refused.status == 403, body
        assert refused.text.endswith("'service:write' on \"web\"")
    for body in (box, {**box, "Service": {"Service": "api"}}, {**box, "Check": check}):
        assert (await ask(lab, "PUT", register, body, token=mine)).json() is True, body
        assert (await ask(lab, "PUT", register, body, token=no_node)).status == 403, body
    # A node that is left as it is needs the right to what is new only.
    record = {"consul": {"node": {"Node": "box", "Address": "192.0.2.7"}, "name": "box"}}
    stands_for_it = Service(
        id=node_record("box"), name=NODE_SERVICE, node="here", address="192.0.2.7", extra=record
    )
    lab.put_entries(web("w", extra=told), stands_for_it)
    box["SkipNodeUpdate"] = True  # type: ignore[assignment]
    service = {**box, "Service": {"Service": "api"}}
    assert (await ask(lab, "PUT", register, service, token=no_node)).json() is True
    answer = await ask(lab, "PUT", register, {**box, "Check": check}, token=no_node)
    assert answer.text.endswith("'node:write' on \"box\"")
    # Who may write a node may remove whatever is on it; others, what is their service's.
    owner = (await token(lab, 'service "web" { policy = "write" }'))["SecretID"]
    for ident in ({"ServiceID": "web-1"}, {"CheckID": "service:web-1:c"}):
        body = {"Node": "box", **ident}
        for secret, status in ((mine, 200), (owner, 200), (no_node, 403)):
            answer = await ask(lab, "PUT", "/v1/catalog/deregister", body, token=secret)
            assert answer.status == status, (body, answer.text)
    answer = await ask(lab, "PUT", "/v1/catalog/deregister", {"Node": "box"}, token=owner)
    assert answer.text.endswith("'node:write' on \"box\"")


async def test_no_call_shows_or_changes_anything_without_rights(lab: Lab) -> None:
    lab.put_entries(web("web-1"))
    await ask(lab, "PUT", "/v1/kv/a", b"192.0.2.8")
    await ask(lab, "PUT", "/v1/session/create", {"Name": "192.0.2.8"})
    await ask(lab, "PUT", "/v1/event/fire/a", b"192.0.2.8")
    await ask(lab, "POST", "/v1/query", {"Name": "a", "Service": {"Service": "web"}})
    nobody = (await token(lab))["SecretID"]
    before = await state(lab)
    bodies = (
        None,
        {"Name": "web", "ID": "web-1", "Node": "here", "Status": "passing", "TTL": "9s"},
        {"Name": "web", "Node": "n", "Address": "192.0.2.7", "Service": {"Service": "web"}},
        [{"KV": {"Verb": "set", "Key": "a", "Value": ""}}],
    )
    asked = 0
    for route in list(lab.consul.server._routes._at.values()):
        rests = ("",) if not route.path.endswith("/") else REACHED
        for method, rest in ((method, rest) for method in route.methods for rest in rests):
            for body in bodies if method != "GET" else (None,):
                for query in ("", "?recurse&enable=true"):
                    path = route.path + rest + query
                    answer = await ask(lab, method, path, body, token=nobody)
                    asked += 1
                    assert answer.status < 600
                    if route.path not in ("/v1/status/leader", "/v1/status/peers"):
                        assert "192.0.2." not in answer.text, (method, path, answer.text)
                        assert "MTkyLj" not in answer.text, (method, path)  # in base64
    assert asked > 500
    assert await state(lab) == before


REACHED = ("web", "web-1", "here", "a", "service:web-1:c", "a/execute")


async def state(lab: Lab) -> list[Any]:
    """All that a call could change."""
    paths = ("kv/?recurse", "session/list", "event/list", "query", "acl/tokens", "acl/policies")
    found = [(await ask(lab, "GET", f"/v1/{path}")).text for path in paths]
    return [*found, tuple(lab.daemon.engine.services.by_id.values())]


# Where a call comes from, and what it shows: both must allow it


async def test_no_token_lets_a_container_do_what_it_may_not(lab: Lab) -> None:
    lab.put_entries(web("web-1"))
    lab.guests.add("127.0.0.1")
    for method, path, body in (
        ("PUT", "/v1/agent/service/register", {"Name": "web", "Address": "192.0.2.9"}),
        ("PUT", "/v1/agent/service/deregister/web-1", None),
        ("PUT", "/v1/agent/check/pass/service:web-1:c", None),
        ("PUT", "/v1/agent/maintenance?enable=true", None),
        ("PUT", "/v1/catalog/register", {"Node": "n", "Address": "192.0.2.7"}),
        ("GET", "/v1/agent/monitor", None),
    ):
        answer = await ask(lab, method, path, body)
        assert answer.status == 403, path
        assert "lacks permission" not in answer.text, path
    assert (await ask(lab, "PUT", "/v1/kv/a", b"1")).json() is True
    lab.are_guests_welcome = False
    refused = await ask(lab, "GET", "/v1/kv/a")
    assert (refused.status, refused.text) == (
        403,
        "Permission denied: keys are for the host itself",
    )


async def test_a_container_shows_a_token_as_anybody_does(lab: Lab) -> None:
    lab.guests.add("127.0.0.1")
    assert (await ask(lab, "GET", "/v1/kv/a", token="")).status == 403
    mine = (await token(lab, 'key "a" { policy = "write" }'))["SecretID"]
    assert (await ask(lab, "PUT", "/v1/kv/a", b"1", token=mine)).json() is True


# Nonsense

FIELDS = (
    *("AccessorID", "SecretID", "Description", "Policies", "ServiceIdentities", "NodeIdentities"),
    *("ID", "Name", "ServiceName", "NodeName", "Local", "ExpirationTime", "ExpirationTTL"),
    *("Roles", "Rules", "Datacenters", "BootstrapSecret", "Hash"),
)
TEXTS: tuple[str, ...] = (
    "",
    "a",
    "web",
    "1h",
    ANONYMOUS,
    ROOT,
    "2026-11-29T12:00:00Z",
    "9" * 40,
    "\ud800",
)
TEXTS += ('key "a" { policy = "read" }', "key", '{"key":', "x" * 5000, "2026-11-29T12:00:00Z")


def nonsense(pick: random.Random, depth: int = 0) -> Any:
    kind = pick.randrange(9 if depth < 4 else 5)
    if kind == 0:
        return pick.choice([None, True, False, 0, -1, 2**63, 1e300, 1.5])
    if kind < 5:
        return pick.choice(TEXTS)
    if kind == 5:
        return [nonsense(pick, depth + 1) for _ in range(pick.randrange(3))]
    return {pick.choice(FIELDS): nonsense(pick, depth + 1) for _ in range(pick.randrange(5))}


@pytest.mark.parametrize("seed", range(3))
async def test_nonsense_is_refused_or_taken_and_never_a_fault(lab: Lab, seed: int) -> None:
    pick = random.Random(seed)
    ids = [(await token(lab))["AccessorID"], ANONYMOUS, "x", "%ff", "a/clone", ROOT]
    paths = ["bootstrap", "token", "tokens", "policy", "policies", "token/self", "policy/name/x"]
    paths += [f"token/{each}" for each in ids] + [f"policy/{each}" for each in ids]
    paths += [f"token/{each}/clone" for each in ids]
    statuses = set()
    for _ in range(300):
        body: Any = nonsense(pick)
        if pick.random() < 0.5:
            body = {pick.choice(FIELDS): nonsense(pick, 1) for _ in range(4)}
        if pick.random() < 0.1:
            body = pick.randbytes(pick.randrange(40))
        method, path = pick.choice(["PUT", "PUT", "GET", "DELETE"]), pick.choice(paths)
        shown = pick.choice([*[ROOT] * 20, "", "", "é", "x" * 4000])
        answer = await lab.call(
            method,
            f"/v1/acl/{path}",
            body if isinstance(body, bytes) else json.dumps(body),
            Authorization=f"Bearer {shown}",
        )
        assert answer.status in (200, 400, 403, 404, 405), (method, path, body, answer.text)
        statuses.add(answer.status)
    assert {200, 400, 403} <= statuses
    assert (await ask(lab, "GET", "/v1/acl/tokens")).status == 200


# The holder of the keys


async def test_tokens_hold_while_keys_cannot_be_read(lab: Lab) -> None:
    made = await token(lab, 'node_prefix "" { policy = "read" }')
    known = await ask(lab, "GET", "/v1/catalog/nodes", token=made["SecretID"])
    assert len(known.json()) == 1
    await until(lambda: lab.watches.live)
    await lab.daemon.server.stop()
    await until(lambda: not lab.watches.live)
    assert len((await ask(lab, "GET", "/v1/catalog/nodes", token=made["SecretID"])).json()) == 1
    assert len((await ask(lab, "GET", "/v1/catalog/nodes")).json()) == 1
    unknown = await ask(lab, "GET", "/v1/catalog/nodes", token="another")
    assert (unknown.status, unknown.text) == (500, "No cluster leader: tokens cannot be read")
    lab.acl.table.known_s = 0.0
    old = await ask(lab, "GET", "/v1/catalog/nodes", token=made["SecretID"])
    assert old.status == 500
    assert len((await ask(lab, "GET", "/v1/catalog/nodes")).json()) == 1  # configured: it holds


async def test_a_setting_that_changes_holds_at_once(lab: Lab) -> None:
    assert (await ask(lab, "GET", "/v1/kv/a", token="")).status == 403
    lab.settings = replace(lab.settings, consul_acl_default="allow")
    assert (await ask(lab, "GET", "/v1/kv/a", token="")).status == 404
