"""Docker's driver on the kernel in memory, over its socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.model.endpoint import PortMapping
from netd.model.names import peer_name
from netd.plan.objects import HOST
from netd.runtimes.docker.translation import GENERIC, INTERNAL, PORT_MAP
from tests.unit.docker_lab import NETWORK_ID, FakeEngine, Refused
from tests.unit.engine_fixture import Host

BLUE = {"netd.network": "blue"}
WEB = {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}


OPTION = st.sampled_from([GENERIC, INTERNAL, PORT_MAP, "netd.name", "Proto", "Port", "HostPort"])


def publishing(*bindings: dict[str, Any]) -> dict[str, Any]:
    return {"com.docker.network.portmap": list(bindings)}


@pytest.fixture
async def docker(host: Host, tmp_path: Path) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(host, tmp_path)
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def blue(docker: FakeEngine) -> str:
    """The pool of a network that has joined netd's network `blue`."""
    await docker.host.network("blue", subnets=("10.20.0.0/24", "fd20::/64"))
    return await docker.create_network(options=BLUE)


async def test_activation(docker: FakeEngine) -> None:
    assert await docker.call("Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}
    assert (await docker.driver("GetCapabilities"))["Scope"] == "local"
    assert await docker.ipam("GetCapabilities") == {}
    spaces = await docker.ipam("GetDefaultAddressSpaces")
    assert spaces["LocalDefaultAddressSpace"] == spaces["GlobalDefaultAddressSpace"] == "netd"


@pytest.mark.parametrize(
    "name",
    ["AllocateNetwork", "FreeNetwork", "DiscoverNew", "DiscoverDelete"],
)
async def test_what_swarm_asks_is_answered(docker: FakeEngine, name: str) -> None:
    await docker.driver(name, NetworkID=NETWORK_ID, Options={}, DiscoveryType=1)


async def test_a_container_on_a_network_of_netd(docker: FakeEngine, blue: str) -> None:
    endpoint_id, interface, joined = await docker.run(blue)
    (endpoint,) = docker.host.engine.endpoints(network="blue")
    assert endpoint.container_id == endpoint_id
    assert interface == {
        "Address": "10.20.0.2/24",
        "AddressIPv6": "fd20::2/64",
        "MacAddress": endpoint.mac,
    }
    assert joined == {
        "InterfaceName": {"SrcName": peer_name(endpoint.id), "DstPrefix": "eth"},
        "Gateway": "10.20.0.1",
        "GatewayIPv6": "fd20::1",
        "DisableGatewayService": True,
    }
    assert (HOST, "link", peer_name(endpoint.id)) in docker.host.kernel.simulation.objects


async def test_nothing_is_left_of_it(docker: FakeEngine, blue: str) -> None:
    before = docker.host.text()
    endpoint_id, interface, _ = await docker.run(blue)
    await docker.remove(blue, endpoint_id, interface["Address"])
    assert docker.host.text() == before
    await docker.driver("DeleteNetwork", NetworkID=NETWORK_ID)
    assert docker.host.engine.notes.all("docker/") == {}
    assert docker.host.engine.network("blue").name == "blue"
    assert len(docker.host.engine.reservations) == 0


async def test_calls_that_come_again_or_out_of_order(docker: FakeEngine, blue: str) -> None:
    key = {"NetworkID": NETWORK_ID, "EndpointID": "e" * 64}
    await docker.driver("Leave", **key)
    await docker.driver("DeleteEndpoint", **key)
    await docker.driver("RevokeExternalConnectivity", **key)
    assert await docker.driver("EndpointOperInfo", **key) == {"Value": {}}
    with pytest.raises(Refused, match="there is no endpoint eeeeeeeeeeee"):
        await docker.driver("Join", **key)
    interface = {"Address": "10.20.0.7/24", "AddressIPv6": "", "MacAddress": ""}
    first = await docker.driver("CreateEndpoint", **key, Interface=interface, Options={})
    assert await docker.driver("CreateEndpoint", **key, Interface=interface, Options={}) == first
    assert await docker.driver("Join", **key) == await docker.driver("Join", **key)
    await docker.driver("DeleteEndpoint", **key)
    await docker.driver("DeleteEndpoint", **key)
    await docker.driver("DeleteNetwork", NetworkID=NETWORK_ID)
    await docker.driver("DeleteNetwork", NetworkID=NETWORK_ID)


async def test_an_endpoint_whose_link_is_gone_can_be_deleted(docker: FakeEngine, blue: str) -> None:
    endpoint_id, interface, _ = await docker.run(blue)
    (endpoint,) = docker.host.engine.endpoints()
    docker.host.kernel.simulation.delete((HOST, "link", endpoint.host_ifname))
    await docker.remove(blue, endpoint_id, interface["Address"])
    assert docker.host.engine.endpoints() == ()


async def test_a_network_of_its_own(docker: FakeEngine) -> None:
    before = docker.host.text()
    pool = await docker.create_network(ipv6=True, options={"netd.name": "red"})
    red = docker.host.engine.network("red")
    assert pool == f"offered:{red.subnets[0]}"
    assert (len(red.subnets), red.driver, red.internal) == (2, "bridge", False)
    await docker.run(pool)  # what the engine forgets to remove goes with the network
    await docker.driver("DeleteNetwork", NetworkID=NETWORK_ID)
    assert docker.host.text() == before
    assert docker.host.engine.networks() == ()


async def test_what_users_choose_of_a_network(docker: FakeEngine) -> None:
    pool = await docker.create_network(
        subnet="10.30.0.0/24",
        gateway="10.30.0.254",
        span="10.30.0.128/25",
        internal=True,
        aux={"printer": "10.30.0.130"},
        options={"com.docker.network.driver.mtu": "1400", "netd.masquerade": "false"},
    )
    network = docker.host.engine.network(f"docker-{NETWORK_ID[:12]}")
    assert (network.gateways, network.mtu, network.internal) == (("10.30.0.254",), 1400, True)
    assert network.options == {"masquerade": False, "range": "10.30.0.128/25"}
    _, interface, joined = await docker.run(pool)
    assert interface["Address"] == "10.30.0.128/24"
    assert "Gateway" not in joined
    assert joined["DisableGatewayService"] is True
    assert (await docker.run(pool))[1]["Address"] == "10.30.0.129/24"
    assert (await docker.run(pool))[1]["Address"] == "10.30.0.131/24"


async def test_static_addresses_and_macs(docker: FakeEngine) -> None:
    await docker.host.network("blue", subnets=("10.20.0.0/24",))
    pool = await docker.create_network(subnet="10.20.0.0/24", options=BLUE)
    mac = "02:42:0A:14:00:63"
    _, interface, _ = await docker.run(pool, address="10.20.0.99", mac=mac)
    assert interface == {"Address": "10.20.0.99/24", "AddressIPv6": "", "MacAddress": mac}
    (endpoint,) = docker.host.engine.endpoints()
    assert endpoint.mac == mac.lower()
    with pytest.raises(Refused, match=r"10\.20\.0\.99 is held by"):
        await docker.run(pool, address="10.20.0.99")


async def test_without_the_ipam_driver(docker: FakeEngine) -> None:
    """Docker's own chooses the subnet, and the addresses."""
    data = {"AddressSpace": "LocalDefault", "Pool": "172.18.0.0/16", "Gateway": "172.18.0.1/16"}
    await docker.driver("CreateNetwork", NetworkID=NETWORK_ID, Options=None, IPv4Data=[data])
    made = await docker.driver(
        "CreateEndpoint",
        NetworkID=NETWORK_ID,
        EndpointID="e" * 64,
        Interface={"Address": "172.18.0.2/16"},
    )
    assert list(made["Interface"]) == ["MacAddress"]
    (endpoint,) = docker.host.engine.endpoints()
    assert endpoint.addresses == ("172.18.0.2/16",)


async def test_without_any_ipam_driver(docker: FakeEngine) -> None:
    """`--ipam-driver null`: the addresses are in CreateEndpoint's answer."""
    await docker.host.network("blue", subnets=("10.20.0.0/24",))
    options = {"com.docker.network.generic": BLUE}
    data = {"AddressSpace": "null", "Pool": "0.0.0.0/0", "Gateway": "0.0.0.0/0"}
    await docker.driver("CreateNetwork", NetworkID=NETWORK_ID, Options=options, IPv4Data=[data])
    made = await docker.driver("CreateEndpoint", NetworkID=NETWORK_ID, EndpointID="e" * 64)
    assert made["Interface"]["Address"] == "10.20.0.2/24"


async def test_names_come_with_driver_options(docker: FakeEngine, blue: str) -> None:
    await docker.run(blue, options={"netd.name": "web", "netd.aliases": "www,shop"})
    (endpoint,) = docker.host.engine.endpoints()
    assert (endpoint.name, endpoint.aliases) == ("web", ("www", "shop"))


async def test_ports_are_published_while_the_container_is_reached_by_this_network(
    docker: FakeEngine, blue: str
) -> None:
    options = publishing(WEB, {**WEB, "HostIP": "0.0.0.0"})
    endpoint_id, _, _ = await docker.run(blue, options=options)
    key = {"NetworkID": NETWORK_ID, "EndpointID": endpoint_id}
    assert docker.host.engine.endpoints()[0].ports == ()
    for _ in range(2):
        await docker.driver("ProgramExternalConnectivity", **key, Options=options)
        (port,) = docker.host.engine.endpoints()[0].ports
        assert (port.host_port, port.container_port, port.host_ip) == (8080, 80, "")
    info = await docker.driver("EndpointOperInfo", **key)
    assert info["Value"]["netd.ports"] == "*:8080->80/tcp"
    await docker.driver("Leave", **key)  # after live-restore ports are not revoked
    assert docker.host.engine.endpoints()[0].ports == ()


async def test_a_taken_port_is_refused(docker: FakeEngine, blue: str) -> None:
    for taken in (False, True):
        endpoint_id, _, _ = await docker.run(blue)
        key = {"NetworkID": NETWORK_ID, "EndpointID": endpoint_id}
        call = docker.driver("ProgramExternalConnectivity", **key, Options=publishing(WEB))
        if taken:
            with pytest.raises(Refused, match="8080 is taken by"):
                await call
        else:
            await call


async def test_free_ports_are_found(docker: FakeEngine, blue: str) -> None:
    found = []
    for binding in (
        {**WEB, "HostPort": 0, "HostPortEnd": 0},
        {**WEB, "HostPort": 7000, "HostPortEnd": 7001},
        {**WEB, "HostPort": 7000, "HostPortEnd": 7001},
    ):
        endpoint_id, _, _ = await docker.run(blue)
        key = {"NetworkID": NETWORK_ID, "EndpointID": endpoint_id}
        for _ in range(2):
            await docker.driver("ProgramExternalConnectivity", **key, Options=publishing(binding))
        (endpoint,) = docker.host.engine.endpoints(container_id=endpoint_id)
        found.append(endpoint.ports[0].host_port)
    assert found[0] >= 49_153
    assert found[1:] == [7000, 7001]


async def test_all_of_a_range_is_tried(docker: FakeEngine, blue: str) -> None:
    taken = (PortMapping(host_port=7000, container_port=1, count=99),)
    await docker.host.attach("blue", "other", ports=taken)
    options = publishing({**WEB, "HostPort": 7000, "HostPortEnd": 7099})
    for free in (True, False):
        endpoint_id, _, _ = await docker.run(blue)
        key = {"NetworkID": NETWORK_ID, "EndpointID": endpoint_id}
        if not free:
            with pytest.raises(Refused, match="is taken by"):
                await docker.driver("ProgramExternalConnectivity", **key, Options=options)
            continue
        await docker.driver("ProgramExternalConnectivity", **key, Options=options)
        (endpoint,) = docker.host.engine.endpoints(container_id=endpoint_id)
        assert [port.host_port for port in endpoint.ports] == [7099]


async def test_offered_subnets_differ_until_none_is_left(docker: FakeEngine) -> None:
    """The engine asks until one overlaps nothing that it sees, and releases all afterwards."""
    pools = [await docker.ipam("RequestPool", AddressSpace="netd", V6=False) for _ in range(20)]
    assert len({pool["Pool"] for pool in pools}) == 20
    for pool in pools:
        for _ in range(2):
            await docker.ipam("ReleasePool", PoolID=pool["PoolID"])
    again = await docker.ipam("RequestPool", AddressSpace="netd", V6=False)
    assert again["Pool"] == pools[0]["Pool"]


async def test_what_stands_for_a_joined_subnet_is_not_offered(
    docker: FakeEngine, blue: str
) -> None:
    pool = await docker.ipam("RequestPool", AddressSpace="netd", V6=False)
    assert pool["PoolID"] != blue


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"options": {"netd.network": "green"}}, "there is no network 'green'"),
        ({"options": {"netd.netwok": "blue"}}, "netd has no option -o netd.netwok"),
        ({"options": {**BLUE, "netd.name": "x"}}, "leave the other options"),
        ({"options": {"netd.isolated": "maybe"}}, "neither true nor false"),
        ({"options": {"com.docker.network.driver.mtu": "big"}}, "no number of bytes"),
        ({"options": BLUE, "subnet": "10.77.0.0/24"}, "not 10.77.0.0/24"),
        ({"options": BLUE, "internal": True}, "leave --internal out"),
        (
            {"options": BLUE, "subnet": "10.20.0.0/24", "gateway": "10.20.0.9"},
            "the gateway of 10.20.0.0/24 is 10.20.0.1",
        ),
        ({"subnet": "10.20.0.0/16"}, "overlaps"),
    ],
)
async def test_networks_that_cannot_be(
    docker: FakeEngine, asked: dict[str, Any], reason: str
) -> None:
    await docker.host.network("blue", subnets=("10.20.0.0/24",))
    before = docker.host.text()
    with pytest.raises(Refused, match=reason):
        await docker.create_network(**asked)
    assert docker.host.text() == before
    assert docker.host.engine.notes.all("docker/") == {}


@pytest.mark.parametrize("subnet", ["10.20.0.1/32", "255.255.255.255/32"])
async def test_one_address_has_none_for_a_gateway(docker: FakeEngine, subnet: str) -> None:
    pool = await docker.ipam("RequestPool", Pool=subnet)
    with pytest.raises(Refused, match="none for a gateway"):
        await docker.ipam(
            "RequestAddress",
            PoolID=pool["PoolID"],
            Options={"RequestAddressType": "com.docker.network.gateway"},
        )


async def test_ipam_options_are_refused(docker: FakeEngine) -> None:
    with pytest.raises(Refused, match=r"-o netd\.network=NAME"):
        await docker.ipam("RequestPool", AddressSpace="netd", Options=BLUE)


async def test_a_network_that_netd_does_not_know(docker: FakeEngine) -> None:
    with pytest.raises(Refused, match="docker network rm"):
        await docker.driver("CreateEndpoint", NetworkID="f" * 64, EndpointID="e" * 64)


async def test_networks_survive_a_restart_of_netd(docker: FakeEngine, blue: str) -> None:
    endpoint_id, interface, _ = await docker.run(blue)
    await docker.stop()
    await docker.host.restart()
    await docker.start()
    assert (await docker.run(blue))[1]["Address"] == "10.20.0.3/24"
    await docker.remove(blue, endpoint_id, interface["Address"])


async def test_a_restart_between_create_and_join(docker: FakeEngine, blue: str) -> None:
    key = {"NetworkID": NETWORK_ID, "EndpointID": "e" * 64}
    given = await docker.ipam("RequestAddress", PoolID=blue, Address="", Options={})
    await docker.stop()
    await docker.host.restart()
    await docker.start()
    await docker.driver("CreateEndpoint", **key, Interface={"Address": given["Address"]})
    await docker.stop()
    await docker.host.restart()
    await docker.start()
    assert (await docker.driver("Join", **key))["Gateway"] == "10.20.0.1"


async def test_a_network_that_was_not_noted_yet_is_still_docker_s(docker: FakeEngine) -> None:
    """netd was killed in between; the engine may remove it, or create it again."""
    await docker.create_network(options={"netd.name": "red"})
    await docker.host.engine.notes.delete(f"docker/{NETWORK_ID}")
    await docker.stop()
    await docker.host.restart()
    await docker.start()
    assert len(docker.host.engine.notes.all("docker/")) == 1
    await docker.driver("DeleteNetwork", NetworkID=NETWORK_ID)
    assert docker.host.engine.networks() == ()


async def test_a_note_of_a_network_that_is_gone_goes(docker: FakeEngine) -> None:
    await docker.create_network(options={"netd.name": "red"})
    await docker.host.engine.delete_network("red")
    await docker.stop()
    await docker.host.restart()
    await docker.start()
    assert docker.host.engine.notes.all("docker/") == {}


async def test_auxiliary_addresses_survive_a_restart(docker: FakeEngine) -> None:
    await docker.create_network(subnet="10.30.0.0/24", aux={"a": "10.30.0.2", "b": "10.30.0.3"})
    await docker.stop()
    await docker.host.restart()
    await docker.start()
    assert (await docker.run("named:10.30.0.0/24"))[1]["Address"] == "10.30.0.4/24"
    with pytest.raises(Refused, match=r"10\.30\.0\.3 is reserved for good"):
        await docker.run("named:10.30.0.0/24", address="10.30.0.3")


async def test_others_keep_a_network_that_docker_removes(docker: FakeEngine) -> None:
    await docker.create_network(options={"netd.name": "red"})
    await docker.host.attach("red", "c1")
    await docker.driver("DeleteNetwork", NetworkID=NETWORK_ID)
    assert docker.host.engine.network("red").name == "red"
    assert docker.host.engine.notes.all("docker/") == {}


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"{", b"[]", b'{"NetworkID": 7}', b"null", b"{}", b"\xff\xfe"]
)
@pytest.mark.parametrize("name", ["NetworkDriver.CreateNetwork", "IpamDriver.RequestAddress"])
async def test_bodies_that_cannot_be_read(docker: FakeEngine, name: str, body: bytes) -> None:
    status, answer = await docker.post(name, body)
    assert status == 400
    assert answer["Err"] == answer["Error"] != ""
    assert docker.host.engine.networks() == ()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70_000) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OPTION, inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(["", "10.20.0.0/24", "10.20.0.5", "fd20::/64", "0.0.0.0/0", "x", "10.1/8"])
POOLS = st.lists(
    st.fixed_dictionaries({}, optional={"Pool": WORDS, "Gateway": WORDS, "AuxAddresses": ANYTHING}),
    max_size=2,
)
CALLS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "NetworkDriver.CreateNetwork": {"NetworkID": WORDS, "Options": ANYTHING, "IPv4Data": POOLS},
    "NetworkDriver.CreateEndpoint": {
        "NetworkID": st.just(NETWORK_ID),
        "EndpointID": WORDS,
        "Interface": st.dictionaries(st.sampled_from(["Address", "MacAddress"]), WORDS),
        "Options": ANYTHING,
    },
    "NetworkDriver.ProgramExternalConnectivity": {
        "NetworkID": st.just(NETWORK_ID),
        "EndpointID": st.just(f"{1:064x}"),
        "Options": st.fixed_dictionaries({PORT_MAP: ANYTHING}),
    },
    "IpamDriver.RequestPool": {"Pool": WORDS, "SubPool": WORDS, "V6": ANYTHING},
    "IpamDriver.RequestAddress": {
        "PoolID": st.builds("{}{}".format, st.sampled_from(["named:", "offered:", ""]), WORDS),
        "Address": WORDS,
    },
    "IpamDriver.ReleaseAddress": {
        "PoolID": st.builds("named:{}".format, WORDS),
        "Address": WORDS,
    },
}


@pytest.mark.parametrize("name", CALLS)
async def test_nonsense_is_refused_in_words(docker: FakeEngine, blue: str, name: str) -> None:
    """Whatever comes, netd says what is wrong with it, and is never at fault itself."""
    await docker.run(blue)
    examples: list[dict[str, Any]] = []

    @settings(max_examples=30, database=None, deadline=None, derandomize=True)
    @given(st.fixed_dictionaries(CALLS[name]))
    def collect(body: dict[str, Any]) -> None:
        examples.append(body)

    collect()
    for body in examples:
        _, answer = await docker.post(name, json.dumps(body).encode())
        assert "a fault of netd" not in answer.get("Err", ""), body


async def test_a_body_that_is_too_large(docker: FakeEngine) -> None:
    status, _ = await docker.post("NetworkDriver.Join", b" " * (1 << 20) + b"{}")
    assert status == 400


@pytest.mark.parametrize("name", ["NetworkDriver.GwAllocCheck", "", "VolumeDriver.Create", "a/b"])
async def test_calls_that_there_are_not(docker: FakeEngine, name: str) -> None:
    """The engine knows this very text."""
    reader, writer = await asyncio.open_unix_connection(str(docker.path))
    head = f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close"
    writer.write(f"{head}\r\n\r\n{{}}".encode())
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"404 page not found\n")


async def test_what_is_made_after_the_deadline_is_taken_back(host: Host, tmp_path: Path) -> None:
    """The engine forgets an endpoint or a network that it was not given in time."""
    await host.network("blue", subnets=("10.20.0.0/24",))
    docker = FakeEngine(host, tmp_path)
    await docker.start(deadline_s=0.2)
    pool = await docker.create_network(options=BLUE)
    before = host.text()
    with host.kernel.hold("apply") as gate:
        with pytest.raises(Refused, match=r"not finished within 0\.2 s; .* is taken back"):
            await docker.run(pool)
        gate.opened.set()
    await host.happened("endpoint.attached")
    await host.happened("endpoint.detached")
    assert host.text() == before
    with host.kernel.hold("apply") as gate:
        with pytest.raises(Refused, match="is taken back"):
            await docker.create_network(options={"netd.name": "red"}, network_id="b2" * 32)
        gate.opened.set()
    await host.happened("network.deleted")
    async with asyncio.timeout(5):
        while list(host.engine.notes.all("docker/")) != [f"docker/{NETWORK_ID}"]:
            await asyncio.sleep(0)
    assert host.text() == before
    await docker.stop()


async def test_work_that_nobody_takes_back_goes_on_after_its_deadline(
    host: Host, tmp_path: Path
) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    docker = FakeEngine(host, tmp_path)
    await docker.start(deadline_s=0.2)
    endpoint_id, _, _ = await docker.run(await docker.create_network(options=BLUE))
    with host.kernel.hold("apply") as gate:
        with pytest.raises(Refused, match="it goes on"):
            await docker.driver("DeleteEndpoint", NetworkID=NETWORK_ID, EndpointID=endpoint_id)
        gate.opened.set()
    await host.happened("endpoint.detached")
    await docker.stop()


async def test_calls_are_counted(docker: FakeEngine) -> None:
    await docker.call("Plugin.Activate")
    with pytest.raises(Refused):
        await docker.driver("CreateEndpoint", NetworkID="f" * 64, EndpointID="e" * 64)
    assert docker.plugin.counters() == {"docker_calls": 2, "docker_calls_failed": 1}
    assert docker.plugin.levels() == {"docker_calls_under_way": 0, "docker_names_waiting": 0}


async def test_an_address_that_is_reserved_is_kept_from_others(
    docker: FakeEngine, blue: str
) -> None:
    given = await docker.ipam("RequestAddress", PoolID=blue, Address="", Options={})
    assert given["Address"] == "10.20.0.2/24"
    other = await docker.host.attach("blue", "other")
    assert other.addresses[0] == "10.20.0.3/24"
    await docker.ipam("ReleaseAddress", PoolID=blue, Address="10.20.0.2")
    await docker.ipam("ReleaseAddress", PoolID=blue, Address="10.20.0.2")
    assert (await docker.run(blue))[1]["Address"] == "10.20.0.2/24"


async def test_releases_that_mean_nothing_are_answered(docker: FakeEngine) -> None:
    await docker.ipam("ReleaseAddress", PoolID="", Address="fd20::2")
    await docker.ipam("ReleaseAddress", PoolID="named:10.1.0.0/16", Address="10.1.0.2")
    await docker.ipam("ReleasePool", PoolID="named:10.1.0.0/16")
    with pytest.raises(Refused, match="none of netd's"):
        await docker.ipam("RequestAddress", PoolID="else", Address="")
