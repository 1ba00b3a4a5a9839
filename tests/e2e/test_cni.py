"""netd-cni called as runtimes call it: on a host with a daemon, alone and in chains."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import web
from tests.e2e.cluster_lab import Cluster
from tests.e2e.dying import MortalHost
from tests.e2e.lab import Host, Machine, Namespace, await_true
from tests.e2e.remains import Remains

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "netd/runtimes/cni/netd-cni"
REFERENCE = Path("/usr/lib/cni")
BLUE = {"name": "blue", "driver": "bridge", "subnets": ["10.20.0.0/24", "fd20::/64"]}


class Runtime:
    """Runs the plugins of a configuration list one after another, as libcni does."""

    def __init__(self, host: Machine, *plugins: dict[str, Any], version: str = "1.0.0") -> None:
        self._host = host
        self._version = version
        self._plugins = plugins or ({"type": "netd-cni", "network": "blue"},)
        self._results: dict[str, dict[str, Any]] = {}
        self.wishes: dict[str, Any] = {}

    def add(self, container: Namespace, *, args: str = "") -> dict[str, Any]:
        result = None
        for plugin in self._plugins:
            result = self.call("ADD", plugin, container, result, args=args)
        assert isinstance(result, dict)
        self._results[container.path] = result
        return result

    def delete(self, container: Namespace, *, netns: bool = True) -> None:
        for plugin in reversed(self._plugins):
            self.call("DEL", plugin, container, self._results.get(container.path), netns=netns)

    def check(self, container: Namespace) -> None:
        for plugin in self._plugins:
            self.call("CHECK", plugin, container, self._results[container.path])

    def gc(self, *valid: Namespace) -> None:
        entries = [{"containerID": f"c{each.pid}", "ifname": "eth0"} for each in valid]
        for plugin in self._plugins:
            self.call("GC", {**plugin, "cni.dev/valid-attachments": entries})

    def status(self) -> None:
        for plugin in self._plugins:
            self.call("STATUS", plugin)

    def call(
        self,
        command: str,
        plugin: dict[str, Any],
        container: Namespace | None = None,
        before: dict[str, Any] | None = None,
        *,
        netns: bool = True,
        args: str = "",
    ) -> dict[str, Any] | None:
        config = {"cniVersion": self._version, "name": "net", **plugin}
        if plugin["type"] == "netd-cni":
            config["socket"] = self._host.socket
        if self.wishes:
            config["runtimeConfig"] = self.wishes
        if before is not None:
            config["prevResult"] = before
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CNI_COMMAND": command,
            "CNI_PATH": str(REFERENCE),
        }
        if container is not None:
            environment["CNI_CONTAINERID"] = f"c{container.pid}"
            environment["CNI_IFNAME"] = "eth0"
            environment["CNI_NETNS"] = container.path if netns else ""
            environment["CNI_ARGS"] = args
        own = plugin["type"] == "netd-cni"
        program = PROGRAM if own else REFERENCE / str(plugin["type"])
        done = subprocess.run(
            self._host.wrap(str(program)),
            input=json.dumps(config),
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        output: dict[str, Any] | None = json.loads(done.stdout) if done.stdout else None
        if done.returncode:
            raise Refused(output or {"code": 0, "msg": done.stderr})
        return output


class Refused(Exception):
    """A plugin's error object."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["msg"])
        self.code = error["code"]


def await_gone(container: Namespace) -> None:
    """netd removes links in batches, a moment after its answer."""
    await_true(lambda: container.links() == [])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One host for the tests of this module."""
    with ExitStack() as stack:
        host = MortalHost(stack, tmp_path_factory.mktemp("cni"))
        host.start_daemon()
        yield host


@pytest.fixture
def blue(shared: Host) -> Iterator[Host]:
    """The host with a network `blue` and nothing else; what a test leaves there is removed."""
    shared.client.create_network(**BLUE)
    yield shared
    for endpoint in shared.client.endpoints():
        shared.client.detach(endpoint["id"])
    for network in shared.client.networks():
        shared.client.delete_network(network["id"])


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_a_containers_life(blue: Host, version: str) -> None:
    runtime = Runtime(blue, version=version)
    one, two = blue.container(), blue.container()
    result = runtime.add(one)
    assert [ip["address"] for ip in result["ips"]] == ["10.20.0.2/24", "fd20::2/64"]
    assert result["interfaces"][1]["sandbox"] == one.path
    runtime.check(one)
    runtime.add(two)
    assert two.pings("10.20.0.2")
    assert two.pings("fd20::2")
    assert two.pings(Host.OUTSIDE)
    assert runtime.add(one) == result
    for _ in range(3):
        runtime.delete(one)
    await_gone(one)
    with pytest.raises(Refused) as caught:
        runtime.call("CHECK", {"type": "netd-cni", "network": "blue"}, one, result)
    assert caught.value.code == 3
    two.end()
    runtime.delete(two, netns=False)
    assert blue.client.endpoints() == []


def test_an_add_is_one_call(blue: Host) -> None:
    """The plugin has the daemon do it, so that it need not import what it is made of."""
    before = posts(blue)
    Runtime(blue).add(blue.container())
    assert posts(blue) - before == Counter({'route="/v1/cni",status="200"': 1})
    with pytest.raises(Refused):
        Runtime(blue, {"type": "netd-cni", "network": "nobody"}).add(blue.container())
    assert (posts(blue) - before)['route="/v1/networks/{network}/endpoints",status="404"'] == 1


def posts(host: Host) -> Counter[str]:
    """How many POSTs were answered, by route and status."""
    start = 'netd_api_requests_total{method="POST",'
    found = [line for line in host.client.metrics().splitlines() if line.startswith(start)]
    pairs = [line.removeprefix(start).rpartition("} ") for line in found]
    return Counter({route: int(float(count)) for route, _, count in pairs})


def test_what_a_runtime_may_ask_for(blue: Host, stack: ExitStack) -> None:
    container = blue.container()
    runtime = Runtime(blue)
    runtime.wishes = {
        "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
        "bandwidth": {"ingressRate": 50_000_000, "ingressBurst": 2**32 - 1},
        "ips": ["10.20.0.77/24"],
        "mac": "02:00:00:00:00:77",
        "aliases": ["www"],
        "dns": {"servers": ["192.0.2.53"]},
    }
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;X=y"
    result = runtime.add(container, args=args)
    assert result["ips"][0]["address"] == "10.20.0.77/24"
    assert result["interfaces"][1]["mac"] == "02:00:00:00:00:77"
    assert result["dns"]["nameservers"] == ["192.0.2.53"]
    (endpoint,) = blue.client.endpoints()
    assert (endpoint["name"], endpoint["aliases"]) == ("web-0", ["www"])
    assert endpoint["labels"]["io.kubernetes.pod.namespace"] == "shop"
    assert endpoint["bandwidth"]["ingress_bps"] == 50_000_000
    assert "02:00:00:00:00:77" in container.run("ip", "link", "show", "eth0")
    server = web.serve(container, stack, 80)
    assert blue.outside.run(*server.get(Host.ADDRESS, 8080)).strip() == Host.OUTSIDE
    runtime.check(container)
    runtime.delete(container)


def test_refusals_leave_nothing(blue: Host) -> None:
    runtime = Runtime(blue)
    container, other = blue.container(), blue.container()

    def code(at: Namespace, wishes: dict[str, Any] | None = None, /, **plugin: Any) -> int:
        runtime.wishes = wishes or {}
        with pytest.raises(Refused) as caught:
            runtime.call("ADD", {"type": "netd-cni", "network": "blue", **plugin}, at)
        number: int = caught.value.code
        return number

    web_port = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    assert code(container, network="nowhere") == 7
    assert code(container, {"ips": ["10.99.0.1"]}) == 7
    assert code(container, {"mac": "nonsense"}) == 7
    assert code(blue) == 8  # the host's own namespace
    container.run("ip", "link", "add", "eth0", "type", "bridge")
    assert code(container) == 100
    container.run("ip", "link", "delete", "eth0")
    runtime.wishes = {**web_port, "ips": ["10.20.0.50"]}
    runtime.add(other)
    assert code(container, web_port) == 100
    assert code(container, {"ips": ["10.20.0.50"]}) == 100
    assert code(other, {"ips": ["10.20.0.51"]}) == 100
    full: dict[str, Any] = {"network": None, "name": "small", "subnet": "10.21.0.0/30"}
    runtime.wishes = {}
    runtime.call("ADD", {"type": "netd-cni", **full}, container)
    assert code(blue.container(), **full) == 11
    gone = blue.container()
    gone.end()
    assert code(gone) == 8
    assert [each["network"] for each in blue.client.endpoints()] == ["blue", "small"]
    assert blue.plan() == []


def test_the_same_twice_at_once(blue: Host) -> None:
    runtime = Runtime(blue)
    container = blue.container()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(runtime.add, [container] * 4))
    assert all(result == results[0] for result in results)
    assert len(blue.client.endpoints()) == 1
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(runtime.delete, [container] * 4))
    assert blue.client.endpoints() == []


def test_pod_cidrs(blue: Host) -> None:
    """The network of a node: made by the first pod, of both families, without masquerade."""
    ranges = [[{"subnet": "10.244.3.0/24"}], [{"subnet": "fd44:0:0:3::/64"}]]
    plugin = {
        "type": "netd-cni",
        "ipMasq": False,
        "isolated": False,
        "hairpinMode": True,
        "ipam": {"ranges": ranges},
    }
    runtime = Runtime(blue, plugin, version="1.1.0")
    runtime.status()
    pod, other = blue.container(), blue.container()
    result = runtime.add(pod)
    runtime.add(other)
    assert [ip["address"] for ip in result["ips"]] == ["10.244.3.2/24", "fd44:0:0:3::2/64"]
    blue.outside.run("ip", "route", "add", "10.244.3.0/24", "via", Host.ADDRESS)
    blue.outside.run("ip", "-6", "route", "add", "fd44:0:0:3::/64", "via", Host.ADDRESS6)
    assert blue.outside.pings("10.244.3.2")  # as another node's pods would
    assert blue.outside.pings("fd44:0:0:3::2")
    assert pod.pings(Host.OUTSIDE)
    assert blue.pings("10.244.3.3")
    (outside,) = [each["name"] for each in result["interfaces"] if each["name"].startswith("nv")]
    assert "hairpin on" in blue.run("bridge", "-details", "link", "show", "dev", outside)
    other_range = {**plugin, "ipam": {"ranges": [[{"subnet": "10.244.4.0/24"}]]}}
    with pytest.raises(Refused) as caught:
        Runtime(blue, other_range).add(blue.container())
    assert caught.value.code == 100
    runtime.gc(pod)
    assert [each["container_id"] for each in blue.client.endpoints()] == [f"c{pod.pid}"]
    runtime.delete(pod)


def test_a_network_of_all_hosts(stack: ExitStack, tmp_path: Path) -> None:
    """Each host's runtime puts its containers on the same overlay, by its name alone."""
    cluster = Cluster(stack, tmp_path, 2, profile="fast")
    cluster.start()
    cluster.join()
    one, two = cluster.hosts
    one.client.create_network(name="wide", driver="overlay", subnets=["10.50.0.0/16"])
    await_true(lambda: "wide" in {each["name"] for each in two.client.networks()}, 10)
    plugin = {"type": "netd-cni", "network": "wide"}
    here, there = one.container(), two.container()
    Runtime(two, plugin, version="1.1.0").status()
    first = Runtime(one, plugin).add(here)["ips"][0]["address"].partition("/")[0]
    result = Runtime(two, plugin, version="1.1.0").add(there)
    assert result["interfaces"][1]["mtu"] == 1450
    assert there.pings(first)


def test_the_first_of_a_chain(blue: Host) -> None:
    """The reference plugins find what they look for, and netd leaves alone what they make."""
    runtime = Runtime(
        blue,
        {"type": "netd-cni", "network": "blue"},
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "bandwidth", "ingressRate": 50_000_000, "ingressBurst": 1_000_000},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_notify": "1"}},
    )
    container = blue.container()
    blue.run("ip", "link", "set", "lo", "up")
    result = runtime.add(container)
    assert [ip["address"] for ip in result["ips"]] == ["10.20.0.2/24", "fd20::2/64"]
    (outside,) = [each["name"] for each in result["interfaces"] if each["name"].startswith("nv")]
    assert "tbf" in blue.run("tc", "qdisc", "show", "dev", outside)
    assert container.run("cat", "/proc/sys/net/ipv4/conf/eth0/arp_notify").strip() == "1"
    blue.client.reconcile()
    assert "tbf" in blue.run("tc", "qdisc", "show", "dev", outside)
    runtime.check(container)
    runtime.delete(container)
    await_gone(container)


def test_behind_another_plugin(blue: Host, tmp_path: Path) -> None:
    """A second interface; the default route is the first plugin's."""
    local = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(tmp_path / "leases"),
            "ranges": [[{"subnet": "10.99.0.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    runtime = Runtime(blue, local, {"type": "netd-cni", "network": "blue", "ifname": "blue0"})
    container = blue.container()
    result = runtime.add(container)
    assert [ip["address"] for ip in result["ips"]] == [
        "10.99.0.2/24",
        "10.20.0.2/24",
        "fd20::2/64",
    ]
    assert sorted(container.links()) == ["blue0", "eth0"]
    assert "default via 10.99.0.1" in container.run("ip", "route")
    # The plugin `bridge` takes all addresses of the chain for its own.
    runtime.call("CHECK", {"type": "netd-cni", "ifname": "blue0"}, container, result)
    runtime.delete(container)
    assert blue.client.endpoints() == []


def test_deleted_while_the_daemon_is_away(blue: Host) -> None:
    runtime = Runtime(blue, version="1.1.0")
    one, two = blue.container(), blue.container()
    runtime.add(one)
    runtime.add(two)
    blue.stop_daemon()
    with pytest.raises(Refused) as caught:
        runtime.status()
    assert caught.value.code == 50
    with pytest.raises(Refused) as caught:
        runtime.add(blue.container())
    assert caught.value.code == 11
    runtime.delete(one)
    runtime.delete(one)
    blue.start_daemon()
    assert [each["container_id"] for each in blue.client.endpoints()] == [f"c{two.pid}"]
    runtime.status()
    assert not list((blue.folder / "deleted").iterdir())
    runtime.add(one)  # the same container may come back
    assert one.pings("10.20.0.3")
    runtime.check(one)


def test_the_daemon_is_killed_during_an_add(blue: Host) -> None:
    """Answered, it is there afterwards. Else the runtime's DEL and the next start leave nothing."""
    runtime = Runtime(blue)
    outcomes = set()
    for delay_ms in (0, 8, 16, 24, 32, 40, 60, None):
        container = blue.container()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(runtime.add, container)
            if delay_ms is None:
                answer.exception(20)  # however long it takes, once it dies after the answer
            else:
                time.sleep(delay_ms / 1000)  # the moment of death is what is tried out
            blue.kill()
            error = answer.exception(20)
        if error is None:
            blue.start_daemon()
            runtime.check(container)
            runtime.delete(container)
        else:
            assert isinstance(error, Refused)
            assert error.code == 11
            runtime.delete(container)
            blue.start_daemon()
        outcomes.add(error is None)
        assert blue.client.endpoints() == []
        assert blue.plan() == []
        await_gone(container)
    assert outcomes == {True, False}  # it was killed before and after


def test_fifty_at_once(blue: Host) -> None:
    before = Remains.of(blue)
    runtime = Runtime(blue)
    containers = [blue.container() for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(runtime.add, containers))
        addresses = {ip["address"] for result in results for ip in result["ips"]}
        assert len(addresses) == 100
        assert containers[0].pings(results[49]["ips"][0]["address"].partition("/")[0])
        list(pool.map(runtime.delete, containers))
    for container in containers:
        await_gone(container)
    before.check(blue)


def test_runtimes_find_it_when_it_is_ready(cold_host: Host) -> None:
    file = cold_host.folder / "net.d/05-netd.conflist"
    settings = cold_host.folder / "netd.toml"
    settings.write_text(f'[cni]\nconflist = "{file}"\nname = "pods"\nwithdraw = true\n')
    cold_host.start_daemon("--config", str(settings))
    await_true(file.exists)
    listed = json.loads(file.read_text())
    (plugin,) = listed["plugins"]
    assert plugin["socket"] == cold_host.socket
    container = cold_host.container()
    Runtime(cold_host, plugin).add(container)
    assert container.pings(Host.OUTSIDE)
    cold_host.kill()
    assert file.exists()
    cold_host.start_daemon("--config", str(settings))
    cold_host.stop_daemon()
    assert not file.exists()
