"""netctl against the real API: what one sends, the other must understand."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from click.testing import Result

from tests.unit.cli_daemon import Netctl
from tests.unit.memory_engine import Served, served


@pytest.fixture
async def world() -> AsyncIterator[Served]:
    async with served() as world:
        yield world


async def run(world: Served, *arguments: str) -> Result:
    """Run netctl on a thread of its own, for the server lives on this one."""
    return await asyncio.to_thread(Netctl(world.path), *arguments)


async def done(world: Served, *arguments: str) -> str:
    result = await run(world, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


async def test_the_life_of_an_endpoint(world: Served) -> None:
    create = ("network", "create", "blue", "--subnet", "10.20.0.0/24", "--label", "team=red")
    network = await done(world, *create)
    assert await done(world, *create) == network
    endpoint = await done(
        world, "endpoint", "attach", "blue", "--container", "c1", "--pid", "1", "--name", "web",
        "--alias", "www", "--publish", "[::1]:8080-8081:80-81/udp", "--label", "a=b",
        "--ingress", "10mbit", "--address", "10.20.0.9", "--default-route",
    )  # fmt: skip
    assert await done(world, "endpoint", "ls", "-q", "--network", "blue") == endpoint
    found = json.loads(await done(world, "endpoint", "inspect", endpoint, "--json"))
    assert found["ports"] == [
        {
            "host_port": 8080,
            "container_port": 80,
            "protocol": "udp",
            "host_ip": "::1",
            "count": 2,
        }
    ]
    update = ("endpoint", "update", endpoint, "--no-ports", "--egress", "1gbit", "--json")
    changed = json.loads(await done(world, *update))
    assert changed["ports"] == []
    assert changed["bandwidth"]["egress_bps"] == 10**9

    refused = await run(world, "network", "rm", "blue")
    assert refused.exit_code == 4
    assert "network blue is in use by web (container c1)\n" in refused.stderr
    assert await done(world, "endpoint", "detach", endpoint) == endpoint
    assert (await run(world, "endpoint", "detach", endpoint)).exit_code == 3
    assert await done(world, "network", "rm", "blue") == "blue"
    assert (await run(world, "network", "rm", "blue")).exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "blame"),
    [
        (("network", "create", "Blue"), 2, "Error: NAME: network name 'Blue'"),
        (("network", "inspect", "a/../b"), 3, "there is no network a/../b"),
        (("endpoint", "attach", "blue", "--container", "c"), 3, "there is no network blue"),
        (("resolve", "a b"), 2, "Error: NAME: 'a b' is not a name"),
        (("resolve", "nobody"), 3, "Error: nobody has no A record (NXDOMAIN)"),
    ],
)
async def test_what_the_api_refuses(
    world: Served, arguments: tuple[str, ...], code: int, blame: str
) -> None:
    result = await run(world, *arguments)
    assert blame in result.stderr
    assert result.exit_code == code


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("plan",),
        ("reconcile",),
        ("doctor",),
        ("member", "ls"),
        ("member", "inspect", "here"),
        ("key", "ls"),
        ("network", "ls"),
        ("endpoint", "ls"),
        ("version",),
    ],
)
async def test_every_read_has_a_table_and_json(world: Served, arguments: tuple[str, ...]) -> None:
    assert await done(world, *arguments)
    assert json.loads(await done(world, *arguments, "--json")) is not None


async def test_events_that_break_off_keep_what_came_before(world: Served) -> None:
    await done(world, "network", "create", "blue")
    world.engine.stream_failure = ConnectionError("the source of events broke")
    result = await run(world, "events", "--since", "0")
    assert result.stdout == "2026-01-02T03:04:05Z 1 network.created blue\n"
    assert result.stderr.startswith(
        f"Error: what answers on {world.path} is not netd, or it stopped"
    )
    assert result.exit_code == 5
