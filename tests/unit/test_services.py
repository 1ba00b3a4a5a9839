"""Services on a host with the fake kernel: registered, found, gone again, and kept."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from netd.model.endpoint import EndpointPatch, Sandbox
from netd.model.errors import Conflict, Exhausted, Invalid, NotFound, Unavailable
from netd.model.service import (
    Check,
    CheckReport,
    CheckResult,
    CheckSpec,
    Maintenance,
    Service,
    ServiceSpec,
    Weights,
)
from tests.unit.engine_fixture import DISK_FULL, Gate, Host
from tests.unit.memory_cluster import Mesh

PASSING = CheckResult(status="passing", output="fine")
WARNING = CheckResult(status="warning", output="slow")
CRITICAL = CheckResult(status="critical", output="refused")
TCP = CheckSpec(kind="tcp")


def spec(**more: Any) -> ServiceSpec:
    return ServiceSpec(**{"name": "web", "port": 80, **more})


async def put(host: Host, ident: str = "web-1", **more: Any) -> Service:
    service, _ = await host.engine.services.put(ident, spec(**more))
    return service


def ids(host: Host) -> list[str]:
    return [service.id for service in host.engine.services.all()]


def status(host: Host, ident: str = "web-1") -> str:
    return host.engine.services.find(ident).status


def check_of(host: Host, check: str, ident: str = "web-1") -> Check:
    (found,) = [c for c in host.engine.services.find(ident).checks if c.id == check]
    return found


async def stored(host: Host) -> list[str]:
    """The ids in the store, once all that happened by itself is written."""
    keeper = host.engine.services._keeper
    async with asyncio.timeout(5):
        while keeper.waiting:
            await asyncio.sleep(0.001)
    return [record.service.id for record in (await host.store.load()).services]


@pytest.fixture
async def other(host: Host, tmp_path: Path) -> AsyncIterator[Host]:
    """Another member of the host's cluster."""
    made = Host(tmp_path / "other", host.mesh, node="node-2", node_id="6" * 32)
    await made.start()
    await made.cluster.join([host.cluster.address], None)
    yield made
    await made.stop()


# Registered, found, deregistered


async def test_an_instance_is_registered_shown_and_deregistered(host: Host) -> None:
    host.forget_events()
    asked = spec(address="198.51.100.7", tags=("v1",), meta={"k": "v"}, weights=Weights(passing=5))
    service, created = await host.engine.services.put("web-1", asked)
    assert created
    assert service == Service(
        id="web-1",
        name="web",
        node="node-1",
        address="198.51.100.7",
        port=80,
        tags=("v1",),
        meta={"k": "v"},
        weights=Weights(passing=5),
        status="passing",
        created_at="2023-11-14T22:13:20.000Z",
    )
    assert host.engine.services.find("web-1") == service
    assert host.engine.services.all() == (service,)
    await host.happened("service.registered", about="web-1")
    await host.engine.services.delete("web-1")
    await host.engine.services.delete("web-1")
    assert ids(host) == []
    await host.happened("service.deregistered", about="web-1")
    with pytest.raises(NotFound, match="web-1"):
        host.engine.services.find("web-1")
    assert await stored(host) == []


async def test_the_same_registration_again_changes_nothing(host: Host) -> None:
    first = await put(host, checks=(TCP,))
    host.forget_events()
    again, created = await host.engine.services.put("web-1", spec(checks=(TCP,)))
    assert not created
    assert again == first
    assert host.seen == []


async def test_another_registration_of_the_id_takes_its_place(host: Host) -> None:
    first = await put(host, checks=(TCP, CheckSpec(kind="ttl", id="beat", ttl_s=5)))
    host.engine.services.report("web-1", "tcp", PASSING)
    host.engine.services.report("web-1", "beat", PASSING)
    host.clock.now_s += 1
    slower = CheckSpec(kind="ttl", id="beat", ttl_s=9)
    again, created = await host.engine.services.put("web-1", spec(port=81, checks=(TCP, slower)))
    assert not created
    assert again.port == 81
    assert again.created_at == first.created_at
    # A check that stays as it is goes on; one that does not begins anew.
    assert [(check.id, check.status) for check in again.checks] == [
        ("tcp", "passing"),
        ("beat", "critical"),
    ]
    await host.happened("service.updated", about="web-1")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["api-1", "web-1", "web-2"]),
        ({"name": "web"}, ["web-1", "web-2"]),
        ({"name": "nothing"}, []),
        ({"node": "node-1"}, ["api-1", "web-1", "web-2"]),
        ({"node": "node-9"}, []),
        ({"network": "blue"}, ["web-2"]),
        ({"passing": True}, ["api-1", "web-2"]),
        ({"name": "web", "passing": True}, ["web-2"]),
    ],
)
async def test_what_is_listed(host: Host, filters: dict[str, Any], found: list[str]) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    await put(host, "web-1", checks=(TCP,))
    await put(host, "web-2", network="blue")
    await put(host, "api-1", name="api")
    assert [service.id for service in host.engine.services.all(**filters)] == found


async def test_of_a_network_there_is_not_nothing_can_be_listed(host: Host) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        host.engine.services.all(network="nowhere")


@pytest.mark.parametrize(
    ("ident", "more", "field"),
    [
        ("", {}, "id"),
        ("a b", {}, "id"),
        ("a/b", {}, "id"),
        ("x" * 129, {}, "id"),
        ("web-1", {"name": "Web"}, "name"),
        ("web-1", {"name": "web.v1"}, "name"),
        ("web-1", {"name": "-web"}, "name"),
        ("web-1", {"name": ""}, "name"),
        ("web-1", {"name": "w" * 64}, "name"),
        ("web-1", {"name": "web\n"}, "name"),
        ("web-1", {"name": "_node"}, "name"),
        ("_node-other", {"name": "_node"}, "name"),
        ("web-1", {"address": "web.example.org"}, "address"),
        ("web-1", {"address": "0.0.0.0"}, "address"),
        ("web-1", {"address": "::"}, "address"),
        ("web-1", {"address": "224.0.0.1"}, "address"),
        ("web-1", {"address": "fe80::1%eth0"}, "address"),
        ("web-1", {"tags": ("",)}, "tags[0]"),
        ("web-1", {"tags": tuple(map(str, range(129)))}, "tags"),
        ("web-1", {"meta": {"": "v"}}, "meta."),
        ("web-1", {"meta": {"k" * 129: "v"}}, f"meta.{'k' * 40}"),
        ("web-1", {"meta": {"k": "v" * 513}}, "meta.k"),
        ("web-1", {"meta": {str(key): "" for key in range(65)}}, "meta"),
        ("web-1", {"checks": (TCP,) * 33}, "checks"),
        ("web-1", {"port": 0, "checks": (TCP,)}, "checks[0].target"),
        ("web-1", {"port": 0, "checks": (CheckSpec(kind="http", target="/up"),)}, None),
        ("web-1", {"checks": (CheckSpec(kind="tcp", target="a:b:c"),)}, "checks[0].target"),
        ("web-1", {"checks": (CheckSpec(kind="tcp", target="a:80 "),)}, "checks[0].target"),
        ("web-1", {"checks": (CheckSpec(kind="udp", target="http://a"),)}, "checks[0].target"),
        ("web-1", {"checks": (CheckSpec(kind="http", target="ftp://a/"),)}, "checks[0].target"),
        ("web-1", {"checks": (CheckSpec(kind="http", target="a:80"),)}, "checks[0].target"),
        ("web-1", {"checks": (CheckSpec(kind="http", method="GET /"),)}, "checks[0].method"),
        ("web-1", {"checks": (CheckSpec(kind="http", headers={"a b": ()}),)}, None),
        ("web-1", {"checks": (CheckSpec(kind="http", headers={"a": ("b\r\nc: d",)}),)}, None),
        ("web-1", {"checks": (CheckSpec(kind="ttl"),)}, "checks[0].ttl_s"),
        ("web-1", {"checks": (CheckSpec(kind="alias"),)}, "checks[0].target"),
        ("web-1", {"checks": (CheckSpec(kind="alias", target="web-1"),)}, "checks"),
        ("web-1", {"checks": (CheckSpec(kind="script", args=("true",)),)}, "checks[0].kind"),
        ("web-1", {"checks": (CheckSpec(kind="tcp", id="a b"),)}, "checks[0].id"),
        ("web-1", {"checks": (CheckSpec(kind="tcp", id="maintenance"),)}, "checks[0].id"),
        ("web-1", {"checks": (CheckSpec(kind="tcp", id="a"),) * 2}, "checks[1].id"),
        ("web-1", {"checks": (CheckSpec(kind="tcp", interval_s=0.01),)}, "checks[0].interval_s"),
    ],
)
async def test_what_cannot_be_right_is_refused(
    host: Host, ident: str, more: dict[str, Any], field: str | None
) -> None:
    with pytest.raises(Invalid) as caught:
        await put(host, ident, **more)
    if field is not None:
        assert caught.value.field == field
    assert ids(host) == []
    assert await stored(host) == []


async def test_more_than_a_record_can_hold_is_refused(host: Host) -> None:
    meta = {f"{key:03}": "\x01" * 512 for key in range(60)}
    with pytest.raises(Invalid, match="bytes together"):
        await put(host, meta=meta)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"endpoint": "no-such"}, "endpoint"),
        ({"network": "no-such"}, "network"),
        ({"pid": 7}, "pid"),
    ],
)
async def test_what_it_goes_with_has_to_be_there(
    host: Host, more: dict[str, Any], field: str
) -> None:
    with pytest.raises(NotFound) as caught:
        await put(host, **more)
    assert caught.value.field == field
    assert ids(host) == await stored(host) == []


async def test_a_full_disk_leaves_everything_as_it_was(host: Host) -> None:
    pid = host.kernel.processes.start()
    await put(host, "web-1")
    host.store.full = True
    with pytest.raises(Unavailable, match=DISK_FULL):
        await put(host, "web-2", pid=pid)
    with pytest.raises(Unavailable, match=DISK_FULL):
        await put(host, "web-1", port=81)
    with pytest.raises(Unavailable, match=DISK_FULL):
        await host.engine.services.maintain("web-1", Maintenance(enable=True))
    with pytest.raises(Unavailable, match=DISK_FULL):
        await host.engine.services.delete("web-1")
    (left,) = host.engine.services.all()
    assert (left.id, left.port, left.status) == ("web-1", 80, "passing")
    assert host.kernel.processes.watched() == set()


# Where an instance is


async def test_without_an_address_it_is_the_hosts(host: Host) -> None:
    assert (await put(host)).address == "192.0.2.10"


async def test_the_address_of_an_endpoint_and_its_network(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24", "fd20::/64"))
    endpoint = await host.attach("blue", "c1")
    service = await put(host, endpoint=endpoint.id)
    assert service.address == endpoint.addresses[0].partition("/")[0]
    assert service.network == "blue"
    other = await put(host, "web-2", endpoint=endpoint.id, address="FD20::0:2")
    assert (other.address, other.network) == ("fd20::2", "blue")


async def test_an_address_tells_whose_containers_see_it(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    await host.network(
        "lan",
        "macvlan",
        subnets=("192.0.2.0/24",),
        gateways=("192.0.2.1",),
        options={"range": "192.0.2.128/25"},
    )
    box = await host.attach("lan", "c1")
    assert (await put(host, "a", address="10.20.0.9")).network == "blue"
    assert (await put(host, "b", address="198.51.100.1")).network == ""
    assert (await put(host, "c", address="192.0.2.77")).network == ""
    assert (await put(host, "d", address=box.addresses[0].partition("/")[0])).network == "lan"
    assert (await put(host, "e", address="198.51.100.1", network="blue")).network == "blue"


async def test_nobody_is_shown_what_is_on_a_network_that_it_does_not_reach(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    await host.network("red", subnets=("10.30.0.0/24",))
    await host.network("inner", subnets=("10.40.0.0/24",), internal=True, isolated=False)
    for name, subnet in (("open", "10.50.0.0/24"), ("wide", "10.60.0.0/24")):
        await host.network(name, subnets=(subnet,), isolated=False)
    await host.network("plain", "host")
    box = await host.attach("red", "c1")
    for address, network, why in (
        ("10.30.0.9", "blue", "blue is isolated"),
        ("10.30.0.9", "open", "red is isolated"),
        ("10.20.0.9", "inner", "inner is internal"),
        ("10.40.0.9", "wide", "inner is internal"),
    ):
        with pytest.raises(Invalid, match=why) as caught:
            await put(host, address=address, network=network)
        assert caught.value.field == "network"
    with pytest.raises(Invalid, match="is an address of network red"):
        await put(host, endpoint=box.id, network="blue")
    assert ids(host) == []
    # Nobody looks whether somebody has the address: it may be there later.
    for address, network in (
        ("10.20.0.9", "blue"),
        ("10.50.0.9", "wide"),
        ("192.0.2.10", "blue"),
        ("10.30.0.9", "plain"),
    ):
        found = await put(host, address=address, network=network)
        assert found.network == ("" if network == "plain" else network)


async def test_on_a_host_network_everybody_sees_it_at_the_hosts_address(host: Host) -> None:
    await host.network("plain", "host")
    endpoint = await host.attach("plain", "c1", netns=None)
    service = await put(host, endpoint=endpoint.id)
    assert (service.address, service.network) == ("192.0.2.10", "")


async def test_an_instance_follows_the_hosts_address(host: Host) -> None:
    await put(host, "web-1")
    await put(host, "web-2", address="198.51.100.1")
    host.kernel.by_hand.add_address("eth0", "192.0.2.11/24")
    host.kernel.by_hand.delete_address("eth0", "192.0.2.10/24")
    await host.engine.reconcile()
    services = {service.id: service.address for service in host.engine.services.all()}
    assert services == {"web-1": "192.0.2.11", "web-2": "198.51.100.1"}
    host.kernel.by_hand.delete_address("eth0", "192.0.2.11/24")
    await host.engine.reconcile()
    assert host.engine.services.find("web-1").address == "192.0.2.11"  # better than none
    with pytest.raises(Unavailable, match="no address"):
        await put(host, "web-3")


async def test_an_endpoint_without_an_address_needs_one_to_be_named(host: Host) -> None:
    await host.network("nothing", "none")
    endpoint = await host.attach("nothing", "c1")
    with pytest.raises(Invalid, match="no address"):
        await put(host, endpoint=endpoint.id)
    with pytest.raises(Invalid, match="nothing to register"):
        await host.attach("nothing", "c2", labels={"netd.service": "web:80"})


# What it goes with


async def test_an_instance_goes_with_its_process(host: Host) -> None:
    pid = host.kernel.processes.start()
    await put(host, "web-1", pid=pid)
    await put(host, "web-2")
    host.kernel.processes.end(pid)
    await host.happened("service.deregistered", f"process {pid} has ended", about="web-1")
    assert ids(host) == await stored(host) == ["web-2"]


async def test_the_process_of_another_registration_takes_the_place_of_the_first(host: Host) -> None:
    first, second = host.kernel.processes.start(), host.kernel.processes.start()
    await put(host, pid=first)
    await put(host, pid=second)
    assert host.kernel.processes.watched() == {second}
    host.kernel.processes.end(first)
    await asyncio.sleep(0)
    assert ids(host) == ["web-1"]
    await put(host)
    assert host.kernel.processes.watched() == set()
    host.kernel.processes.end(second)
    await asyncio.sleep(0)
    assert ids(host) == ["web-1"]


async def test_a_process_that_ends_while_it_is_registered(host: Host) -> None:
    pid = host.kernel.processes.start()
    gate = host.store.gate = Gate()
    registering = asyncio.create_task(put(host, pid=pid))
    await gate.reached.wait()
    host.kernel.processes.end(pid)
    await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(NotFound, match="just ended"):
        await registering
    assert ids(host) == await stored(host) == []


async def test_an_instance_goes_with_its_endpoint(host: Host) -> None:
    await host.network("blue")
    endpoint = await host.attach("blue", "c1")
    await put(host, "web-1", endpoint=endpoint.id)
    await put(host, "web-2")
    await host.engine.detach(endpoint.id)
    assert ids(host) == await stored(host) == ["web-2"]
    await host.happened("service.deregistered", endpoint.id, about="web-1")


async def test_an_endpoint_that_ends_while_an_instance_is_registered(host: Host) -> None:
    await host.network("blue")
    endpoint = await host.attach("blue", "c1")
    gate = Gate()
    host.store.gate = gate
    registering = asyncio.create_task(put(host, endpoint=endpoint.id))
    await gate.reached.wait()
    await host.engine.detach(endpoint.id)
    gate.opened.set()
    with pytest.raises(NotFound, match="just ended"):
        await registering
    assert ids(host) == await stored(host) == []


async def test_a_container_has_so_many_instances_and_no_more(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.engine.services.shares.INSTANCES_MAX", 3)
    for network in ("blue", "red"):
        await host.network(network)
    blue = await host.attach("blue", "c1")
    red = await host.attach("red", "c1", ifname="eth1")
    other = await host.attach("blue", "c2")
    # As many at once as one likes to ask for.
    asked = [put(host, f"web-{n}", endpoint=(blue, red)[n % 2].id) for n in range(6)]
    done = await asyncio.gather(*asked, return_exceptions=True)
    refused = [each for each in done if not isinstance(each, Service)]
    assert len(refused) == 3
    assert all(isinstance(each, Exhausted) for each in refused), refused
    assert len(ids(host)) == len(await stored(host)) == 3
    # What it has it may change, others may have theirs, and what is gone makes room.
    first = ids(host)[0]
    await put(host, first, endpoint=blue.id, port=81)
    await put(host, "theirs", endpoint=other.id)
    await put(host, "hosts")
    with pytest.raises(Exhausted, match="container c1 has 3 services"):
        await put(host, "theirs", endpoint=red.id)
    await host.engine.services.delete(first)
    await put(host, "web-9", endpoint=red.id)


# Labels


async def test_a_label_registers_an_endpoints_services_until_it_goes(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    labels = {"netd.service": "web:80, admin:8080/udp", "netd.service.tags": "a, b"}
    endpoint = await host.attach("blue", "c1", labels=labels)
    admin, web = host.engine.services.all()
    assert (web.id, web.name, web.port, web.tags) == (f"web-{endpoint.id}", "web", 80, ("a", "b"))
    assert (admin.id, admin.port, admin.tags) == (f"admin-{endpoint.id}", 8080, ("a", "b", "udp"))
    assert {web.address, admin.address} == {endpoint.addresses[0].partition("/")[0]}
    assert {web.network, web.endpoint} == {"blue", endpoint.id}
    assert web.created_at == endpoint.created_at
    await host.engine.detach(endpoint.id)
    assert ids(host) == []


async def test_other_labels_of_a_live_endpoint_are_other_services(host: Host) -> None:
    await host.network("blue")
    endpoint = await host.attach("blue", "c1", labels={"netd.service": "web:80,old:1"})
    await put(host, "by-hand", endpoint=endpoint.id)

    async def label(**labels: str) -> None:
        patch = EndpointPatch(labels={key.replace("_", "."): text for key, text in labels.items()})
        await host.engine.update_endpoint(endpoint.id, patch)

    await label(netd_service="web:81,new:2")
    names = {service.name: service.port for service in host.engine.services.all()}
    assert names == {"web": 81, "new": 2}  # `by-hand` is another instance of web: see below
    assert sorted(ids(host)) == sorted(["by-hand", f"new-{endpoint.id}", f"web-{endpoint.id}"])
    with pytest.raises(Invalid) as caught:
        await label(netd_service="web:99999")
    assert caught.value.field == "labels.netd.service"
    await label()
    assert ids(host) == ["by-hand"]


@pytest.mark.parametrize(
    "text",
    [
        "web:",
        ":80",
        "web:80/sctp",
        "web:65536",
        "Web:80",
        "web:80,,",
        "web:80,web:80",
        "a b",
        "_node",
    ],
)
async def test_a_label_that_cannot_be_right_is_refused_at_once(host: Host, text: str) -> None:
    await host.network("blue")
    with pytest.raises(Invalid) as caught:
        await host.attach("blue", "c1", labels={"netd.service": text})
    assert caught.value.field == "labels.netd.service"
    assert host.engine.endpoints() == ()


async def test_two_ports_of_one_service_are_two_instances(host: Host) -> None:
    await host.network("blue")
    endpoint = await host.attach("blue", "c1", labels={"netd.service": "web:80,web:443,plain"})
    assert ids(host) == [f"plain-{endpoint.id}", f"web-{endpoint.id}", f"web-{endpoint.id}-443"]


async def test_what_a_label_asks_for_is_not_deregistered_by_hand(host: Host) -> None:
    await host.network("blue")
    endpoint = await host.attach("blue", "c1", labels={"netd.service": "web:80"})
    with pytest.raises(Conflict, match=f"endpoint {endpoint.id}"):
        await host.engine.services.delete(f"web-{endpoint.id}")
    assert ids(host) == [f"web-{endpoint.id}"]


# Checks


async def test_the_worst_check_is_the_instances_status(host: Host) -> None:
    await put(host, checks=(TCP, CheckSpec(kind="http", name="front")))
    assert [(c.id, c.name, c.kind) for c in host.engine.services.find("web-1").checks] == [
        ("tcp", "tcp", "tcp"),
        ("http", "front", "http"),
    ]
    assert status(host) == "critical"
    host.forget_events()
    host.engine.services.report("web-1", "tcp", PASSING)
    host.engine.services.report("web-1", "http", WARNING)
    assert status(host) == "warning"
    await host.happened("service.warning", "http: slow", about="web-1")
    host.clock.now_s += 5
    host.engine.services.report("web-1", "http", PASSING)
    await host.happened("service.passing", about="web-1")
    assert check_of(host, "http").since == "2023-11-14T22:13:25.000Z"
    assert check_of(host, "tcp").since == "2023-11-14T22:13:20.000Z"


async def test_checks_that_have_no_id_get_different_ones(host: Host) -> None:
    service = await put(host, checks=(TCP, TCP, CheckSpec(kind="tcp", id="tcp-2"), TCP))
    assert [check.id for check in service.checks] == ["tcp", "tcp-3", "tcp-2", "tcp-4"]


async def test_a_status_to_begin_with(host: Host) -> None:
    await put(host, checks=(replace(TCP, status="passing"),))
    assert status(host) == "passing"


async def test_a_long_output_is_cut(host: Host) -> None:
    await put(host, checks=(TCP,))
    host.engine.services.report("web-1", "tcp", CheckResult(status="passing", output="x" * 5000))
    assert check_of(host, "tcp").output == "x" * 4096


@pytest.mark.parametrize(
    ("ident", "check", "error"),
    [("no", "tcp", NotFound), ("web-1", "no", NotFound), ("web-1", "alias", Conflict)],
)
async def test_results_of_no_check_of_this_host(
    host: Host, ident: str, check: str, error: type[Exception]
) -> None:
    await put(host, checks=(TCP, CheckSpec(kind="alias", target="web-2")))
    with pytest.raises(error):
        host.engine.services.report(ident, check, PASSING)


async def test_an_output_that_alone_has_changed_is_told_to_others_now_and_then(
    host: Host, other: Host
) -> None:
    await put(host, checks=(TCP,))

    def told() -> str:
        return other.engine.services.find("web-1").checks[0].output

    host.engine.services.report("web-1", "tcp", PASSING)
    assert told() == "fine"
    for number in range(5):
        host.clock.now_s += 4
        result = CheckResult(status="passing", output=f"{number} s")
        host.engine.services.report("web-1", "tcp", result)
    assert told() == "fine"
    assert check_of(host, "tcp").output == "4 s"
    host.clock.now_s += 11
    host.engine.services._own.ring_due()
    assert told() == "4 s"
    host.engine.services.report("web-1", "tcp", CRITICAL)
    assert told() == "refused"
    assert other.engine.services.find("web-1").status == "critical"


async def test_the_first_output_is_told_at_once(host: Host, other: Host) -> None:
    await put(host, checks=(TCP,))
    assert check_of(host, "tcp").status == "critical"
    host.engine.services.report("web-1", "tcp", CRITICAL)
    assert other.engine.services.find("web-1").checks[0].output == "refused"


async def test_a_ttl_check_without_a_word_is_critical(host: Host) -> None:
    beat = CheckSpec(kind="ttl", id="beat", ttl_s=2)
    await put(host, checks=(beat,))
    own = host.engine.services._own
    host.engine.services.report("web-1", "beat", PASSING)
    host.clock.now_s += 1.9
    host.engine.services.report("web-1", "beat", PASSING)
    host.clock.now_s += 1.9
    own.ring_due()
    assert status(host) == "passing"
    host.clock.now_s += 0.2
    own.ring_due()
    assert status(host) == "critical"
    assert check_of(host, "beat").output == "no word for 2 s"
    await host.happened("service.critical", "beat: no word for 2 s")
    host.engine.services.report("web-1", "beat", PASSING)
    assert status(host) == "passing"


async def test_many_checks_are_told_at_once(host: Host) -> None:
    beat = CheckSpec(kind="ttl", id="beat", ttl_s=2, status="passing")
    await put(host, checks=(beat, CheckSpec(kind="alias", id="other", target="web-9")))
    revision = host.engine._parts.feed.revision
    host.clock.now_s += 1.9
    reports = [
        CheckReport(service="web-1", check="beat", status="passing"),
        CheckReport(service="web-9", check="beat", status="passing"),
        CheckReport(service="web-1", check="none", status="passing"),
        CheckReport(service="web-1", check="other", status="passing"),
    ]
    faults = host.engine.services.report_all(reports)
    assert [(fault.service, fault.check, fault.code) for fault in faults] == [
        ("web-9", "beat", "not-found"),
        ("web-1", "none", "not-found"),
        ("web-1", "other", "conflict"),
    ]
    assert "web-9" in faults[0].detail
    host.clock.now_s += 1.9
    host.engine.services._own.ring_due()
    assert check_of(host, "beat").status == "passing"
    assert host.engine._parts.feed.revision == revision, "what changes nothing is told to nobody"
    host.clock.now_s += 0.2
    host.engine.services._own.ring_due()
    assert check_of(host, "beat").status == "critical"
    host.engine.services.report_all(reports[:1])
    assert check_of(host, "beat").status == "passing"


async def test_what_a_told_check_was_told_holds(host: Host) -> None:
    paper = CheckSpec(kind="told", id="paper", ttl_s=2, deregister_after_s=60)
    await put(host, checks=(paper,))
    assert status(host) == "critical"
    host.engine.services.report("web-1", "paper", PASSING)
    await stored(host)
    host.clock.now_s += 86_400 * 30
    host.engine.services._own.ring_due()
    assert status(host) == "passing"
    await host.restart()
    host.clock.now_s += 86_400 * 30
    host.engine.services._own.ring_due()
    assert status(host) == "passing"
    host.engine.services.report("web-1", "paper", CheckResult(status="critical"))
    host.clock.now_s += 61
    host.engine.services._own.ring_due()
    assert ids(host) == []


async def test_registering_again_does_not_wind_a_ttl_check_up(host: Host) -> None:
    beat = CheckSpec(kind="ttl", id="beat", ttl_s=2, status="passing")
    await put(host, checks=(beat,))
    host.clock.now_s += 1.5
    await put(host, port=81, checks=(beat,))
    host.clock.now_s += 1
    host.engine.services._own.ring_due()
    assert status(host) == "critical"


async def test_a_check_that_is_gone_rings_no_more(host: Host) -> None:
    beat = CheckSpec(kind="ttl", id="beat", ttl_s=2, status="passing", deregister_after_s=60)
    await put(host, checks=(beat,))
    await put(host, checks=(CheckSpec(kind="tcp", id="beat", status="passing"),))
    host.clock.now_s += 100
    host.engine.services._own.ring_due()
    assert status(host) == "passing"
    await put(host, checks=(beat,))
    await host.engine.services.delete("web-1")
    host.clock.now_s += 100
    host.engine.services._own.ring_due()
    assert ids(host) == []


async def test_an_instance_that_is_critical_for_long_goes(host: Host) -> None:
    await put(host, checks=(replace(TCP, deregister_after_s=60),))
    own = host.engine.services._own
    host.clock.now_s += 59
    host.engine.services.report("web-1", "tcp", WARNING)
    host.clock.now_s += 2
    own.ring_due()
    assert ids(host) == ["web-1"]
    host.engine.services.report("web-1", "tcp", CRITICAL)
    host.clock.now_s += 59
    host.engine.services.report("web-1", "tcp", CRITICAL)  # still the same time
    own.ring_due()
    assert ids(host) == ["web-1"]
    host.clock.now_s += 1
    own.ring_due()
    assert ids(host) == await stored(host) == []
    await host.happened("service.deregistered", "check tcp was critical for 60 s")


async def test_an_alias_is_as_its_target(host: Host) -> None:
    alias = CheckSpec(kind="alias", target="db-1")
    await put(host, "web-1", checks=(alias,))
    assert status(host) == "critical"
    assert check_of(host, "alias").output == "this host has no instance db-1"
    await put(host, "front-1", name="front", checks=(replace(alias, target="web-1"),))
    await put(host, "db-1", name="db", checks=(TCP,))
    assert check_of(host, "alias").output == "db-1 is critical"
    host.engine.services.report("db-1", "tcp", WARNING)
    assert [status(host, ident) for ident in ("db-1", "web-1", "front-1")] == ["warning"] * 3
    host.engine.services.report("db-1", "tcp", PASSING)
    assert [status(host, ident) for ident in ("db-1", "web-1", "front-1")] == ["passing"] * 3
    await host.engine.services.delete("db-1")
    assert [status(host, ident) for ident in ("web-1", "front-1")] == ["critical"] * 2


async def test_an_alias_of_a_container_tells_only_of_what_the_container_sees(host: Host) -> None:
    for number, network in enumerate(("blue", "red", "green")):
        await host.network(network, subnets=(f"10.{20 + number}.0.0/24",))
    mine = await host.attach("blue", "c1")
    await host.attach("red", "c1", ifname="eth1")
    alias = CheckSpec(kind="alias", target="db-1")
    await put(host, "web-1", endpoint=mine.id, checks=(alias,))
    unknown = check_of(host, "alias")
    assert (unknown.status, unknown.output) == (
        "critical",
        "its container sees no instance db-1 of this host",
    )
    for network, seen in (("green", False), ("red", True), ("blue", True), ("", True)):
        await put(host, "db-1", name="db", address="198.51.100.7", network=network or None)
        assert host.engine.services.find("db-1").network == network
        assert (check_of(host, "alias").status == "passing") is seen, network
        assert (check_of(host, "alias") == unknown) is not seen
        await host.engine.services.delete("db-1")
    # The host's own tell of all.
    await put(host, "db-1", name="db", address="198.51.100.7", network="green")
    await put(host, "web-2", checks=(alias,))
    assert status(host, "web-2") == "passing"


async def test_aliases_in_a_circle_are_refused(host: Host) -> None:
    await put(host, "a", checks=(CheckSpec(kind="alias", target="b"),))
    await put(host, "b", checks=(CheckSpec(kind="alias", target="c"),))
    with pytest.raises(Invalid, match="leads back"):
        await put(host, "c", checks=(CheckSpec(kind="alias", target="a"),))


async def test_a_long_chain_of_aliases(host: Host) -> None:
    await put(host, "i0", checks=(TCP,))
    for number in range(1, 400):
        await put(host, f"i{number}", checks=(CheckSpec(kind="alias", target=f"i{number - 1}"),))
    host.engine.services.report("i0", "tcp", PASSING)
    assert status(host, "i399") == "passing"


async def test_scripts_run_where_they_are_allowed(
    new_host: Callable[[], Host],
) -> None:
    host = new_host()
    host.settings = replace(host.settings, script_checks=True)
    await host.start()
    script = CheckSpec(kind="script", args=("/bin/true",))
    assert (await put(host, checks=(script,))).checks[0].kind == "script"
    for args in ((), ("",), ("a\0b",), ("a",) * 65):
        with pytest.raises(Invalid) as caught:
            await put(host, "web-2", checks=(replace(script, args=args),))
        assert caught.value.field == "checks[0].args"


# Maintenance


async def test_an_instance_in_maintenance_is_critical_whatever_checks_say(host: Host) -> None:
    await put(host, checks=(replace(TCP, status="passing"),))
    service = await host.engine.services.maintain("web-1", Maintenance(enable=True, reason="disk"))
    assert service.status == "critical"
    assert (service.checks[-1].kind, service.checks[-1].output) == ("maintenance", "disk")
    host.engine.services.report("web-1", "tcp", PASSING)
    assert status(host) == "critical"
    with pytest.raises(Conflict):
        host.engine.services.report("web-1", "maintenance", PASSING)
    # Registering again does not end it.
    assert (await put(host, port=81)).status == "critical"
    await host.restart()
    assert status(host) == "critical"
    service = await host.engine.services.maintain("web-1", Maintenance(enable=False))
    assert (service.status, service.checks) == ("passing", ())
    with pytest.raises(NotFound):
        await host.engine.services.maintain("no", Maintenance(enable=True))


async def test_what_a_check_finds_while_maintenance_is_stored_counts(host: Host) -> None:
    await put(host, checks=(replace(TCP, status="passing"),))
    await host.engine.services.maintain("web-1", Maintenance(enable=True))
    gate = host.store.gate = Gate()
    ending = asyncio.create_task(host.engine.services.maintain("web-1", Maintenance(enable=False)))
    await gate.reached.wait()
    host.engine.services.report("web-1", "tcp", CRITICAL)
    gate.opened.set()
    assert (await ending).status == "critical"
    assert check_of(host, "tcp").output == "refused"
    await host.restart()
    assert status(host) == "critical"


async def test_maintenance_that_is_on_already_stays_as_it_is(host: Host) -> None:
    await put(host)
    first = await host.engine.services.maintain("web-1", Maintenance(enable=True))
    host.forget_events()
    host.clock.now_s += 10
    assert await host.engine.services.maintain("web-1", Maintenance(enable=True)) == first
    assert host.seen == []


# Over a restart


async def test_instances_are_there_after_a_restart_with_what_checks_had_found(host: Host) -> None:
    pid = host.kernel.processes.start()
    await host.network("blue")
    labels = {"netd.service": "api:90"}
    endpoint = await host.attach("blue", "c1", labels=labels)
    await put(host, "web-1", pid=pid, endpoint=endpoint.id, checks=(TCP,), tags=("v1",))
    await put(host, "web-2", address="198.51.100.1")
    await host.engine.services.maintain(f"api-{endpoint.id}", Maintenance(enable=True))
    host.engine.services.report("web-1", "tcp", PASSING)
    assert len(await stored(host)) == 3
    before = host.engine.services.all()
    await host.restart()
    assert host.engine.services.all() == before
    assert not any(event.type.startswith("service.") for event in host.seen)
    host.kernel.processes.end(pid)
    await host.happened("service.deregistered", about="web-1")


async def test_what_ended_while_the_daemon_was_away_is_gone(host: Host) -> None:
    await host.network("blue")
    gone, kept = await host.attach("blue", "c1"), await host.attach("blue", "c2")
    ended, reused = host.kernel.processes.start(), host.kernel.processes.start()
    await put(host, "of-process", pid=ended)
    await put(host, "of-reused-pid", pid=reused)
    await put(host, "of-endpoint", endpoint=gone.id)
    await put(host, "of-live-endpoint", endpoint=kept.id)
    await put(host, "of-nothing")
    await host.stop()
    host.kernel.process_ended()
    host.kernel.processes.end(ended)
    host.kernel.processes.end(reused)
    host.kernel.processes.start(reused)
    box = host.kernel.places["/run/netns/c1"]
    assert isinstance(box, Sandbox)
    host.kernel.by_hand.end_namespace(box)
    await host.start()
    left = ["of-live-endpoint", "of-nothing"]
    assert ids(host) == left
    assert await stored(host) == left


async def test_after_a_reboot_those_that_go_with_something_are_gone(host: Host) -> None:
    await host.network("blue")
    endpoint = await host.attach("blue", "c1", labels={"netd.service": "api:90"})
    pid = host.kernel.processes.start()
    await put(host, "of-process", pid=pid)
    await put(host, "of-endpoint", endpoint=endpoint.id)
    await put(host, "of-nothing")
    await host.stop()
    host.power_cycle()
    host.kernel.processes.start(pid)  # the first one of that boot, as it was in the last
    await host.start()
    assert ids(host) == await stored(host) == ["of-nothing"]


async def test_a_ttl_check_has_its_time_again_after_a_restart(host: Host) -> None:
    await put(host, checks=(CheckSpec(kind="ttl", id="beat", ttl_s=5),))
    host.engine.services.report("web-1", "beat", PASSING)
    await stored(host)
    await host.stop()
    host.clock.now_s += 60
    host.kernel.process_ended()
    await host.start()
    assert status(host) == "passing"
    host.clock.now_s += 5
    host.engine.services._own.ring_due()
    assert status(host) == "critical"


async def test_the_host_has_another_address_or_name_after_a_restart(host: Host) -> None:
    await put(host)
    await host.stop()
    host.settings = replace(host.settings, node="renamed")
    host.kernel.by_hand.add_address("eth0", "192.0.2.11/24")
    host.kernel.by_hand.delete_address("eth0", "192.0.2.10/24")
    host.kernel.process_ended()
    await host.start()
    service = host.engine.services.find("web-1")
    assert (service.address, service.node) == ("192.0.2.11", "renamed")


async def test_what_happens_while_the_disk_is_full_is_stored_later(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.engine.services.keeper.RETRY_S", 0.01)
    await put(host, checks=(TCP,))
    host.store.full = True
    host.engine.services.report("web-1", "tcp", PASSING)
    await asyncio.sleep(0.02)
    assert host.engine.services.levels()["services_to_store"] == 1
    host.store.full = False
    await stored(host)
    assert (await host.store.load()).services[0].service.status == "passing"


# In a cluster


async def test_all_hosts_see_an_instance_and_its_owner_alone_changes_it(
    host: Host, other: Host
) -> None:
    mine = await put(host, checks=(TCP,))
    seen = other.engine.services.find("web-1")
    assert (seen.node, seen.address, seen.status) == ("node-1", mine.address, "critical")
    assert seen.checks[0].spec is None
    changes = [
        other.engine.services.put("web-1", spec()),
        other.engine.services.delete("web-1"),
        other.engine.services.maintain("web-1", Maintenance(enable=True)),
    ]
    for change in changes:
        with pytest.raises(Conflict, match="node-1"):
            await change
    with pytest.raises(Conflict, match="node-1"):
        other.engine.services.report("web-1", "tcp", PASSING)
    host.engine.services.report("web-1", "tcp", PASSING)
    assert other.engine.services.find("web-1").status == "passing"
    assert [s.id for s in other.engine.services.all(node="node-1")] == ["web-1"]
    await host.engine.services.delete("web-1")
    assert ids(other) == []


async def test_instances_of_a_host_that_died_are_not_shown(host: Host, other: Host) -> None:
    await put(host)
    host.mesh.cut(host.cluster, other.cluster)
    assert ids(other) == []
    assert ids(host) == ["web-1"]
    host.mesh.heal(host.cluster, other.cluster)
    assert ids(other) == ["web-1"]


async def test_who_has_a_hidden_instance_is_told(tmp_path: Path) -> None:
    mesh = Mesh()
    first = Host(tmp_path / "1", mesh)
    second = Host(tmp_path / "2", mesh, node="node-2", node_id="6" * 32)
    await first.start()
    await second.start()
    await put(first)
    second.clock.now_s += 1
    await put(second)
    await second.cluster.join([first.cluster.address], None)
    for one in (first, second):
        assert one.engine.services.find("web-1").node == "node-1"
    assert first.engine.services.find("web-1").conditions == ()
    (condition,) = second.engine.services.find("web-1").conditions
    assert condition.code == "service-hidden"
    assert "node-1" in condition.detail
    findings = [f for f in await second.engine.doctor() if f.check == "conditions"]
    assert [finding.level for finding in findings] == ["error"]
    assert findings[0].detail.startswith("service web: service-hidden: ")
    await second.engine.services.delete("web-1")
    assert second.engine.services.find("web-1").conditions == ()
    await second.stop()
    await first.stop()


async def test_what_is_counted(host: Host) -> None:
    pid = host.kernel.processes.start()
    await put(host, "web-1", checks=(TCP,))
    await put(host, "web-2", pid=pid)
    host.engine.services.report("web-1", "tcp", PASSING)
    host.kernel.processes.end(pid)
    await asyncio.sleep(0)
    counters, levels = host.engine.counters(), host.engine.levels()
    assert counters["services_registered"] == 2
    assert counters["services_deregistered"] == counters["services_ended"] == 1
    assert counters["service_check_results"] == 1
    assert counters["service_records_ignored"] == 0
    assert levels["services"] == levels["services_of_this_host"] == 1
