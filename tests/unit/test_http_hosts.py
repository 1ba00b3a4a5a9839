"""Pages of others get nothing from the APIs by a browser of this host."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.directory import Entry, RegistrySettings, ZoneEntry
from netd.naming.values import Scope
from netd.registry.http.hosts import is_own, names_beside, own_names
from tests.unit.test_http_server import Server, serving

GUEST = "127.0.1.7"
ZONE = ZoneEntry(
    zone="netd.internal",
    node="Host-1",
    node_id="0" * 16,
    settings=RegistrySettings(consul_zone="consul"),
)
ORIGIN = "Origin: http://evil.example"


@pytest.mark.parametrize(
    ("host", "right"),
    [
        ("localhost", True),
        ("localhost:8500", True),
        ("LOCALHOST:1", True),
        ("localhost.", True),
        ("127.0.0.1:8500", True),
        ("10.20.0.1:8500", True),
        ("[::1]:8500", True),
        ("[::1]", True),
        ("192.0.2.7", True),
        ("host-1:8761", True),
        ("consul.service.consul:8500", True),
        ("consul.service.dc1.consul", True),
        ("host-1.node.consul:8500", True),
        ("orders.netd.internal:8761", True),
        ("ORDERS.NETD.INTERNAL.", True),
        ("", False),
        (":8500", False),
        ("netd", False),
        ("consul", False),
        ("evilconsul", False),
        ("evil.example", False),
        ("evil.example:8500", False),
        ("consul.evil.example:8500", False),
        ("host-1.evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost:8500:1", False),
        ("[::1]evil", False),
        ("127.0.0.1:", False),
        ("127.0.0.1:x", False),
    ],
)
def test_names_that_others_could_lead_here_are_not_the_hosts(host: str, right: bool) -> None:
    assert is_own(host, ZONE) == right


def test_before_the_feed_there_are_no_zones() -> None:
    assert is_own("127.0.0.1:8500", None)
    assert not is_own("consul.service.consul", None)


def test_without_a_zone_for_consul_its_names_are_nobodys() -> None:
    zone = ZoneEntry(
        zone="z", node="n", node_id="0" * 16, settings=RegistrySettings(consul_zone="")
    )
    assert not is_own("consul.service.consul", zone)
    assert not is_own("anything.", zone)


def test_the_systems_own_name_is_one() -> None:
    for name in own_names():
        assert is_own(f"{name}:8500", None)


def test_names_beside_the_hosts_in_its_own_file_are_the_hosts() -> None:
    hosts = "127.0.1.1 Web.example.com web # web other\n0.0.0.0 ads.example\n#127.0.0.1 web no\nx"
    assert names_beside("web", hosts) == {"web.example.com", "web"}
    assert names_beside("none", hosts) == frozenset()


def test_the_unix_socket_has_a_name_of_its_own() -> None:
    assert is_own("netd", None, unix=True)
    assert is_own("netd:80", None, unix=True)
    assert not is_own("netd.example", None, unix=True)


@given(st.text(max_size=40))
def test_no_host_is_too_odd(host: str) -> None:
    is_own(host, ZONE)


# By the server


async def ask(server: Server, method: str, host: str | None, *fields: str, **more: Any) -> int:
    client = await server.client(**more)
    lines = [f"{method} /echo HTTP/1.{0 if host is None else 1}", *fields, "Content-Length: 0"]
    if host is not None:
        lines.append(f"Host: {host}")
    status, _, _ = await client.ask("\r\n".join((*lines, "", "")).encode())
    return status


async def test_a_name_that_may_lead_anywhere_is_refused() -> None:
    async with serving() as server:
        assert await ask(server, "GET", "evil.example:8500") == 421
        assert await ask(server, "PUT", "evil.example:8500") == 421
        assert await ask(server, "GET", "consul.service.consul:8500") == 421
        server.server.callers.change(None, Entry(revision=1, kind="zone", zone=ZONE))
        for host in ("127.0.0.1:8500", "localhost:8500", "consul.service.consul:8500", "host-1"):
            assert await ask(server, "GET", host) == 200, host
        assert await ask(server, "GET", "evil.example:8500") == 421


async def test_who_has_only_its_own_rights_may_call_the_host_as_it_likes() -> None:
    def scope_of(source: str | None) -> Scope:
        return Scope(frozenset({"blue"})) if source == GUEST else Scope(None)

    async with serving(scope_of) as server:
        assert await ask(server, "GET", "gateway.example", source=GUEST) == 200
        assert await ask(server, "PUT", "gateway.example", ORIGIN, source=GUEST) == 403


async def test_a_program_of_http_1_0_needs_no_name() -> None:
    async with serving() as server:
        assert await ask(server, "GET", None) == 200
        assert await ask(server, "GET", "") == 421


@pytest.mark.parametrize("origin", [ORIGIN, "Origin: null", "Origin: http://localhost:8500"])
async def test_a_page_changes_nothing(origin: str) -> None:
    async with serving() as server:
        assert await ask(server, "PUT", "localhost:8500") == 200
        assert await ask(server, "PUT", "localhost:8500", origin) == 403
        assert await ask(server, "GET", "localhost:8500", origin) == 200
