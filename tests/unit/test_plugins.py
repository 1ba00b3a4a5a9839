"""What plugins hand over is done by the daemon as they would do it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from netd.daemon.plugins import Plugins
from netd.model.errors import NetdError, Unavailable
from netd.model.plugins import CniAdd, NetavarkSetup
from netd.plan.ports import HeldPort
from netd.runtimes.cni.call import Call
from netd.runtimes.cni.result import result_of
from netd.runtimes.netavark.attachments import Setup
from netd.runtimes.shim.tombstones import Tombstone
from tests.unit.engine_fixture import Host

LABELS = {
    "netd.runtime": "cni",
    "netd.runtime.network": "net",
    "netd.runtime.ifname": "eth0",
}
NETNS = "/run/netns/box"
WEB = HeldPort(protocol="tcp", family=4, address="", port=8080)


async def test_an_add_is_done_as_the_plugin_does_it(host: Host, tmp_path: Path) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    host.container("box")
    asked = add_of(tmp_path, network="blue")
    result = await plugins_of(host, tmp_path).cni_add(asked)
    (endpoint,) = host.engine.endpoints()
    call = Call(asked.environment, asked.config)
    expected = result_of(call, msgspec.json.decode(msgspec.json.encode(endpoint)))
    assert msgspec.json.decode(msgspec.json.encode(result)) == expected
    assert endpoint.labels == LABELS
    assert await plugins_of(host, tmp_path).cni_add(asked) == result  # asked once more
    await host.check()


async def test_an_add_makes_its_own_network_if_it_has_one(host: Host, tmp_path: Path) -> None:
    host.container("box")
    await plugins_of(host, tmp_path).cni_add(add_of(tmp_path, subnet="10.30.0.0/24"))
    assert host.engine.network("net").subnets == ("10.30.0.0/24",)
    assert [endpoint.network for endpoint in host.engine.endpoints()] == ["net"]


async def test_what_is_not_plain_is_left_to_the_plugin(host: Host, tmp_path: Path) -> None:
    await host.network("blue")
    host.container("box")
    plugins = plugins_of(host, tmp_path)
    good = add_of(tmp_path, network="blue")
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for wrong in (
        add_of(tmp_path, network="blue", unknown=deep),
        add_of(tmp_path, network="blue", unknown=1),
        add_of(tmp_path, network="blue", prevResult=[]),
        add_of(tmp_path, network="blue", prevResult={"routes": 1}),
        add_of(tmp_path, network="blue", runtimeConfig={"mac": 1}),
        add_of(tmp_path, subnet="10.30.0.0"),
        add_of(tmp_path, network="nobody"),
        replace(good, socket="/run/netd/netd.sock"),
        add_of(tmp_path / "other", network="blue"),
        replace(good, environment={**good.environment, "CNI_COMMAND": "DEL"}),
        replace(good, environment={**good.environment, "CNI_IFNAME": ""}),
    ):
        with pytest.raises(NetdError):
            await plugins.cni_add(wrong)
    Tombstone("cni", "box", "net", "eth0").write(str(tmp_path / "deleted"))
    with pytest.raises(Unavailable):  # what comes now must not fall to it
        await plugins.cni_add(good)
    assert not host.engine.endpoints()


def plugins_of(host: Host, folder: Path) -> Plugins:
    return Plugins(host.engine, str(folder / "netd.sock"))


def add_of(folder: Path, **config: object) -> CniAdd:
    socket = str(folder / "netd.sock")
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "box",
        "CNI_NETNS": "/run/netns/box",
        "CNI_IFNAME": "eth0",
    }
    plain = {"cniVersion": "1.0.0", "name": "net", "type": "netd-cni", "socket": socket}
    return CniAdd(socket=socket, environment=environment, config={**plain, **config})


async def test_a_setup_is_done_as_the_plugin_does_it(host: Host, tmp_path: Path) -> None:
    await host.network("blue")
    host.container("box")
    plugins = plugins_of(host, tmp_path)
    asked = setup_of(tmp_path, network="blue")
    status = await plugins.netavark_setup(asked)
    (endpoint,) = host.engine.endpoints()
    setup = Setup(asked.execution, asked.netns)
    expected = setup.status_of(msgspec.json.decode(msgspec.json.encode(endpoint)))
    assert msgspec.json.decode(msgspec.json.encode(status)) == expected
    assert endpoint.labels == {**LABELS, "netd.runtime": "netavark"}
    assert await plugins.netavark_setup(asked) == status
    await host.check()


async def test_a_setup_makes_its_own_network_if_it_has_one(host: Host, tmp_path: Path) -> None:
    host.container("box")
    await plugins_of(host, tmp_path).netavark_setup(setup_of(tmp_path))
    assert [endpoint.network for endpoint in host.engine.endpoints()] == ["net"]
    assert host.engine.network("net").labels == {"netd.podman.id": "1" * 64}


async def test_a_setup_that_is_not_plain_is_left_to_the_plugin(host: Host, tmp_path: Path) -> None:
    await host.network("blue")
    host.container("box")
    plugins = plugins_of(host, tmp_path)
    good = setup_of(tmp_path, network="blue")
    for wrong in (
        setup_of(tmp_path, network="blue", unknown="1"),
        setup_of(tmp_path, network="nobody"),
        replace(good, execution={}),
        replace(good, execution={**good.execution, "network": []}),
        replace(good, execution={**good.execution, "port_mappings": [1]}),
        replace(good, netns="/run/netns/none"),
        replace(good, socket="/run/netd/netd.sock"),
    ):
        with pytest.raises(NetdError):
            await plugins.netavark_setup(wrong)
    Tombstone("netavark", "box", "net", "eth0").write(str(tmp_path / "deleted"))
    with pytest.raises(Unavailable):
        await plugins.netavark_setup(good)
    assert not host.engine.endpoints()


async def test_a_containers_ports_are_published_in_one_of_its_networks(
    host: Host, tmp_path: Path
) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    await host.network("green", subnets=("10.21.0.0/24",))
    host.container("box")
    plugins = plugins_of(host, tmp_path)
    first, second = (setup_of(tmp_path, network=name) for name in ("blue", "green"))
    second.execution["network_options"]["interface_name"] = "eth1"
    host.kernel.by_hand.listen(WEB)  # Podman itself
    for asked in (first, second, first, second):
        asked.execution["port_mappings"] = [{"host_port": 8080, "container_port": 80}]
        await plugins.netavark_setup(asked)
    published = {each.network: each.ports for each in host.engine.endpoints()}
    assert [port.host_port for port in published["blue"]] == [8080]
    assert published["green"] == ()
    await host.check()


def setup_of(folder: Path, **options: str) -> NetavarkSetup:
    execution: dict[str, Any] = {
        "container_id": "box",
        "container_name": "box",
        "network": {"name": "net", "id": "1" * 64, "driver": "netd", "options": options},
        "network_options": {"interface_name": "eth0"},
    }
    return NetavarkSetup(socket=str(folder / "netd.sock"), netns=NETNS, execution=execution)
