"""Names of endpoints: who may see which, and what they lead to."""

import pytest

from netd.model.endpoint import EndpointPatch
from netd.model.errors import Invalid
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
