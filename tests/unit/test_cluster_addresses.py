"""Addresses as they are written, resolved, and chosen to be told to others."""

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.cluster import addresses
from netd.cluster.addresses import (
    Place,
    advertised,
    has,
    leads_here,
    parse,
    parse_own,
    resolve,
    text,
)
from netd.model.errors import Invalid, Unavailable


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 7940),
        ("192.0.2.1:80", "192.0.2.1", 80),
        ("node-1", "node-1", 7940),
        ("node_1.example.:80", "node_1.example.", 80),
        ("2001:db8::1", "2001:db8::1", 7940),
        ("[2001:db8::1]", "2001:db8::1", 7940),
        ("[2001:db8::1]:80", "2001:db8::1", 80),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("127.0.0.1:0", "127.0.0.1", 0),
    ],
)
def test_what_is_an_address(written: str, host: str, port: int) -> None:
    assert parse(written) == (host, port)


@pytest.mark.parametrize(
    "written",
    [
        "",
        ":80",
        "host:",
        "host:port",
        "host:65536",
        "host:-1",
        "host:٣",
        "[::1",
        "[::1]80",
        "[host]:80x",
        "2001:db8::1::2",
        "a b",
        "a/b",
        "-a",
        "a" * 300,
        "host\n",
    ],
)
def test_what_is_none_is_refused(written: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(written, "addresses[3]")
    assert refused.value.field == "addresses[3]"


@given(st.text(max_size=40))
def test_all_is_an_address_or_refused(written: str) -> None:
    try:
        place = parse(written)
    except Invalid:
        return
    assert parse(str(place)) == place


def test_own_addresses_are_no_names() -> None:
    assert parse_own("192.0.2.1", "bind") == ("192.0.2.1", 7940)
    with pytest.raises(Invalid, match="not an IP address"):
        parse_own("localhost", "bind")


def test_ipv6_is_shown_in_brackets() -> None:
    assert text(("2001:db8::1", 80)) == "[2001:db8::1]:80"
    assert text(("192.0.2.1", 80)) == "192.0.2.1:80"


async def test_names_are_resolved_for_the_family_that_is_bound() -> None:
    assert await resolve(Place("192.0.2.1", 80), "0.0.0.0") == [("192.0.2.1", 80)]
    assert await resolve(Place("localhost", 80), "0.0.0.0") == [("127.0.0.1", 80)]


async def test_a_name_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_args: object, **_named: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    with pytest.raises(Unavailable, match="nobody: Name or service not known"):
        await resolve(Place("nobody", 80), "0.0.0.0")


async def test_a_dns_server_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def mute(*_args: object, **_named: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(addresses, "RESOLVE_S", 0.05)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", mute)
    with pytest.raises(Unavailable, match="not found within"):
        await resolve(Place("slow", 80), "0.0.0.0")


def test_what_is_bound_is_told_to_others() -> None:
    assert advertised("127.0.0.5", ["192.0.2.1"]) == "127.0.0.5"


def test_for_a_wildcard_the_way_to_the_first_seed_decides() -> None:
    assert advertised("0.0.0.0", ["127.0.0.1"]) == "127.0.0.1"


def test_without_a_route_an_address_of_the_host_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_toward", lambda _family, _host: None)
    monkeypatch.setattr(addresses, "_global", lambda _family: iter(["192.0.2.7", "192.0.2.8"]))
    assert advertised("0.0.0.0", []) == "192.0.2.7"
    monkeypatch.setattr(addresses, "_global", lambda _family: iter([]))
    assert advertised("0.0.0.0", []) == "127.0.0.1"
    assert advertised("::", []) == "::1"


def test_addresses_of_this_host_are_its_own() -> None:
    assert has("127.0.0.1")
    assert not has("192.0.2.1")
    for family in (socket.AF_INET, socket.AF_INET6):
        for own in addresses._global(family):
            assert has(own)
            assert not addresses.is_loopback(own)


def test_what_leads_to_this_host_is_known_whatever_may_be_bound() -> None:
    assert leads_here("127.0.0.1")
    assert leads_here("127.0.1.1")
    assert leads_here("::1")
    assert not leads_here("192.0.2.7")
    assert not leads_here("2001:db8::7")
    own = advertised("0.0.0.0", ())
    assert leads_here(own)
