"""The driver of Podman called as netavark calls it (1.5 and newer): on a host with a daemon."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import Host, Namespace, await_true, ip_of
from tests.e2e.remains import Remains

PROGRAM = Path(__file__).parents[2] / "netd/runtimes/netavark/netd"


class Podman:
    """Keeps networks and starts the plugin, as Podman and netavark do."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def call(self, *words: str, given: Any = None) -> tuple[int, Any]:
        """Exit code, and the answer where there is one."""
        done = subprocess.run(
            self.host.wrap(str(PROGRAM), *words),
            input=given if isinstance(given, bytes) else json.dumps(given).encode(),
            env={**os.environ, "NETD_SOCKET": self.host.socket},
            capture_output=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.stderr == b""
        return done.returncode, json.loads(done.stdout) if done.stdout else None

    def good(self, *words: str, given: Any = None) -> Any:
        code, answer = self.call(*words, given=given)
        assert code == 0, answer
        return answer

    def refused(self, *words: str, given: Any = None) -> str:
        code, answer = self.call(*words, given=given)
        assert code == 1
        assert answer.keys() == {"error"}
        text: str = answer["error"]
        return text

    def create(self, name: str, **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.good("create", given=network(name, **more))
        return made

    def setup(self, kept: dict[str, Any], container: Namespace, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.good(
            "setup", container.path, given=execution(kept, container, **more)
        )
        return answer

    def teardown(self, kept: dict[str, Any], container: Namespace, **more: Any) -> None:
        given = execution(kept, container, **more)
        assert self.good("teardown", container.path, given=given) is None


def network(name: str, **more: Any) -> dict[str, Any]:
    """A network as Podman gives it to `create`."""
    return {
        "name": name,
        "id": hashlib.sha256(name.encode()).hexdigest(),
        "driver": "netd",
        "created": "2024-01-01T00:00:00Z",
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": True,
        "ipam_options": {},
        **more,
    }


def execution(kept: dict[str, Any], container: Namespace, **more: Any) -> dict[str, Any]:
    """What `setup` and `teardown` are given."""
    options = {"interface_name": "eth0", "aliases": ["f00dcafe0123", "c", "www"]}
    options |= more.pop("options", {})
    return {
        "container_id": f"{container.pid:064x}",
        "container_name": "c",
        "network": kept,
        "network_options": options,
        **more,
    }


@pytest.fixture(scope="module")
def shared_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with ExitStack() as stack:
        host = Host(stack, tmp_path_factory.mktemp("host"))
        host.start_daemon()
        yield host


@pytest.fixture
def podman(shared_host: Host) -> Podman:
    return Podman(shared_host)


@pytest.fixture
def tidy(shared_host: Host) -> Iterator[None]:
    """Whether a test has left nothing."""
    before = Remains.settled(shared_host)
    yield
    before.check(shared_host)


def test_info(podman: Podman) -> None:
    assert podman.good() == podman.good("info")
    assert podman.good("info")["api_version"] == "1.0.0"


@pytest.mark.usefixtures("tidy")
def test_a_network_of_the_host_is_there_as_long_as_containers_are_on_it(podman: Podman) -> None:
    one, two = podman.host.container(), podman.host.container()
    kept = podman.create("Green", subnets=[{"subnet": "10.30.0.0/24", "gateway": "10.30.0.9"}])
    # What Podman demands to be as it was, and that it gives no addresses itself.
    asked = network("Green")
    assert [kept[key] for key in ("name", "id", "driver")] == [
        asked[key] for key in ("name", "id", "driver")
    ]
    assert kept["ipam_options"] == {"driver": "none"}
    assert "subnets" not in kept
    assert podman.host.client.networks() == []
    status = podman.setup(kept, one)
    endpoint = podman.host.client.endpoints()[0]
    assert status["interfaces"] == {
        "eth0": {
            "mac_address": endpoint["mac"],
            "subnets": [{"ipnet": endpoint["addresses"][0], "gateway": "10.30.0.9"}],
        }
    }
    assert (endpoint["name"], endpoint["aliases"]) == ("c", ["f00dcafe0123", "www"])
    assert podman.setup(kept, one) == status  # asked again
    other = podman.setup(kept, two, container_name="d")
    assert one.pings(other["interfaces"]["eth0"]["subnets"][0]["ipnet"].partition("/")[0])
    podman.teardown(kept, one)
    assert [each["name"] for each in podman.host.client.networks()] == ["green"]
    two.end()
    podman.teardown(kept, two)
    podman.teardown(kept, two)  # as after a reboot
    assert podman.host.client.networks() == []


@pytest.mark.usefixtures("tidy")
def test_containers_join_a_network_that_is_netds(podman: Podman) -> None:
    client = podman.host.client
    client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24", "fd20::/64"])
    kept = podman.create("pods", options={"network": "blue"})
    container = podman.host.container()
    wishes = {
        "interface_name": "net7", "static_ips": ["10.20.0.40", "fd20::40"],
        "static_mac": "02:00:00:00:00:44",
    }  # fmt: skip
    ports = [
        {"container_port": 80, "host_port": 8080, "protocol": "tcp,udp", "range": 2, "host_ip": ""}
    ]
    status = podman.setup(kept, container, options=wishes, port_mappings=ports)
    assert status["interfaces"]["net7"]["mac_address"] == "02:00:00:00:00:44"
    endpoint = client.endpoints()[0]
    assert {ip_of(endpoint), ip_of(endpoint, 6)} == {"10.20.0.40", "fd20::40"}
    assert sorted((port["host_port"], port["protocol"]) for port in endpoint["ports"]) == [
        (8080, "tcp"), (8080, "udp"), (8081, "tcp"), (8081, "udp"),
    ]  # fmt: skip
    assert "net7" in container.links()
    podman.teardown(kept, container, options=wishes)
    assert client.endpoints() == []
    assert [each["name"] for each in client.networks()] == ["blue"]
    client.delete_network("blue")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"options": {"nonsense": "1"}}, "'nonsense' is not known"),
        ({"options": {"network": "nowhere"}}, "no network 'nowhere'"),
        ({"options": {"network": "x", "mtu": "1400"}}, "has its own mtu"),
        ({"options": {"mtu": "big"}}, "'big'"),
        ({"options": {"isolate": "perhaps"}}, "neither true nor false"),
        ({"subnets": [{"subnet": "10.30.0.1/24"}]}, "host bits"),
        (
            {"subnets": [{"subnet": "10.3.0.0/24", "lease_range": {"start_ip": "10.3.0.9"}}]},
            "range",
        ),
        ({"routes": [{"destination": "10.0.0.0/8", "gateway": "10.3.0.1"}]}, "routes"),
        ({"ipam_options": {"driver": "dhcp"}}, "addresses itself"),
    ],
)
def test_networks_that_cannot_be_had(podman: Podman, more: dict[str, Any], says: str) -> None:
    assert says in podman.refused("create", given=network("n", **more))
    assert podman.host.client.networks() == []


@pytest.mark.parametrize("given", [b"", b"{", b"[]", b"null", b'{"network": 1}', b"x" * 1_100_000])
@pytest.mark.parametrize("words", [("create",), ("setup", "/x"), ("teardown", "/x"), ("what",)])
def test_nonsense(podman: Podman, words: tuple[str, ...], given: bytes) -> None:
    assert podman.refused(*words, given=given)


def test_a_teardown_without_the_daemon_is_made_up_for(podman: Podman) -> None:
    kept = podman.create("n", ipam_options={"driver": "none"})
    container = podman.host.container()
    podman.setup(kept, container)
    podman.host.stop_daemon()
    podman.teardown(kept, container)
    assert "cannot be reached" in podman.refused(
        "setup", container.path, given=execution(kept, container)
    )
    podman.host.start_daemon()
    await_true(lambda: podman.host.client.endpoints() == [])
    podman.teardown(kept, container)
    assert podman.host.client.networks() == []
