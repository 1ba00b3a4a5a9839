"""Use case `explain` on kernels in memory: what somebody breaks there is what is named."""

import asyncio
from collections.abc import Callable

import pytest

from netd.model.endpoint import Endpoint, PortMapping, Sandbox
from netd.model.errors import Unavailable
from netd.model.explanation import Explanation, Step
from netd.plan.objects import HOST
from netd.plan.tunnels import FdbEntry
from tests.unit.engine_fixture import Host
from tests.unit.test_engine_overlay import bare, hosts, overlay, settled

__all__ = ["hosts"]

OUTSIDE = "198.51.100.7"


async def asked(host: Host, source: str, destination: str, port: int | None = None) -> Explanation:
    return await host.engine.explain(source, destination, "tcp", port)


def failed(answer: Explanation) -> Step:
    assert answer.result == "failed", answer
    (step,) = (step for step in answer.steps if step.status == "failed")
    assert step.name == answer.failed
    assert step.remedy
    return step


# On one host


async def two_on_blue(host: Host) -> tuple[Endpoint, Endpoint]:
    await host.network("blue", subnets=("10.20.0.0/24", "fd20::/64"))
    web, db = await host.attach("blue", "web"), await host.attach("blue", "db")
    await host.quiet()
    host.kernel.events = "silent"  # what is broken from here on stays broken
    return web, db


async def test_between_two_containers_of_one_network(host: Host) -> None:
    _, db = await two_on_blue(host)
    for ref in ("db", "db.blue", db.id, *bare(db.addresses)):
        answer = await asked(host, "web", ref, 5432)
        assert (answer.result, answer.node) == ("ok", "node-1"), answer
        assert [step.status for step in answer.steps[:4]] == ["ok"] * 4
        assert {step.status for step in answer.steps[4:8]} == {"skipped"}
        assert answer.steps[8].detail.startswith("eth0 of db is up with")


@pytest.mark.parametrize(
    ("breaks", "step"),
    [
        (lambda host, web, db: host.kernel.by_hand.delete_link(web.host_ifname), "source"),
        (lambda host, web, db: host.kernel.by_hand.set_link(web.host_ifname, up=False), "source"),
        (lambda host, web, db: host.kernel.by_hand.set_link(web.host_ifname, master=""), "source"),
        (lambda host, web, db: host.kernel.by_hand.delete_link("nd-blue"), "source"),
        (
            lambda host, web, db: host.kernel.by_hand.delete_address(
                "eth0", web.addresses[0], ns_of(host, "web")
            ),
            "source",
        ),
        (lambda host, web, db: host.kernel.by_hand.end_namespace(box(host, "web")), "source"),
        (lambda host, web, db: host.kernel.by_hand.delete_link(db.host_ifname), "destination"),
        (
            lambda host, web, db: host.kernel.by_hand.set_link("eth0", ns_of(host, "db"), up=False),
            "destination",
        ),
        (lambda host, web, db: host.kernel.by_hand.end_namespace(box(host, "db")), "destination"),
    ],
)
async def test_what_breaks_between_two_containers(
    host: Host, breaks: Callable[[Host, Endpoint, Endpoint], None], step: str
) -> None:
    web, db = await two_on_blue(host)
    breaks(host, web, db)
    answer = await asked(host, "web", "db")
    assert failed(answer).name == step


def box(host: Host, container: str) -> Sandbox:
    found = host.kernel.places[f"/run/netns/{container}"]
    assert isinstance(found, Sandbox)
    return found


def ns_of(host: Host, container: str) -> str:
    return box(host, container).key


@pytest.mark.parametrize(
    ("breaks", "step"),
    [
        (lambda host: host.kernel.by_hand.flush_ruleset(), "policy"),
        (
            lambda host: host.kernel.by_hand.delete_route("0.0.0.0/0", "eth0", ns_of(host, "web")),
            "route",
        ),
        (lambda host: host.kernel.by_hand.set_sysctl("net/ipv4/ip_forward", "0"), "route"),
        (lambda host: host.kernel.by_hand.delete_address("nd-blue", "10.20.0.1/24"), "route"),
        (lambda host: host.kernel.by_hand.delete_route("0.0.0.0/0", "eth0"), "route"),
    ],
)
async def test_what_breaks_on_the_way_outside(
    host: Host, breaks: Callable[[Host], None], step: str
) -> None:
    await two_on_blue(host)
    assert (await asked(host, "web", OUTSIDE)).result == "ok"
    breaks(host)
    assert failed(await asked(host, "web", OUTSIDE)).name == step


async def test_a_published_port(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    await host.network("red", subnets=("10.30.0.0/24",))
    port = PortMapping(host_port=8080, container_port=80)
    await host.attach("blue", "web", ports=(port,))
    await host.attach("red", "client")
    for source in ("client", OUTSIDE):
        answer = await asked(host, source, "192.0.2.10", 8080)
        assert answer.result == "ok", answer
        assert "port 8080 of the host leads to web at 10.20.0.2:80" in answer.steps[1].detail
    assert failed(await asked(host, "client", "10.20.0.2", 80)).name == "policy"
    assert failed(await asked(host, "client", "web")).name == "name"


async def test_the_host_and_endpoints_in_host_mode(host: Host) -> None:
    await two_on_blue(host)
    await host.network("shared", "host")
    await host.attach("shared", "proxy", netns="/proc/self/ns/net")
    for one, other in (("host", "web"), ("proxy", "web"), ("web", "proxy"), ("web", "node-1")):
        answer = await asked(host, one, other)
        assert answer.result == "ok", answer


async def test_a_second_network_answers_by_itself(host: Host) -> None:
    """What arrives by a network that has not the default route is answered by rules."""
    await host.network("blue", subnets=("10.20.0.0/24",))
    await host.network("red", subnets=("10.30.0.0/24",))
    await host.attach("blue", "web")
    port = PortMapping(host_port=8080, container_port=80)
    await host.attach("red", "web", ifname="eth1", ports=(port,))
    assert (await asked(host, OUTSIDE, "host", 8080)).result == "ok"
    host.kernel.events = "silent"
    (rule,) = (key for key in host.kernel.simulation.objects if key[1] == "rule")
    host.kernel.by_hand.delete_rule(rule[2], int(rule[3]), rule[0])
    found = failed(await asked(host, OUTSIDE, "host", 8080))
    assert found.name == "return"
    assert "web sends 198.51.100.7 by eth0, not by eth1" in found.detail


async def test_somebody_has_put_something_else_in_the_place(host: Host) -> None:
    await two_on_blue(host)
    host.kernel.by_hand.delete_link("nd-blue")
    host.kernel.by_hand.add_link("nd-blue", kind="dummy")
    found = failed(await asked(host, "web", "db"))
    assert found.name == "source"
    assert "something that is not netd's is in the place of link nd-blue" in found.detail


# Across hosts


async def two_hosts(hosts: list[Host]) -> tuple[Host, Host, Endpoint, Endpoint]:
    one, two, _ = hosts
    await overlay(one)
    web, db = await one.attach("blue", "web"), await two.attach("blue", "db")
    await settled(hosts)
    for host, other in ((one, two), (two, one)):
        host.kernel.events = "silent"
        for vtep in other.engine._overlays.openings.told.values():
            host.kernel.echoes.update(dict.fromkeys(bare(vtep.addresses), 1450))
        host.kernel.echoes[other.cluster.address.partition(":")[0]] = 1500
    return one, two, web, db


async def test_across_hosts_all_is_well(hosts: list[Host]) -> None:
    one, two, _, db = await two_hosts(hosts)
    for source, destination in (
        ("web", "db"),
        ("web", "db.blue"),
        ("web", bare(db.addresses)[1]),
        ("host", "db"),
    ):
        answer = await asked(one, source, destination)
        assert (answer.result, answer.node) == ("ok", "node-1"), answer
        assert "skipped" not in {step.status for step in answer.steps}
        assert "node-2 says: eth0 of db is up" in answer.steps[8].detail
        assert "full packets pass" in answer.steps[7].detail
    assert (await asked(two, "db", "web")).result == "ok"


@pytest.mark.parametrize(
    ("breaks", "step", "where"),
    [
        (
            lambda one, two, web, db: one.kernel.by_hand.delete_neighbour(
                "nd-blue", bare(db.addresses)[0]
            ),
            "neighbour",
            "",
        ),
        (lambda one, two, web, db: one.kernel.by_hand.delete_link("nx-blue"), "tunnel", ""),
        (
            lambda one, two, web, db: one.kernel.by_hand.set_link("nx-blue", mtu=1300),
            "tunnel",
            "",
        ),
        (
            lambda one, two, web, db: one.kernel.by_hand.delete_fdb_half(
                "link", entry(one, db.mac)
            ),
            "forwarding",
            "",
        ),
        (
            lambda one, two, web, db: one.kernel.by_hand.set_fdb_entry(
                "nx-blue", db.mac, "192.0.2.99"
            ),
            "forwarding",
            "",
        ),
        (
            lambda one, two, web, db: one.kernel.by_hand.delete_route("0.0.0.0/0", "eth0"),
            "underlay",
            "",
        ),
        (lambda one, two, web, db: one.kernel.by_hand.set_link("eth0", mtu=1400), "underlay", ""),
        (lambda one, two, web, db: block_tunnel(one), "underlay", "node-2 answers, but not"),
        (
            lambda one, two, web, db: one.kernel.echoes.update(
                dict.fromkeys(one.kernel.echoes, 1400)
            ),
            "underlay",
            "",
        ),
        (
            lambda one, two, web, db: two.kernel.by_hand.delete_link(db.host_ifname),
            "destination",
            "node-2 says: missing",
        ),
        (
            lambda one, two, web, db: two.kernel.by_hand.end_namespace(box(two, "db")),
            "destination",
            "node-2 says: the network namespace of db",
        ),
        (
            lambda one, two, web, db: two.kernel.by_hand.delete_fdb_half(
                "link", entry(two, web.mac)
            ),
            "return",
            "node-2 says of the way back: forwarding",
        ),
        (
            lambda one, two, web, db: two.kernel.by_hand.delete_link("nx-blue"),
            "return",
            "node-2 says of the way back: tunnel",
        ),
    ],
)
async def test_what_breaks_across_hosts(
    hosts: list[Host],
    breaks: Callable[[Host, Host, Endpoint, Endpoint], None],
    step: str,
    where: str,
) -> None:
    one, two, web, db = await two_hosts(hosts)
    breaks(one, two, web, db)
    found = failed(await asked(one, "web", "db"))
    assert found.name == step, found
    assert found.detail.startswith(where)


def block_tunnel(host: Host) -> None:
    for address in [text for text, size in host.kernel.echoes.items() if size == 1450]:
        del host.kernel.echoes[address]


def entry(host: Host, mac: str) -> FdbEntry:
    found = host.kernel.simulation.objects[(HOST, "fdb", "nx-blue", mac)]
    assert isinstance(found, FdbEntry)
    return found


async def test_the_sources_host_explains_the_way(hosts: list[Host]) -> None:
    one, two, _, db = await two_hosts(hosts)
    answer = await asked(one, "db", "web")
    assert (answer.result, answer.node) == ("ok", "node-2")
    assert (answer.source, answer.destination) == ("db", "web")
    two.kernel.by_hand.set_link(db.host_ifname, up=False)
    assert failed(await asked(one, "db", "web")).name == "source"


async def test_hosts_that_do_not_answer_are_named(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _, _, _ = await two_hosts(hosts)

    async def silence(*_: object) -> bytes:
        raise Unavailable("no answer within 5 s")

    monkeypatch.setattr(one.cluster, "ask", silence)
    answer = await asked(one, "web", "db")
    assert answer.result == "unknown"
    assert answer.steps[8].detail == "node-2 could not be asked: no answer within 5 s"
    answer = await asked(one, "db", "web")
    assert answer.result == "unknown"
    assert answer.steps[-1].detail == (
        "node-2, where db is, could not be asked: no answer within 5 s"
    )


@pytest.mark.parametrize("said", [b"", b"{", b'{"from": 1}', b"[" * 100_000])
async def test_nonsense_of_other_hosts_does_not_matter(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    one, _, _, _ = await two_hosts(hosts)

    async def nonsense(*_: object) -> bytes:
        return said

    monkeypatch.setattr(one.cluster, "ask", nonsense)
    answer = await asked(one, "web", "db")
    assert answer.steps[8].detail == "node-2 could not be asked: its answer cannot be read"


async def test_what_is_on_a_dead_host(hosts: list[Host]) -> None:
    """Its endpoints are known a moment longer: then it is known that it had them."""
    one, two, _, lost = await two_hosts(hosts)
    one.kernel.echoes.clear()
    two.cluster.becomes("dead")
    found = failed(await asked(one, "web", "db"))
    async with asyncio.timeout(10):
        while found.name != "name":
            assert found.name == "underlay"
            assert found.detail.startswith("node-2 is dead since")
            found = failed(await asked(one, "web", "db"))
    address = lost.addresses[0].partition("/")[0]
    for ref in ("db", lost.id, address):
        found = failed(await asked(one, "web", ref))
        assert "; node-2, which is dead since" in found.detail
        assert f", had db on blue at {address}" in found.detail
    found = failed(await asked(one, "web", "somebody"))
    assert found.detail.endswith("; dead are node-2, and what was on them is not known")
    two.cluster.becomes("alive")
    await asyncio.sleep(0)
    assert (await asked(one, "web", "db")).steps[0].status == "ok"
    two.cluster.becomes("dead")
    await asyncio.sleep(0)
    two.cluster.becomes("left")
    await asyncio.sleep(0)
    assert "node-2" not in failed(await asked(one, "web", "db")).detail


async def test_the_topology(hosts: list[Host]) -> None:
    one, two, web, db = await two_hosts(hosts)
    await one.network("local", subnets=("10.30.0.0/24",))
    found = one.engine.topology()
    assert [(host.name, host.own) for host in found.hosts] == [
        ("node-1", True),
        ("node-2", False),
        ("node-3", False),
    ]
    assert [(network.name, network.hosts) for network in found.networks] == [
        ("blue", (one.node_id, two.node_id)),
        ("local", (one.node_id,)),
    ]
    assert [(end.id, end.host, end.addresses) for end in found.endpoints] == [
        (db.id, two.node_id, db.addresses),
        (web.id, one.node_id, web.addresses),
    ]
