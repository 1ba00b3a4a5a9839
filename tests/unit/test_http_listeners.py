"""Where HTTP is listened for follows what is configured and which networks there are."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from netd.model.directory import Entry, NetworkEntry, RegistrySettings, ZoneEntry
from netd.naming.values import Scope
from netd.registry.http.caller import Callers
from netd.registry.http.listeners import HttpListeners, Wanted
from netd.registry.http.routing import Routes
from netd.registry.http.server import HttpServer
from netd.registry.listening import Place

DEADLINE_S = 5.0
HOST = "127.0.0.53"


class Lab:
    def __init__(self, port: int) -> None:
        self.port = port
        self.wanted = Wanted(Place(HOST, port), gateways=True)
        self.news = 0
        everything = Scope(None)
        self.server = HttpServer(
            "test", Routes([]), Callers(lambda _: everything), drain=lambda: None
        )
        self.listeners = HttpListeners(self.server, lambda _: self.wanted, self._changed)

    def _changed(self) -> None:
        self.news += 1

    def configure(self) -> None:
        zone = ZoneEntry(zone="x", node="host-1", node_id="1" * 16, settings=RegistrySettings())
        self.listeners.change(None, Entry(revision=1, kind="zone", zone=zone))

    def network(self, name: str, *resolvers: str) -> None:
        entry = Entry(revision=1, kind="network", id=name)
        if resolvers:
            entry = Entry(
                revision=1, kind="network", id=name, network=NetworkEntry(resolvers=resolvers)
            )
        self.listeners.change(None, entry)

    def places(self) -> list[str]:
        return list(self.listeners.listening)

    def problems(self) -> list[str]:
        return list(self.listeners.problems)

    async def answers(self, address: str) -> bool:
        try:
            reader, writer = await asyncio.open_connection(address, self.port)
        except ConnectionRefusedError:
            return False
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(DEADLINE_S):
            line = await reader.readline()
        writer.close()
        return line.startswith(b"HTTP/1.1 404")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    running = Lab(port)
    yield running
    await running.listeners.close()
    await running.server.close()


async def test_the_hosts_place_and_those_of_networks(lab: Lab) -> None:
    assert not await lab.answers(HOST)
    lab.configure()
    lab.network("blue", "127.0.3.1", "127.0.3.2")
    for address in (HOST, "127.0.3.1", "127.0.3.2"):
        assert await lab.answers(address)
    assert len(lab.places()) == 3
    lab.network("blue", "127.0.3.2")
    assert not await lab.answers("127.0.3.1")
    assert await lab.answers("127.0.3.2")
    lab.network("blue")
    assert lab.places() == [f"{HOST}:{lab.port}"]
    assert lab.news == 4


async def test_gateways_only_if_they_are_wanted_and_nothing_if_it_is_off(lab: Lab) -> None:
    lab.wanted = Wanted(Place(HOST, lab.port))
    lab.network("blue", "127.0.3.1")
    lab.configure()
    assert lab.places() == [f"{HOST}:{lab.port}"]
    lab.wanted = Wanted()
    lab.configure()
    assert lab.places() == []
    assert not await lab.answers(HOST)


@pytest.mark.parametrize(("own", "others"), [("0.0.0.0", "::1"), ("::", "127.0.3.1")])
async def test_all_addresses_of_a_family_include_its_gateways(
    lab: Lab, own: str, others: str
) -> None:
    lab.wanted = Wanted(Place(own, lab.port), gateways=True)
    lab.network("blue", "127.0.3.1", "::1")
    lab.configure()
    assert set(lab.places()) == {str(Place(own, lab.port)), str(Place(others, lab.port))}
    assert lab.problems() == []
    for address in ("127.0.3.1", "::1"):
        assert await lab.answers(address)


async def test_a_place_that_is_taken_is_a_problem_until_it_is_free(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.registry.listening.RETRY_S", 0.02)
    with socket.socket() as other:
        other.bind((HOST, lab.port))
        other.listen()
        lab.configure()
        assert lab.problems() == [f"{HOST}:{lab.port}"]
        assert lab.places() == []
    async with asyncio.timeout(DEADLINE_S):
        while not lab.places():
            await asyncio.sleep(0.005)
    assert lab.problems() == []
    assert await lab.answers(HOST)


def test_addresses_are_read_as_they_are_configured() -> None:
    assert Wanted.at("") == Wanted()
    assert Wanted.at("127.0.0.1:8500", gateways=True) == Wanted(Place("127.0.0.1", 8500), True)
    assert Wanted.at("[::1]:8500") == Wanted(Place("::1", 8500))
