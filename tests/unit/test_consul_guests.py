"""What containers cannot make of what others have, by what they call their own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from netd.model.directory import EndpointEntry
from tests.unit.consul_lab import WEB, Lab, consul
from tests.unit.registry_lab import free_port

OTHER = "127.0.2.8"  # where the container c-other calls from
REGISTER = "/v1/agent/service/register"
TTL = {"TTL": "1m", "Status": "passing"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with consul(tmp_path, free_port()) as running:
        other = EndpointEntry(
            network="blue",
            container_id="c-other",
            name="other",
            node="host-1",
            addresses=("10.20.0.8",),
        )
        running.daemon.put("endpoint", "blue-other", other)
        yield running


async def refused(lab: Lab, path: str, body: Any, source: str, status: int = 403) -> str:
    before = dict(lab.daemon.services)
    answer = await lab.ask("PUT", path, body, source=source)
    assert (answer.status, lab.daemon.services) == (status, before), answer.text
    return answer.text


async def owners(lab: Lab, ident: str) -> list[str]:
    """The services that have a check of this id."""
    rows = await lab.get("/v1/health/state/any")
    return [row["ServiceID"] for row in rows if row["CheckID"] == ident]


async def test_the_check_of_another_container_is_not_to_be_had(lab: Lab) -> None:
    web = {"Name": "web", "Checks": [{**TTL, "CheckID": "lives"}, {**TTL, "CheckID": "works"}]}
    await lab.put(REGISTER, web, source=WEB)
    await lab.put(REGISTER, {"Name": "mine"}, source=OTHER)
    for path, body in (
        (REGISTER, {"Name": "new", "Check": {**TTL, "CheckID": "lives"}}),
        (REGISTER, {"Name": "mine", "Checks": [TTL, {**TTL, "CheckID": "works"}]}),
        ("/v1/agent/check/register", {**TTL, "Name": "lives", "ServiceID": "mine"}),
    ):
        said = await refused(lab, path, body, OTHER)
        assert said == 'Permission denied: service ID "web" is not at an address of 10.20.0.8'
    assert await lab.put("/v1/agent/check/pass/lives", source=WEB) == b""


async def test_the_host_takes_a_check_over_and_so_does_who_has_it(lab: Lab) -> None:
    for name in ("web", "api"):
        body = {"Name": name, "Check": {**TTL, "CheckID": "lives"}}
        await lab.put(REGISTER, body, source=WEB)
        assert await owners(lab, "lives") == [name]
    await lab.put(REGISTER, {"Name": "host", "Check": {**TTL, "CheckID": "lives"}})
    assert await owners(lab, "lives") == ["host"]
    # The same once more is no other.
    await lab.put(REGISTER, {"Name": "host", "Check": {**TTL, "CheckID": "lives"}})
    assert await owners(lab, "lives") == ["host"]


async def test_of_two_that_ask_at_once_one_has_the_check(lab: Lab) -> None:
    for number in range(5):
        check = {**TTL, "CheckID": f"lives-{number}"}
        both = {WEB: f"web-{number}", OTHER: f"other-{number}"}
        asked = (
            lab.ask("PUT", REGISTER, {"Name": name, "Check": check}, source=source)
            for source, name in both.items()
        )
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status for answer in answers) == [200, 403]
        assert len(await owners(lab, f"lives-{number}")) == 1


async def test_who_exchange_checks_at_once_do_not_wait_for_each_other(lab: Lab) -> None:
    for name in ("a", "b"):
        await lab.put(REGISTER, {"Name": name, "Check": {**TTL, "CheckID": f"of-{name}"}})
    swapped = (
        lab.ask("PUT", REGISTER, {"Name": name, "Check": {**TTL, "CheckID": f"of-{other}"}})
        for name, other in (("a", "b"), ("b", "a"))
    )
    assert [answer.status for answer in await asyncio.gather(*swapped)] == [200, 200]
    assert (await owners(lab, "of-a"), await owners(lab, "of-b")) == (["b"], ["a"])


@pytest.mark.parametrize(
    "ident",
    [
        "serfHealth",
        "_node_maintenance",
        "_service_maintenance:web",
        "_service_maintenance:mine",
        "service:web",
        "service:web:1",
        "service:mine2",
    ],
)
async def test_a_container_does_not_take_the_id_of_a_check_that_others_will_have(
    lab: Lab, ident: str
) -> None:
    await refused(lab, REGISTER, {"Name": "mine", "Check": {**TTL, "CheckID": ident}}, OTHER)
    await lab.put(REGISTER, {"Name": "mine", "Check": TTL}, source=OTHER)
    check = {**TTL, "Name": "x", "CheckID": ident, "ServiceID": "mine"}
    await refused(lab, "/v1/agent/check/register", check, OTHER)
    for own in ("service:mine", "service:mine:2"):
        await lab.put("/v1/agent/check/register", {**check, "CheckID": own}, source=OTHER)


@pytest.mark.parametrize("name", ["consul", "Consul", "_node", "_NODE"])
async def test_a_container_is_no_host(lab: Lab, name: str) -> None:
    said = await refused(lab, REGISTER, {"Name": name, "ID": "x"}, WEB)
    assert said == f'Permission denied: service name "{name}" is for hosts'
    assert len(await lab.get("/v1/health/service/consul")) == 2


async def test_a_service_called_as_nodes_are_is_a_service(lab: Lab) -> None:
    body = {"Name": "_node", "ID": "_node", "Check": {"TTL": "1m"}}
    await lab.put(REGISTER, body)
    (service,) = lab.daemon.services.values()
    assert service.name.startswith("_node-")
    assert lab.catalog.record_of("host-1") is None
    assert list(await lab.get("/v1/agent/services")) == ["_node"]
    rows = await lab.get("/v1/health/node/host-1")
    assert [(row["CheckID"], row["ServiceID"]) for row in rows] == [
        ("serfHealth", ""),
        ("service:_node", "_node"),
    ]


async def test_an_alias_tells_nothing_of_what_its_container_does_not_see(lab: Lab) -> None:
    lab.daemon.service("hidden", "db", network="red", address="10.3.0.1")
    lab.daemon.service("seen", "db", network="blue", address="10.20.0.9")
    lab.daemon.service("open", "db")
    for ident in ("hidden", "nothing"):
        body = {"Name": "web", "Check": {"AliasService": ident}}
        said = await refused(lab, REGISTER, body, WEB, 400)
        assert said == f'Invalid check: there is no service ID "{ident}" to be seen'
    for ident in ("seen", "open"):
        body = {"Name": "web", "Check": {"AliasService": ident}}
        await lab.put(REGISTER, body, source=WEB)
    # The host sees all, and knows what is still to come.
    for ident in ("hidden", "nothing"):
        await lab.put(REGISTER, {"Name": "own", "Check": {"AliasService": ident}})


async def test_a_container_has_no_alias_of_a_node(lab: Lab) -> None:
    for check in ({"AliasNode": "host-1"}, {"AliasNode": "host-2", "AliasService": "db"}):
        answer = await lab.ask("PUT", REGISTER, {"Name": "web", "Check": check}, source=WEB)
        assert (answer.status, answer.text) == (
            400,
            "Invalid check: alias_node is for the host's own programs",
        )


async def test_the_proxy_of_a_service_of_a_container_is_an_alias_of_it(lab: Lab) -> None:
    body = {"Name": "web", "Port": 80, "Connect": {"SidecarService": {}}}
    await lab.put(REGISTER, body, source=WEB)
    proxy = lab.daemon.services["web-sidecar-proxy@host-1"]
    assert [check.spec.target for check in proxy.checks if check.spec] == ["web@host-1"]
