"""Tokens and policies by a client that people use, unmodified: py-consul."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import consul
import pytest

from netd.model.directory import RegistrySettings
from tests.unit.consul_keys_lab import Lab, consul_keys, web

T = TypeVar("T")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the client


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with consul_keys() as made:
        made.settings = RegistrySettings(consul_acl=True)
        yield made


async def asked(lab: Lab, work: Callable[[Any], T], token: str | None = None) -> T:
    """What a program gets that runs in a thread of its own."""

    def run() -> T:
        client = consul.Consul("127.0.0.1", lab.port, token=token)
        try:
            return work(client)
        finally:
            client.http.session.close()

    return await asyncio.to_thread(run)


async def bootstrapped(lab: Lab) -> str:
    secret: str = await asked(lab, lambda c: c.acl.bootstrap()["SecretID"])
    return secret


async def test_the_first_token_makes_others(lab: Lab) -> None:
    root = await bootstrapped(lab)
    with pytest.raises(consul.ACLPermissionDenied):
        await asked(lab, lambda c: c.acl.bootstrap())

    def work(c: Any) -> None:
        rules = {"key_prefix": {"app/": {"policy": "write"}}}
        policy = c.acl.policy.create("app", rules=rules, description="keys of app")
        assert json.loads(c.acl.policy.read(policy["ID"])["Rules"]) == rules
        token = c.acl.token.create(policies_name=["app"], description="of app")
        assert [each["Name"] for each in token["Policies"]] == ["app"]
        accessor = token["AccessorID"]
        assert c.acl.token.read(accessor)["Description"] == "of app"
        assert c.acl.token.read_self(token=token["SecretID"])["SecretID"] == token["SecretID"]
        assert accessor in {each["AccessorID"] for each in c.acl.token.list()}
        assert len(c.acl.token.list(policy=policy["ID"])) == 1
        cloned = c.acl.token.clone(accessor, description="another")
        assert cloned["SecretID"] != token["SecretID"]
        assert c.acl.token.update(accessor, policies_name=[], description="none")["Policies"] == []
        assert c.acl.token.delete(cloned["AccessorID"]) is True
        with pytest.raises(consul.ACLPermissionDenied):
            c.acl.token.read_self(token=cloned["SecretID"])
        narrow = {"key": {"app/a": {"policy": "read"}}}
        changed = c.acl.policy.update(policy["ID"], "app", rules=narrow)
        assert json.loads(changed["Rules"]) == narrow
        assert c.acl.policy.delete(policy["ID"]) is True
        assert [each["Name"] for each in c.acl.policy.list()] == [
            "builtin/global-read-only",
            "global-management",
        ]
        assert c.acl.role.list() == c.acl.auth_method.list() == c.acl.binding_rule.list() == []

    await asked(lab, work, root)


async def test_a_program_with_a_token_of_its_own(lab: Lab) -> None:
    root = await bootstrapped(lab)
    lab.put_entries(web("web-1"))

    def make(c: Any) -> str:
        c.acl.policy.create("app", rules={"key_prefix": {"app/": {"policy": "write"}}})
        made = c.acl.token.create(
            policies_name=["app"],
            service_identities=[{"ServiceName": "app"}],
            node_identities=["here:dc1"],
        )
        secret: str = made["SecretID"]
        return secret

    def work(c: Any) -> None:
        assert c.kv.put("app/a", "1")
        assert c.kv.get("app/a")[1]["Value"] == b"1"
        assert c.agent.service.register("app", port=80)
        assert [row["ServiceID"] for row in c.catalog.service("web")[1]] == ["web-1"]
        with pytest.raises(consul.ACLPermissionDenied, match="'service:write' on \"web\""):
            c.agent.service.register("web")
        with pytest.raises(consul.ACLPermissionDenied):
            c.kv.put("other", "1")
        with pytest.raises(consul.ACLPermissionDenied):
            c.acl.token.list()

    secret = await asked(lab, make, root)
    await asked(lab, work, secret)
    assert await asked(lab, lambda c: c.catalog.service("web")[1]) == []
    with pytest.raises(consul.ACLPermissionDenied):
        await asked(lab, lambda c: c.kv.get("app/a"))


async def test_without_access_control_the_client_is_told_so() -> None:
    async with consul_keys() as lab:
        for call in (
            lambda c: c.acl.bootstrap(),
            lambda c: c.acl.token.list(),
            lambda c: c.acl.policy.create("x"),
            lambda c: c.acl.role.list(),
        ):
            with pytest.raises(consul.ACLDisabled):
                await asked(lab, call)
