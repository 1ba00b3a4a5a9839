"""Requests as Docker Engines from 28 on make them: networks of one IP version, pools without
gateways, options that older engines do not have.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.docker_lab import NETWORK_ID, FakeEngine
from tests.unit.engine_fixture import Host

GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}


@pytest.fixture
async def docker(host: Host, tmp_path: Path) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(host, tmp_path)
    await engine.start()
    yield engine
    await engine.stop()


async def pool(docker: FakeEngine, *, v6: bool, subnet: str = "") -> dict[str, Any]:
    asked = {"AddressSpace": "netd", "Pool": subnet, "SubPool": "", "Options": None, "V6": v6}
    return await docker.ipam("RequestPool", **asked)


def data(pool: dict[str, Any], gateway: str = "") -> dict[str, Any]:
    """What CreateNetwork says of a pool. Without a gateway the key is not there."""
    said = {"AddressSpace": "netd", "Pool": pool["Pool"], "AuxAddresses": None}
    return said | ({"Gateway": gateway} if gateway else {})


async def create(docker: FakeEngine, v4: Any, v6: Any, **generic: str) -> None:
    options = {
        "com.docker.network.enable_ipv4": bool(v4),
        "com.docker.network.enable_ipv6": bool(v6),
        "com.docker.network.generic": generic,
    }
    await docker.driver(
        "CreateNetwork", NetworkID=NETWORK_ID, Options=options, IPv4Data=v4, IPv6Data=v6
    )


async def endpoint(docker: FakeEngine, *, ipv4: str = "", ipv6: str = "", **options: Any) -> Any:
    key = {"NetworkID": NETWORK_ID, "EndpointID": "e" * 64}
    interface = {"Address": ipv4, "AddressIPv6": ipv6, "MacAddress": ""}
    made = await docker.driver("CreateEndpoint", **key, Interface=interface, Options=options)
    # An engine that creates the container first has no place for it yet.
    joined = await docker.driver("Join", **key, SandboxKey="", Options=options)
    return made["Interface"], joined


@pytest.mark.parametrize("none", [None, []])
async def test_a_network_of_ipv6_alone(docker: FakeEngine, none: Any) -> None:
    six = await pool(docker, v6=True)
    first = await docker.ipam("RequestAddress", PoolID=six["PoolID"], Options=GATEWAY)
    await create(docker, none, [data(six, first["Address"])])
    (network,) = docker.host.engine.networks()
    assert network.subnets == (six["Pool"],)
    given = await docker.ipam("RequestAddress", PoolID=six["PoolID"], Address="", Options={})
    interface, joined = await endpoint(docker, ipv6=given["Address"])
    assert set(interface) == {"MacAddress"}
    assert joined["GatewayIPv6"] == network.gateways[0]
    assert "Gateway" not in joined


async def test_ipv6_alone_on_a_network_of_both(docker: FakeEngine) -> None:
    await docker.host.network("blue", subnets=("10.20.0.0/24", "fd20::/64"))
    six = await pool(docker, v6=True, subnet="fd20::/64")
    await create(docker, None, [data(six)], **{"netd.network": "blue"})
    given = await docker.ipam("RequestAddress", PoolID=six["PoolID"], Address="", Options={})
    await endpoint(docker, ipv6=given["Address"])
    (found,) = docker.host.engine.endpoints()
    assert given["Address"] in found.addresses


async def test_pools_without_gateways(docker: FakeEngine) -> None:
    """As of an internal network: none is asked for, and none is told."""
    four, six = await pool(docker, v6=False), await pool(docker, v6=True)
    await create(docker, [data(four)], [data(six)])
    (network,) = docker.host.engine.networks()
    assert network.subnets == (four["Pool"], six["Pool"])
    assert len(network.gateways) == 2  # netd's own choice


async def test_a_gateway_of_one_version_only(docker: FakeEngine) -> None:
    four, six = await pool(docker, v6=False), await pool(docker, v6=True)
    first = await docker.ipam("RequestAddress", PoolID=four["PoolID"], Options=GATEWAY)
    await create(docker, [data(four, first["Address"])], [data(six)])
    (network,) = docker.host.engine.networks()
    assert network.gateways[0] == first["Address"].partition("/")[0]


async def test_what_newer_engines_say_of_an_endpoint_is_no_hindrance(docker: FakeEngine) -> None:
    await docker.host.network("blue", subnets=("10.20.0.0/24",))
    four = await pool(docker, v6=False, subnet="10.20.0.0/24")
    await create(docker, [data(four, "10.20.0.1/24")], None, **{"netd.network": "blue"})
    named = {
        "com.docker.network.endpoint.name": "web",
        "com.docker.network.endpoint.macaddress": "0e:16:0a:14:00:02",
        "com.docker.network.ipam.serial": "true",
    }
    given = await docker.ipam("RequestAddress", PoolID=four["PoolID"], Address="", Options=named)
    ports = [
        {"Proto": 6, "IP": "", "Port": 80, "HostIP": "0.0.0.0", "HostPort": 8080}
        | {"HostPortEnd": 8080},
        {"Proto": 6, "IP": "", "Port": 80, "HostIP": "::", "HostPort": 8080, "HostPortEnd": 8080},
    ]
    options: dict[str, Any] = {
        "com.docker.network.portmap": ports,
        "com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 80}],
        "com.docker.network.endpoint.macaddress": None,
        "com.docker.network.endpoint.sysctls": "net.ipv6.conf.IFNAME.accept_ra=0",
        "com.docker.network.endpoint.ifname": "front0",
        "com.docker.network.driver.private.no_proxy_6to4": True,
    }
    _, joined = await endpoint(docker, ipv4=given["Address"], **options)
    assert joined["Gateway"] == "10.20.0.1"
    await docker.driver(
        "ProgramExternalConnectivity", NetworkID=NETWORK_ID, EndpointID="e" * 64, Options=options
    )
    (found,) = docker.host.engine.endpoints()
    assert [(port.host_port, port.host_ip) for port in found.ports] == [(8080, "")]


async def test_capabilities_ask_for_no_calls_that_there_are_not(docker: FakeEngine) -> None:
    """GwAllocCheck is made only to drivers that say they have it."""
    assert await docker.driver("GetCapabilities") == {
        "Scope": "local",
        "ConnectivityScope": "local",
    }
    status, _ = await docker.post("IpamDriver.GetCapabilities", b"")
    assert status == 200
