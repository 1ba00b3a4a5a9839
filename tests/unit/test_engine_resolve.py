"""Names of endpoints: who may see which, and what they lead to."""

import pytest

from netd.model.directory import RegistryReport
from netd.model.endpoint import EndpointPatch
from netd.model.errors import Invalid
from netd.model.service import ServiceSpec
from tests.unit.engine_fixture import Host


@pytest.fixture(autouse=True)
async def _two_networks(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24", "fd20::/64"))
    await host.network("red", subnets=("10.30.0.0/24",))
    await host.attach("blue", "web", aliases=("www", "API"))
    await host.attach("red", "web", ifname="eth1")
    await host.attach("red", "db")


def data(host: Host, name: str, kind: str = "A", source: str | None = None) -> list[str]:
    resolution = host.engine.resolve(name, kind, source)
    return [record.data for record in resolution.records]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.blue.netd.internal", "A", ["10.20.0.2"]),
        ("web.blue.netd.internal.", "aaaa", ["fd20::2"]),
        ("WEB.Blue.netd.internal", "A", ["10.20.0.2"]),
        ("web.blue", "A", ["10.20.0.2"]),
        ("www.blue", "A", ["10.20.0.2"]),
        ("api.blue", "A", ["10.20.0.2"]),
        ("web", "A", ["10.20.0.2", "10.30.0.2"]),
        ("db", "A", ["10.30.0.3"]),
        ("node-1.node.netd.internal", "A", ["192.0.2.10"]),
        ("10.20.0.2", "PTR", ["web.blue.netd.internal."]),
        ("2.0.30.10.in-addr.arpa", "PTR", ["web.red.netd.internal."]),
        ("fd20::2", "PTR", ["web.blue.netd.internal."]),
    ],
)
def test_the_host_sees_all(host: Host, name: str, kind: str, expected: list[str]) -> None:
    assert data(host, name, kind) == expected
    assert host.engine.resolve(name, kind, None).rcode == "NOERROR"


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        ("10.20.0.2", "web", ["10.20.0.2"]),
        ("10.30.0.3", "web", ["10.30.0.2"]),
        ("10.30.0.3", "web.red", ["10.30.0.2"]),
        ("10.30.0.3", "web.blue", []),
        ("10.30.0.3", "web.blue.netd.internal", []),
        ("10.30.0.3", "node-1.node.netd.internal", ["192.0.2.10"]),
        ("fd20:0::2", "web", ["10.20.0.2"]),
        ("10.99.0.1", "web", []),
    ],
)
def test_a_container_sees_its_own_networks(
    host: Host, source: str, name: str, expected: list[str]
) -> None:
    assert data(host, name, "A", source) == expected


def test_a_name_without_such_a_record_is_no_error(host: Host) -> None:
    answer = host.engine.resolve("db.red", "AAAA", None)
    assert (answer.rcode, answer.records) == ("NOERROR", ())


def test_an_unknown_name(host: Host) -> None:
    assert host.engine.resolve("nobody.blue", "A", None).rcode == "NXDOMAIN"
    assert host.engine.resolve("web.blue.netd.internal", "A", "10.30.0.3").rcode == "NXDOMAIN"


@pytest.mark.parametrize(
    ("name", "kind", "source", "field"),
    [
        ("web", "MX", None, "type"),
        ("web", "A", "nonsense", "from"),
        ("", "A", None, "name"),
        (".", "A", None, "name"),
    ],
)
def test_a_question_that_makes_no_sense(
    host: Host, name: str, kind: str, source: str | None, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        host.engine.resolve(name, kind, source)
    assert caught.value.field == field


async def test_two_endpoints_of_one_name(host: Host) -> None:
    first = await host.attach("blue", "a", name="pool")
    second = await host.attach("blue", "b", name="pool")
    assert data(host, "pool.blue") == ["10.20.0.3", "10.20.0.4"]
    await host.engine.detach(first.id)
    assert data(host, "pool.blue") == ["10.20.0.4"]
    await host.engine.detach(second.id)
    assert host.engine.resolve("pool.blue", "A", None).rcode == "NXDOMAIN"


async def test_aliases_change_live(host: Host) -> None:
    web = host.engine.endpoints(network="blue")[0]
    await host.engine.update_endpoint(web.id, EndpointPatch(aliases=("shop",)))
    assert data(host, "shop.blue") == ["10.20.0.2"]
    assert data(host, "www.blue") == []


async def test_names_are_there_again_after_a_restart(host: Host) -> None:
    await host.restart()
    assert data(host, "www.blue") == ["10.20.0.2"]
    await host.killed()
    await host.start()
    assert data(host, "web") == ["10.20.0.2", "10.30.0.2"]


async def test_a_long_id_is_cut_to_a_name(host: Host) -> None:
    endpoint = await host.attach("blue", "0123456789abcdef" * 4)
    assert endpoint.name == "0123456789ab"
    assert (await host.attach("blue", "not:a.label")).name == ""


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("node-1.node.netd.internal", "TXT", []),
        ("netd.internal", "NS", ["node-1.node.netd.internal."]),
        ("web.blue", "any", ["10.20.0.2"]),
        ("node-1.node", "A", ["192.0.2.10"]),
        ("node-1.node.consul", "A", ["192.0.2.10"]),
        ("localhost", "AAAA", ["::1"]),
    ],
)
def test_other_names_and_types(host: Host, name: str, kind: str, expected: list[str]) -> None:
    assert data(host, name, kind) == expected


@pytest.mark.parametrize("name", ["example.com", "nobody.example", "8.8.8.8.in-addr.arpa"])
def test_a_name_that_is_not_netds_is_refused(host: Host, name: str) -> None:
    for source in (None, "10.20.0.2", "10.99.0.1"):
        assert host.engine.resolve(name, "A", source).rcode == "REFUSED"


def test_an_answer_is_explained(host: Host) -> None:
    trace = host.engine.trace("db", "A", "10.30.0.2")
    assert (trace.rcode, [record.data for record in trace.records]) == ("NOERROR", ["10.30.0.3"])
    assert trace.networks == ("blue", "red")  # all that the container is on
    assert trace.steps == (
        "10.30.0.2 sees the names of blue, red",
        "db is an endpoint of red",
    )
    unknown = host.engine.trace("nobody.blue.netd.internal", "A", "10.30.0.3")
    assert (unknown.rcode, unknown.networks) == ("NXDOMAIN", ("red",))
    assert [record.type for record in unknown.authority] == ["SOA"]
    everything = host.engine.trace("web.blue", "AAAA", None)
    assert everything.networks is None
    assert everything.steps[0] == "this host sees all names"


def test_a_name_that_others_are_asked_for_is_explained(host: Host) -> None:
    host.engine.take_report(
        RegistryReport(revision=1, pid=1, upstreams=("192.0.2.53", "192.0.2.54"))
    )
    trace = host.engine.trace("example.com", "A", "10.20.0.2")
    assert (trace.rcode, trace.records) == ("FORWARD", ())
    assert trace.steps[-1] == "the registry asks 192.0.2.53, 192.0.2.54"
    stranger = host.engine.trace("example.com", "A", "203.0.113.7")
    assert stranger.rcode == "REFUSED"
    assert stranger.steps[0] == (
        "203.0.113.7 is on no network of netd's: it sees services and hosts only"
    )


async def test_services_are_found(host: Host) -> None:
    web = host.engine.endpoints(network="blue")[0]
    await host.engine.services.put("w1", ServiceSpec(name="shop", endpoint=web.id, port=80))
    assert data(host, "shop.service.netd.internal", "SRV", "10.20.0.2") == [
        "1 1 80 web.blue.netd.internal."
    ]
    assert data(host, "shop", "A", "10.30.0.3") == []
    await host.engine.services.delete("w1")
    assert host.engine.resolve("shop", "A", "10.20.0.2").rcode == "NXDOMAIN"
