"""Consul's API for containers, at the gateways of their networks: whom they may speak for, what
they see, and how much of it they may ask for.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.consul_clients import Place
from tests.e2e.lab import Host, Namespace, await_true, ip_of
from tests.e2e.registry_lab import connected, gateway, host_with_registry

CONNECTIONS_EACH_MAX = 512

# Opens so many connections, says whether the last one is answered, and waits for its end.
CONNECT = """
import socket, sys
def ask(sock):
    sock.sendall(b"GET /v1/status/leader HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    return sock.recv(4096).split()[1].decode()
place, count = (sys.argv[1], 8500), int(sys.argv[2])
open_ = [socket.create_connection(place, 10) for _ in range(count)]
# The answer to the last that is let in comes after all of them were.
print(ask(open_[-1]), flush=True)
print(socket.create_connection(place, 10).recv(4096).split()[1].decode(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def shared_host() -> Iterator[Host]:
    with host_with_registry() as made:
        for network in ("blue", "red"):
            made.client.create_network(name=network, driver="bridge")
        yield made


@pytest.fixture
def host(shared_host: Host) -> Iterator[Host]:
    """The host of the module, with the networks blue and red and nothing else."""
    yield shared_host
    for endpoint in shared_host.client.endpoints():
        shared_host.client.detach(endpoint["id"])
    await_true(lambda: not shared_host.client.services())


class Container(Place):
    """A container on networks, of which the first one's gateway is where it asks."""

    def __init__(self, host: Host, stack: ExitStack, *networks: str) -> None:
        self.space: Namespace = host.container()
        endpoints: list[dict[str, Any]] = [
            host.attach(each, self.space, ifname=f"eth{number}")
            for number, each in enumerate(networks)
        ]
        self.address, self.gateway = ip_of(endpoints[0]), gateway(endpoints[0])
        self.addresses = [ip_of(each) for each in endpoints]
        super().__init__(stack, self.space.wrap, agent=f"{self.gateway}:8500")


def registered(place: Place, **body: object) -> int:
    return place.curl("/v1/agent/service/register", body=body).status


def ids(place: Place, service: str = "web") -> list[str]:
    rows = place.curl(f"/v1/catalog/service/{service}").json
    return sorted(row["ServiceID"] for row in rows)


def test_programs_in_containers(host: Host, stack: ExitStack) -> None:
    client, server = Container(host, stack, "blue"), Container(host, stack, "blue")
    watcher = client.start("watch", "web")
    assert watcher.line() == "1"
    web = server.start("web", "web", "8080", server.address)
    assert web.line() == "registered"
    answers, found = watcher.line().split()
    assert found == "web-8080"
    assert client.run("find", "web") == f"{server.address}:8080"
    leader = client.start("elect", "leader", "client")
    leader.line()
    assert leader.line() == "leads"
    # Its end is the end of what it has registered, without a check that would find out.
    web.kill()
    server.space.end()
    assert watcher.line(within_s=10) == str(int(answers) + 1)
    assert ids(client) == []
    assert host.client.services() == []


def test_it_speaks_for_its_own_addresses_only(host: Host, stack: ExitStack) -> None:
    one, other = Container(host, stack, "blue", "red"), Container(host, stack, "blue")
    for number, address in enumerate(("", *one.addresses)):
        assert registered(one, Name="web", ID=f"web-{number}", Port=80, Address=address) == 200
    assert [row["ServiceAddress"] for row in one.curl("/v1/catalog/service/web").json] == [
        one.address,
        *one.addresses,
    ]
    for address in (other.address, Host.ADDRESS, "127.0.0.1", "198.51.100.1"):
        assert registered(one, Name="web", ID="bad", Port=80, Address=address) == 403
    # What is another's it cannot take, end or speak for, whatever it calls it.
    check = {"CheckID": "lives", "TTL": "60s", "Status": "passing"}
    assert registered(one, Name="web", ID="mine", Port=80, Check=check) == 200
    said = other.curl("/v1/agent/service/register", body={"Name": "web", "ID": "mine"})
    assert said.status == 403
    assert said.body.endswith(f'service ID "mine" is not at an address of {other.address}')
    for path in (
        "service/deregister/mine",
        "service/maintenance/mine?enable=true",
        "check/fail/lives",
        "check/deregister/lives",
        "maintenance?enable=true",
        "force-leave/host-1",
        "reload",
    ):
        answer = other.curl(f"/v1/agent/{path}", body="")
        assert (answer.status, answer.body[:17]) == (403, "Permission denied"), path
    foreign = {"Node": "host-1", "Address": "192.0.2.9", "Service": {"Service": "web"}}
    assert other.curl("/v1/catalog/register", body=foreign).status == 403
    assert other.curl("/v1/catalog/deregister", body=foreign).status == 403
    assert one.passing("web") == ["mine", "web-0", "web-1", "web-2"]


def test_it_sees_what_its_networks_see(host: Host, stack: ExitStack) -> None:
    blue, red = Container(host, stack, "blue"), Container(host, stack, "red")
    both = Container(host, stack, "blue", "red")
    here = Place(stack, host.wrap)
    assert registered(blue, Name="web", ID="web-blue", Port=80) == 200
    assert registered(red, Name="web", ID="web-red", Port=80) == 200
    assert registered(red, Name="secret", ID="secret", Port=80) == 200
    assert registered(here, Name="web", ID="web-host", Port=80) == 200
    assert ids(blue) == ["web-blue", "web-host"]
    assert ids(red) == ["web-host", "web-red"]
    assert ids(both) == ids(here) == ["web-blue", "web-host", "web-red"]
    assert blue.curl("/v1/catalog/services").json == {"consul": [], "web": []}
    for path in ("catalog/service/secret", "health/service/secret", "health/checks/secret"):
        assert blue.curl(f"/v1/{path}").json == []
    assert blue.curl("/v1/agent/service/secret").status == 404
    assert blue.curl("/v1/agent/health/service/id/secret").status == 404
    assert "secret" not in blue.curl("/v1/catalog/node/host-1").body
    assert "secret" not in blue.curl("/v1/health/state/any").body
    # The same instances as DNS shows.
    found = blue.space.run("dig", "+short", f"@{blue.gateway}", "web.service.consul")
    assert set(found.split()) == {blue.address, Host.ADDRESS}
    assert here.curl("/v1/agent/service/deregister/web-host", body="").status == 200


def test_one_container_cannot_keep_others_from_asking(host: Host, stack: ExitStack) -> None:
    one, other = Container(host, stack, "blue"), Container(host, stack, "blue")
    arguments = (one.gateway, str(CONNECTIONS_EACH_MAX))
    greedy = one.python("-c", CONNECT, *arguments)
    assert greedy.line() == "200"
    assert greedy.line() == "429"
    assert other.curl("/v1/status/leader").status == 200
    greedy.finish()
    await_true(lambda: one.curl("/v1/status/leader").status == 200)


def test_containers_may_what_is_configured(stack: ExitStack) -> None:
    with tempfile.TemporaryDirectory(prefix="netd-consul-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        config = folder / "netd.toml"
        host = Host(stack, folder)
        host.registry = True
        config.write_text("[consul]\nguests = false\n")
        host.start_daemon("--config", str(config))
        await_true(lambda: connected(host), 20)
        host.client.create_network(name="blue", driver="bridge")
        here, container = Place(stack, host.wrap), Container(host, stack, "blue")
        assert registered(container, Name="web", Port=80) == 200
        assert container.passing("web") == ["web"]
        for path in ("kv/k", "session/create", "event/fire/x", "txn"):
            answer = container.curl(f"/v1/{path}", body=[])
            assert (answer.status, answer.body[:17]) == (403, "Permission denied"), path
        for path in ("kv/k", "session/list", "event/list", "query"):
            assert container.curl(f"/v1/{path}").status == 403, path
        assert here.curl("/v1/kv/k", body="1").body == "true"

        config.write_text('[consul]\ngateways = false\naddress = "127.0.0.1:18500"\n')
        host.stop_daemon()
        host.start_daemon("--config", str(config))
        await_true(lambda: "127.0.0.1:18500" in host.client.registry()["listening"], 10)
        assert Place(stack, host.wrap, agent="127.0.0.1:18500").passing("web") == ["web"]
        for place in (here, container):
            assert not place.answers()
        host.stop_daemon()
