"""netd-cni under containerd's Container Runtime Interface, as kubelet uses it: a node's readiness,
pods, restarts, deaths and a reboot.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from netd.runtimes.shim.daemon import tombstones_of
from tests.e2e.lab import Host, await_true
from tests.e2e.remains import Remains
from tests.interop import grpc
from tests.interop.containerd import CONFLIST, installed
from tests.interop.cri import CriHost, Pod, PodSpec
from tests.interop.reach import answers

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not installed(), reason="containerd is not installed"),
]

CIDRS = 'subnets = ["10.244.3.0/24", "fd44:0:0:3::/64"]\nmasquerade = false\n'
SEVERAL = 10
WEB = ("httpd", "-f", "-p", "80")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CriHost]:
    """A node with its pod CIDRs, to which there is a way from outside."""
    with ExitStack() as stack:
        host = CriHost(stack, tmp_path_factory.mktemp("cri"), f'name = "pods"\n{CIDRS}')
        host.start_runtime()
        host.import_image()
        host.start_daemon()
        await_true(lambda: host.network_ready()[0])
        for family, cidr, via in (("-4", "10.244.0.0/16", host.ADDRESS),
                                  ("-6", "fd44::/32", host.ADDRESS6)):  # fmt: skip
            host.outside.run("ip", family, "route", "add", cidr, "via", via)
        yield host


@pytest.fixture
def peer(node: CriHost) -> Iterator[Pod]:
    """A pod that goes on for the test."""
    pod = node.run_pod(PodSpec("peer"))
    yield pod
    for sandbox in node.sandboxes():
        node.end_pod(sandbox)
    assert node.client.endpoints() == []


def endpoint_of(node: CriHost, pod: Pod) -> dict[str, Any]:
    (found,) = node.client.endpoints(container_id=pod.sandbox)
    return found


def attached(node: CriHost) -> set[str]:
    return {each["container_id"] for each in node.client.endpoints()}


def pings(node: CriHost, pod: Pod, *addresses: str) -> bool:
    return all("1 packets rec" in node.exec(pod, "ping", "-c1", "-W2", ip) for ip in addresses)


def test_a_node_is_ready_while_its_configuration_is_there(tmp_path: Path) -> None:
    """kubelet takes no pods before. A configuration that is replaced is the one for new pods."""
    with ExitStack() as stack:
        host = CriHost(stack, tmp_path, f"{CIDRS}withdraw = true\n")
        host.start_runtime()
        assert host.network_ready() == (
            False,
            "Network plugin returns error: cni plugin not initialized",
        )
        host.start_daemon()
        await_true(lambda: host.network_ready()[0])
        host.import_image()
        host.run("sh", "-c", f"sed s/10.244.3/10.244.4/ {CONFLIST} >/etc/cni/net.d/00.conflist")
        host.run("sed", "-i", 's/"name": "netd"/"name": "first"/', "/etc/cni/net.d/00.conflist")
        await_true(lambda: "first" in host.loaded_networks())
        sandbox = host.run_sandbox(PodSpec("moved"))
        assert host.ips(sandbox)[0] == "10.244.4.2"
        host.run("rm", "/etc/cni/net.d/00.conflist")
        await_true(lambda: "first" not in host.loaded_networks())
        # Its DEL names another network; its address is free when its namespace has ended.
        host.end_pod(sandbox)
        await_true(lambda: host.client.endpoints() == [])
        host.stop_daemon()
        await_true(lambda: not host.network_ready()[0])


def test_a_pod_has_what_kubelet_asked_for(node: CriHost, peer: Pod) -> None:
    spec = PodSpec(
        "web",
        namespace="shop",
        ports=[("tcp", 8080, 80), ("udp", 5353, 53), ("tcp", 0, 9090)],
        annotations={
            "kubernetes.io/ingress-bandwidth": "10M",
            "kubernetes.io/egress-bandwidth": "20M",
        },
        servers=["10.96.0.10"],
    )
    web = node.run_pod(spec, *WEB)
    endpoint = endpoint_of(node, web)
    assert [each.partition("/")[0] for each in endpoint["addresses"]] == web.ips
    assert web.ips[0].startswith("10.244.3.")
    assert web.ips[1].startswith("fd44:0:0:3::")
    assert endpoint["name"] == "web"
    assert endpoint["bandwidth"] == {"ingress_bps": 10_000_000, "egress_bps": 20_000_000}
    assert {(port["protocol"], port["host_port"]) for port in endpoint["ports"]} == {
        ("tcp", 8080),
        ("udp", 5353),
    }
    labels = {key.rpartition(".")[2]: value for key, value in endpoint["labels"].items()}
    assert labels.items() >= {"name": "web", "namespace": "shop", "uid": spec.uid}.items()
    assert "nameserver 10.96.0.10" in node.exec(web, "cat", "/etc/resolv.conf")

    assert pings(node, peer, *web.ips, Host.ADDRESS, Host.OUTSIDE, Host.OUTSIDE6)
    # The node itself, as for kubelet's probes; and without translation from elsewhere.
    assert all(answers(node, f"http://{host}/") for host in (web.ips[0], f"[{web.ips[1]}]"))
    assert node.outside.pings(web.ips[0])
    for host in (Host.ADDRESS, f"[{Host.ADDRESS6}]"):
        assert answers(node.outside, f"http://{host}:8080/")
    asked = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {Host.ADDRESS} 8080"
    for pod in (peer, web):
        assert "404 Not Found" in node.exec(pod, "sh", "-c", asked)


def test_a_pod_of_the_host_s_network_is_none_of_netd_s(node: CriHost, peer: Pod) -> None:
    pod = node.run_pod(PodSpec("proxy", host_network=True))
    assert pod.ips == []
    assert Host.ADDRESS in node.exec(pod, "ip", "address")
    assert pings(node, pod, *peer.ips)
    assert attached(node) == {peer.sandbox}


def test_a_port_that_another_pod_has_is_refused_and_leaves_nothing(
    node: CriHost, peer: Pod
) -> None:
    first = node.run_pod(PodSpec("first", ports=[("tcp", 8080, 80)]))
    with pytest.raises(grpc.Refused, match=r"tcp 0\.0\.0\.0:8080 is taken"):
        node.run_pod(PodSpec("second", ports=[("tcp", 8080, 80)]))
    assert attached(node) == {peer.sandbox, first.sandbox}
    node.end_pod(first.sandbox)
    second = node.run_pod(PodSpec("second", ports=[("tcp", 8080, 80)], attempt=1))
    assert endpoint_of(node, second)["ports"][0]["host_port"] == 8080


def test_ten_pods_come_and_go_at_once(node: CriHost, peer: Pod) -> None:
    before = Remains.of(node)
    with ThreadPoolExecutor(SEVERAL) as pool:
        pods = list(pool.map(node.run_pod, [PodSpec(f"m{at}") for at in range(SEVERAL)]))
        assert len({ip for pod in pods for ip in pod.ips}) == 2 * SEVERAL
        assert all(pool.map(lambda pod: pings(node, pod, *peer.ips), pods))
        list(pool.map(node.end_pod, [pod.sandbox for pod in pods]))
    before.check(node)


def test_a_sandbox_that_died_is_made_anew(node: CriHost, peer: Pod) -> None:
    """Its namespace, and with it its place, is there until kubelet stops it."""
    port = [("tcp", 8080, 80)]
    dead = node.run_pod(PodSpec("web", ports=port))
    node.run("kill", "-9", *map(str, node.pids(dead)))
    await_true(lambda: not node.sandboxes()[dead.sandbox])
    assert attached(node) == {peer.sandbox, dead.sandbox}
    node.stop_pod(dead.sandbox)
    node.stop_pod(dead.sandbox)
    fresh = node.run_pod(PodSpec("web", ports=port, attempt=1), *WEB)
    assert fresh.ips == dead.ips  # it goes by the name
    node.end_pod(dead.sandbox)
    assert answers(node.outside, f"http://{Host.ADDRESS}:8080/")


def test_pods_live_while_both_die_and_come_back(node: CriHost, peer: Pod) -> None:
    other = node.run_pod(PodSpec("other"))
    node.kill()
    node.kill_runtime()
    node.start_daemon()
    node.start_runtime()
    assert node.network_ready()[0]
    assert node.sandboxes() == {peer.sandbox: True, other.sandbox: True}
    assert node.ips(other.sandbox) == other.ips
    assert pings(node, other, *peer.ips)
    assert node.plan() == []


def test_without_netd_no_pod_comes_and_those_there_may_go(node: CriHost, peer: Pod) -> None:
    """Both stop, and containerd starts first."""
    gone = node.run_pod(PodSpec("gone"))
    node.stop_runtime()
    node.stop_daemon()
    node.start_runtime()
    assert pings(node, gone, *peer.ips)
    with pytest.raises(grpc.Refused, match="netd cannot be reached"):
        node.run_pod(PodSpec("late"))
    node.end_pod(gone.sandbox)
    assert node.sandboxes() == {peer.sandbox: True}
    assert gone.sandbox in node.run("sh", "-c", f"cat {tombstones_of(node.socket)}/*")
    node.start_daemon()
    assert attached(node) == {peer.sandbox}
    assert pings(node, node.run_pod(PodSpec("late")), *peer.ips)


def test_after_a_reboot_pods_are_made_anew(node: CriHost, peer: Pod) -> None:
    """kubelet stops what was there and begins before netd is there, or after."""
    web = node.run_pod(PodSpec("web", ports=[("tcp", 8080, 80)]))
    node.reboot([peer, web])
    node.start_runtime()
    assert node.sandboxes() == {peer.sandbox: False, web.sandbox: False}
    node.stop_pod(peer.sandbox)
    node.start_daemon()
    assert attached(node) == set()
    node.stop_pod(web.sandbox)
    fresh = node.run_pod(PodSpec("web", ports=[("tcp", 8080, 80)], attempt=1), *WEB)
    assert fresh.ips == web.ips
    assert answers(node.outside, f"http://{Host.ADDRESS}:8080/")
    assert node.plan() == []
