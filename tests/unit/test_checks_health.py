"""Health checks in the registry: from lines of the directory to what the daemon is told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from netd.model.directory import EndpointEntry, Entry, NetworkEntry, RegistrySettings, ZoneEntry
from netd.model.service import CheckResult, CheckSpec, Service
from netd.registry.api import Api
from netd.registry.checks.health import Health
from netd.registry.feed import Feed
from netd.registry.names import Names
from tests.unit.checks_daemon import Daemon
from tests.unit.checks_lab import service, serving

UP = CheckSpec(kind="tcp", id="up", interval_s=0.1)


async def _accept(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0)


class Registry:
    """What of the registry concerns checks, at a daemon that says what a test wants it to."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.api = Api(str(daemon.path))
        self.entries: dict[tuple[Any, str], Entry] = {}
        self.names = Names(Feed(str(daemon.path)))
        self.health = Health(self.api, self.names)
        self.health.start()

    async def stop(self) -> None:
        await self.health.stop()
        await self.api.close()

    def put(self, kind: Any, ident: str, **value: Any) -> Entry:
        entry = Entry(revision=1, kind=kind, id=ident, **value)
        self.entries[kind, ident] = entry
        return entry

    def zone(self, *, scripts: bool = False) -> Entry:
        settings = RegistrySettings(script_checks=scripts)
        zone = ZoneEntry(zone="netd.internal", node="host-1", node_id="n1", settings=settings)
        return self.put("zone", "", zone=zone)

    def service(self, made: Service) -> Entry:
        return self.put("service", made.id, service=made)

    def complete(self) -> None:
        """The daemon has told all of its table."""
        self.names.begin()
        for entry in self.entries.values():
            self.names.add(entry)
        self.names.replace(self.entries)
        self.health.replace(self.entries)

    async def told(self, ident: str = "web-1") -> CheckResult:
        """The last result for the check `up` of an instance, when there is one."""
        path = f"/v1/services/{ident}/checks/up"
        await self.daemon.until(lambda: any(where == path for where, _ in self.daemon.taken))
        return next(result for where, result in reversed(self.daemon.taken) if where == path)


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    daemon = Daemon(tmp_path / "s")
    await daemon.start()
    made = Registry(daemon)
    yield made
    await made.stop()
    await daemon.stop()


async def test_what_is_in_the_table_is_run_and_told(registry: Registry) -> None:
    async with serving(_accept) as port:
        registry.zone()
        registry.service(service(UP, port=port))
        registry.complete()
        assert (await registry.told()).status == "passing"
        counts = {count.name: count.value for count in registry.health.counts()}
        assert counts["checks"] == 1


async def test_a_check_turns_critical_when_its_server_is_gone(registry: Registry) -> None:
    registry.zone()
    async with serving(_accept) as port:
        registry.service(service(UP, port=port))
        registry.complete()
        await registry.told()
    told = len(registry.daemon.taken)
    await registry.daemon.until(lambda: len(registry.daemon.taken) > told)
    assert registry.daemon.taken[-1][1].status == "critical"


async def test_changes_of_the_table_are_followed(registry: Registry) -> None:
    registry.zone()
    registry.complete()
    async with serving(_accept) as port:
        first = registry.service(service(UP, port=port))
        registry.health.change(None, first)
        assert (await registry.told()).status == "passing"
        gone = Entry(revision=2, kind="service", id="web-1")
        registry.health.change(first, gone)
        assert {count.name for count in registry.health.counts() if count.name == "checks"} == set()


async def test_scripts_run_from_when_they_are_allowed(registry: Registry) -> None:
    script = CheckSpec(kind="script", id="up", interval_s=0.1, args=("echo", "well"))
    before = registry.zone()
    registry.service(service(script))
    registry.complete()
    assert "script checks are off" in (await registry.told()).output
    registry.health.change(before, registry.zone(scripts=True))
    await registry.daemon.until(lambda: registry.daemon.taken[-1][1].status == "passing")
    assert registry.daemon.taken[-1][1].output == "well"


async def test_a_name_is_looked_up_in_the_directory(registry: Registry) -> None:
    registry.zone()
    registry.put("network", "blue", network=NetworkEntry(subnets=("127.0.0.0/8",)))
    endpoint = EndpointEntry(
        network="blue", container_id="c", name="db", node="host-1", addresses=("127.0.0.1",)
    )
    registry.put("endpoint", "e1", endpoint=endpoint)
    async with serving(_accept) as port:
        by_name = CheckSpec(
            kind="tcp", id="up", target=f"db.blue.netd.internal:{port}", interval_s=0.1
        )
        registry.service(service(by_name))
        wrong = CheckSpec(kind="tcp", id="up", target="x.blue.netd.internal:80", interval_s=0.1)
        registry.service(service(wrong, id="web-2"))
        registry.complete()
        assert (await registry.told()).status == "passing"
        assert (await registry.told("web-2")).output == (
            "name 'x.blue.netd.internal': netd knows no address of it"
        )


async def test_an_endpoints_instance_is_reached_at_all_addresses_of_that_and_no_other(
    registry: Registry,
) -> None:
    registry.zone()
    endpoint = EndpointEntry(
        network="blue", container_id="c", name="db", node="host-1",
        addresses=("10.0.0.1", "127.0.0.1"),
    )  # fmt: skip
    registry.put("endpoint", "e1", endpoint=endpoint)
    async with (
        serving(_accept) as port,
        serving(_accept, host="127.0.0.2") as other,
    ):
        for ident, target in (("web-1", f"127.0.0.1:{port}"), ("web-2", f"127.0.0.2:{other}")):
            spec = CheckSpec(kind="tcp", id="up", target=target, interval_s=0.1)
            registry.service(
                service(spec, id=ident, address="10.0.0.1", endpoint="e1", network="blue")
            )
        registry.complete()
        assert (await registry.told()).status == "passing"
        assert "not an address of this instance" in (await registry.told("web-2")).output
