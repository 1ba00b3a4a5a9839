"""What netd-cni asks the daemon for, from all the places where runtimes write it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli_daemon import Daemon, serving
from tests.unit.cni_lab import Plugin

LABELS = {
    "netd.runtime": "cni",
    "netd.runtime.network": "net",
    "netd.runtime.ifname": "eth0",
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path / "netd.sock")


def test_nothing_asked_for(daemon: Daemon, plugin: Plugin) -> None:
    assert plugin.body(daemon) == {
        "container_id": "box",
        "netns": "/run/netns/box",
        "ifname": "eth0",
        "labels": LABELS,
    }


LOWER: dict[str, Any] = {
    "portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": "192.0.2.10"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "0.0.0.0"},
        {"hostPort": 0, "containerPort": 9, "protocol": "tcp"},
        {"hostPort": 9000, "containerPort": 90},
    ],
    "bandwidth": {
        "ingressRate": 1_000_000,
        "ingressBurst": 2**32 - 1,
        "egressRate": 2**63,
        "egressBurst": 0,
    },
    "ips": ["10.20.0.9/24", "fd20::9"],
    "mac": "02:00:00:00:00:09",
    "aliases": ["www", "api"],
}
# As go-cni has them: fields without names for JSON.
UPPER: dict[str, Any] = {
    "PortMappings": [
        {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "192.0.2.10"},
        {"HostPort": 5353, "ContainerPort": 53, "Protocol": "udp", "HostIP": "::"},
        {"HostPort": 0, "ContainerPort": 9, "Protocol": "tcp"},
        {"HostPort": 9000, "ContainerPort": 90, "Protocol": "", "HostIP": ""},
    ],
    "Bandwidth": {"IngressRate": 1_000_000, "EgressRate": 2**63, "IngressBurst": 5},
    "IPs": ["10.20.0.9/24", "fd20::9"],
    "MAC": "02:00:00:00:00:09",
    "Aliases": {"net": ["www", "api"], "other": ["no"]},
}


@pytest.mark.parametrize("wishes", [LOWER, UPPER], ids=["lower", "upper"])
def test_capabilities(daemon: Daemon, plugin: Plugin, wishes: dict[str, Any]) -> None:
    body = plugin.body(daemon, runtimeConfig=wishes)
    assert body["ports"] == [
        {"host_port": 8080, "container_port": 80, "protocol": "tcp", "host_ip": "192.0.2.10"},
        {"host_port": 5353, "container_port": 53, "protocol": "udp"},
        {"host_port": 9000, "container_port": 90, "protocol": "tcp"},
    ]
    assert body["bandwidth"] == {"ingress_bps": 1_000_000}
    assert body["addresses"] == ["10.20.0.9/24", "fd20::9"]
    assert body["mac"] == "02:00:00:00:00:09"
    assert body["aliases"] == ["www", "api"]


def test_a_port_for_both_families_is_one(daemon: Daemon, plugin: Plugin) -> None:
    """Runtimes of dual-stack pods send one mapping for each family."""
    both = [{"hostPort": 80, "containerPort": 80, "hostIP": ip} for ip in ("0.0.0.0", "::", "")]
    body = plugin.body(daemon, runtimeConfig={"portMappings": both})
    assert body["ports"] == [{"host_port": 80, "container_port": 80, "protocol": "tcp"}]


def test_which_wish_goes_first(daemon: Daemon, plugin: Plugin) -> None:
    env = {"CNI_ARGS": "IP=10.20.0.3,fd20::3;MAC=02:00:00:00:00:03"}
    args = {"cni": {"ips": ["10.20.0.4"], "mac": "02:00:00:00:00:04"}}
    wishes = {"ips": ["10.20.0.5"], "mac": "02:00:00:00:00:05"}
    body = plugin.body(daemon, env)
    assert (body["addresses"], body["mac"]) == (["10.20.0.3", "fd20::3"], "02:00:00:00:00:03")
    body = plugin.body(daemon, env, args=args)
    assert (body["addresses"], body["mac"]) == (["10.20.0.4"], "02:00:00:00:00:04")
    body = plugin.body(daemon, env, args=args, runtimeConfig=wishes)
    assert (body["addresses"], body["mac"]) == (["10.20.0.5"], "02:00:00:00:00:05")


def test_pods(daemon: Daemon, plugin: Plugin) -> None:
    args = (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1;"
        "K8S_POD_INFRA_CONTAINER_ID=x;SOMETHING=else"
    )
    body = plugin.body(daemon, {"CNI_ARGS": args})
    assert body["name"] == "web-0"
    assert body["labels"] == {
        **LABELS,
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.name": "web-0",
        "io.kubernetes.pod.uid": "u-1",
    }
    for name in ("web.0", "w" * 64, "-web", ""):
        assert "name" not in plugin.body(daemon, {"CNI_ARGS": f"K8S_POD_NAME={name}"})


def test_labels(daemon: Daemon, plugin: Plugin) -> None:
    listed = [{"key": "netd.service", "value": "web:80"}]
    for labels in (listed, {"netd.service": "web:80"}):
        body = plugin.body(daemon, args={"cni": {"labels": labels}})
        assert body["labels"] == {**LABELS, "netd.service": "web:80"}
    taken = {"netd.runtime.network": "another"}
    assert plugin.body(daemon, args={"cni": {"labels": taken}})["labels"] == LABELS
    wrong: list[Any] = [[{"key": "k", "value": 1}], [{"value": "v"}], ["k"], {"k": 1}, "k"]
    for form in wrong:
        assert plugin("ADD", args={"cni": {"labels": form}})["code"] == 7


@pytest.mark.parametrize(
    "wishes",
    [
        {"portMappings": {}},
        {"portMappings": ["80"]},
        {"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": 6}]},
        {"bandwidth": [1]},
        {"bandwidth": {"ingressRate": "1m"}},
        {"bandwidth": {"ingressRate": True}},
        {"bandwidth": {"egressRate": -1}},
        {"ips": "10.0.0.1"},
        {"ips": [1]},
        {"aliases": [None]},
    ],
)
def test_wishes_of_the_wrong_form(plugin: Plugin, wishes: dict[str, Any]) -> None:
    assert plugin("ADD", runtimeConfig=wishes)["code"] == 7


def test_default_routes(daemon: Daemon, plugin: Plugin) -> None:
    plugin.config["network"] = ...

    def asked(**config: Any) -> Any:
        return plugin.body(daemon, network=..., **config).get("default_route")

    assert asked() is None
    assert asked(defaultRoute=False) is False
    assert asked(ipam={"routes": []}) is False
    assert asked(ipam={"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}) is None
    assert asked(prevResult={"routes": [{"dst": "::/0", "gw": "fd00::1"}]}) is False
    assert asked(prevResult={"routes": [{"dst": "10.0.0.0/8"}]}) is None
    routed = {"routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.9"}]}
    assert plugin("ADD", network=..., ipam=routed)["code"] == 2


def test_dns_of_the_result(daemon: Daemon, plugin: Plugin) -> None:
    plugin.body(daemon)
    asked = {"Servers": ["192.0.2.53"], "Searches": ["a.example"], "Options": ["ndots:2"]}
    result = plugin("ADD", runtimeConfig={"dns": asked}, dns={"domain": "example"})
    assert result["dns"] == {
        "nameservers": ["192.0.2.53"],
        "search": ["a.example"],
        "options": ["ndots:2"],
        "domain": "example",
    }
    result = plugin("ADD", dns={"nameservers": ["192.0.2.54"]})
    assert result["dns"] == {"nameservers": ["192.0.2.54"], "search": ["blue.netd.internal"]}


RANGES = [
    [{"subnet": "10.244.3.0/24", "gateway": "10.244.3.1"}],
    [{"Subnet": "fd44:0:0:3::/64"}],
]


@pytest.mark.parametrize(
    ("config", "network"),
    [
        ({}, {}),
        ({"subnet": "10.0.0.0/24"}, {"subnets": ["10.0.0.0/24"]}),
        (
            {"ipam": {"type": "host-local", "subnet": "10.0.0.0/24", "gateway": "10.0.0.9"}},
            {"subnets": ["10.0.0.0/24"], "gateways": ["10.0.0.9"]},
        ),
        (
            {"ipam": {"ranges": RANGES}, "ipMasq": False, "isolated": False, "hairpinMode": True},
            {
                "subnets": ["10.244.3.0/24", "fd44:0:0:3::/64"],
                "gateways": ["10.244.3.1"],
                "isolated": False,
                "options": {"masquerade": False, "hairpin": True},
            },
        ),
        (
            {"runtimeConfig": {"ipRanges": RANGES}, "ipam": {"ranges": [[{"subnet": "x"}]]}},
            {"subnets": ["10.244.3.0/24", "fd44:0:0:3::/64"], "gateways": ["10.244.3.1"]},
        ),
        (
            {"subnets": ["10.0.0.0/24"], "range": "10.0.0.128/25", "mtu": 1400, "internal": True},
            {
                "subnets": ["10.0.0.0/24"],
                "mtu": 1400,
                "internal": True,
                "options": {"range": "10.0.0.128/25"},
            },
        ),
        ({"name": "Net"}, {}),
    ],
)
def test_local_networks(
    daemon: Daemon, plugin: Plugin, config: dict[str, Any], network: dict[str, Any]
) -> None:
    plugin.body(daemon, network=..., **config)
    assert daemon.calls[0].body == {"name": "net", "driver": "bridge", **network}


@pytest.mark.parametrize(
    ("ipam", "code"),
    [
        ({"ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9"}]]}, 2),
        ({"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.1.0/24"}]]}, 2),
        ({"ranges": [[]]}, 2),
        ({"ranges": {}}, 7),
        ({"ranges": [["10.0.0.0/24"]]}, 7),
        ({"subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.99"}, 2),
        ({"type": "static"}, 2),
        ([], 7),
    ],
)
def test_local_networks_that_netd_does_not_make(plugin: Plugin, ipam: Any, code: int) -> None:
    error = plugin("ADD", network=..., ipam=ipam)
    assert error["code"] == code, error
