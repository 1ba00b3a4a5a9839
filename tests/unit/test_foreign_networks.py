"""Networks of other engines in netd's words: documents as the engines write them."""

from typing import Any

import pytest

from netd.cli.foreign import cni, docker, podman
from netd.cli.foreign.found import Found, Kept, command, judge

RED: dict[str, Any] = {
    "Name": "red",
    "Id": "7d86d31b1478e7cca9ebed7e73aa0fdeec46c5ca29497431d3007d2d9e15ed99",
    "Created": "2026-01-02T03:04:05.678901234Z",
    "Scope": "local",
    "Driver": "bridge",
    "EnableIPv6": False,
    "IPAM": {
        "Driver": "default",
        "Options": {},
        "Config": [
            {"Subnet": "172.30.0.0/24", "Gateway": "172.30.0.254", "IPRange": "172.30.0.128/25"}
        ],
    },
    "Internal": False,
    "Attachable": False,
    "Ingress": False,
    "ConfigFrom": {"Network": ""},
    "ConfigOnly": False,
    "Containers": {},
    "Options": {"com.docker.network.driver.mtu": "1400"},
    "Labels": {"com.docker.compose.project": "shop"},
}
CONTAINER: dict[str, Any] = {
    "Id": "8dfafdbc3a40e5ba9c1c0c7b3a8a9c9b6c6c0d6a1a1d5d5d5d5d5d5d5d5d5d5d",
    "Names": ["/web"],
    "NetworkSettings": {
        "Networks": {
            "red": {
                "IPAMConfig": {"IPv4Address": "172.30.0.9"},
                "IPAddress": "172.30.0.9",
                "MacAddress": "02:42:ac:1e:00:09",
            },
            "bridge": {"IPAMConfig": None, "IPAddress": "172.17.0.2"},
        }
    },
}
POD: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "ranges": [
                    [{"subnet": "10.22.0.0/16", "gateway": "10.22.0.1"}],
                    [{"subnet": "2001:4860:4860::/64"}],
                ],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
PASTA: dict[str, Any] = {
    "name": "pasta",
    "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
    "driver": "bridge",
    "network_interface": "podman1",
    "created": "2026-01-02T03:04:05.678901234Z",
    "subnets": [
        {
            "subnet": "10.89.0.0/24",
            "gateway": "10.89.0.1",
            "lease_range": {"start_ip": "10.89.0.64", "end_ip": "10.89.0.127"},
        }
    ],
    "ipv6_enabled": False,
    "internal": False,
    "dns_enabled": True,
    "options": {"isolate": "true", "mtu": "1400"},
    "ipam_options": {"driver": "host-local"},
}
BLUE = {
    "name": "blue", "driver": "bridge", "subnets": ["172.30.0.0/16"], "gateways": ["172.30.0.1"],
    "internal": False, "isolated": True, "mtu": 1500, "labels": {}, "options": {}, "parent": None,
}  # fmt: skip


def of_docker(**changes: Any) -> Found:
    (found,) = docker.networks([RED | changes], [CONTAINER])
    return found


def of_cni(**changes: Any) -> Found:
    (found,) = cni.networks([("10-pods.conflist", changed_plugin(**changes))], {})
    return found


def changed_plugin(**changes: Any) -> dict[str, Any]:
    main, *others = POD["plugins"]
    return POD | {"plugins": [main | changes, *others]}


def of_podman(**changes: Any) -> Found:
    (found,) = podman.networks([("pasta.json", PASTA | changes)])
    return found


def test_a_bridge_of_docker() -> None:
    found = of_docker()
    assert found.spec == {
        "name": "red", "driver": "bridge", "subnets": ["172.30.0.0/24"],
        "gateways": ["172.30.0.254"], "mtu": 1400, "labels": {"com.docker.compose.project": "shop"},
        "options": {"range": "172.30.0.128/25"},
    }  # fmt: skip
    assert found.kept == (Kept("172.30.0.9", "web"),)
    assert (found.link, found.removal) == ("br-7d86d31b1478", "docker network rm red")
    assert (found.refused, found.notes) == ("", ())


def test_an_internal_bridge_of_docker_has_no_gateway_to_take_over() -> None:
    assert "gateways" not in of_docker(Internal=True).spec
    assert of_docker(Internal=True).spec["internal"] is True


def test_options_of_dockers_bridges() -> None:
    found = of_docker(
        Options={
            "com.docker.network.bridge.name": "red0",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "false",
            "com.docker.network.bridge.host_binding_ipv4": "192.0.2.1",
        }
    )
    assert found.link == "red0"
    assert found.spec["options"]["masquerade"] is False
    assert found.notes == (
        "option com.docker.network.bridge.host_binding_ipv4=192.0.2.1 is not taken over",
    )


def test_a_macvlan_of_docker() -> None:
    found = of_docker(Driver="macvlan", Options={"parent": "eth0.5", "macvlan_mode": "private"})
    assert (found.spec["parent"], found.spec["options"]["mode"]) == ("eth0.5", "private")
    assert found.link == ""  # it holds no subnet on the host


def test_reserved_addresses_of_docker_are_listed() -> None:
    config = RED["IPAM"]["Config"][0] | {"AuxiliaryAddresses": {"router": "172.30.0.2"}}
    found = of_docker(IPAM={"Driver": "default", "Config": [config]})
    assert found.kept[0] == Kept("172.30.0.2", "router")


@pytest.mark.parametrize(
    "changes",
    [{"Name": "bridge"}, {"Name": "host", "Driver": "host"}, {"Driver": "netd"}, {"Ingress": True}],
)
def test_what_is_not_a_users_or_netds_already_is_left_out(changes: dict[str, Any]) -> None:
    assert docker.networks([RED | changes], []) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Driver": "overlay", "Scope": "swarm"}, "driver overlay is not taken over"),
        ({"Driver": "macvlan", "Options": {}}, "it has no parent"),
        ({"Options": {"com.docker.network.bridge.enable_icc": "false"}}, "enable_icc=false"),
        ({"IPAM": {"Driver": "infoblox", "Config": []}}, "IPAM driver infoblox"),
        (
            {"IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}, {"Subnet": "10.2.0.0/24"}]}},
            "several subnets of one family",
        ),
        ({"Name": "-"}, "netd's names"),
        ({"Options": {"com.docker.network.driver.mtu": "much"}}, "it cannot be read: ValueError"),
        ({"IPAM": "none"}, "it cannot be read: AttributeError"),
        ({"IPAM": {"Config": [{"Subnet": "nonsense"}]}}, "it cannot be read: ValueError"),
    ],
)
def test_what_docker_has_and_netd_cannot_says_why(changes: dict[str, Any], why: str) -> None:
    assert why in of_docker(**changes).refused


def test_a_bridge_of_cni_with_leases() -> None:
    files = [
        ("10.22.0.10", "beef\r\neth0"), ("10.22.0.9", "cafe\r\neth0"),
        ("last_reserved_ip.0", "10.22.0.10"), ("lock", ""),
    ]  # fmt: skip
    (found,) = cni.networks([("10-pods.conflist", POD)], {"pods": files})
    assert found.spec == {
        "name": "pods", "driver": "bridge", "subnets": ["10.22.0.0/16", "2001:4860:4860::/64"],
        "gateways": ["10.22.0.1"],
    }  # fmt: skip
    assert found.kept == (Kept("10.22.0.9", "cafe"), Kept("10.22.0.10", "beef"))
    assert (found.link, found.removal) == ("cni0", "ip link del cni0")


def test_a_bridge_of_podman_by_cni() -> None:
    bridge = {**POD["plugins"][0], "bridge": "cni-podman1"}
    document = {**POD, "args": {"podman_labels": {"team": "a"}}, "plugins": [bridge]}
    (found,) = cni.networks([("pods.conflist", document)], {})
    assert found.spec["labels"] == {"team": "a"}
    assert found.removal == "podman network rm pods"


def test_one_plugin_alone_is_a_configuration_of_cni_too() -> None:
    alone = {**POD["plugins"][0], "name": "pods", "cniVersion": "0.4.0"}
    (found,) = cni.networks([("10-pods.conf", alone)], {})
    assert found.spec["name"] == "pods"


def test_what_cni_says_of_the_way_out() -> None:
    assert of_cni(ipMasq=False).spec["options"] == {"masquerade": False}
    plain = of_cni(isGateway=False)
    assert plain.spec["internal"] is True
    assert plain.notes == (
        "its bridge has no address; that of an internal network of netd has one",
    )


def test_ranges_of_cni() -> None:
    part = {"subnet": "10.22.0.0/24", "rangeStart": "10.22.0.64", "rangeEnd": "10.22.0.127"}
    found = of_cni(ipam={"type": "host-local", **part, "routes": [{"dst": "10.0.0.0/8"}]})
    assert found.spec["options"] == {"range": "10.22.0.64/26"}
    assert found.notes == ("the route to 10.0.0.0/8 is not taken over",)
    without_first = of_cni(ipam={"type": "host-local", **part, "rangeStart": "10.22.0.65"})
    assert without_first.spec["options"] == {"range": "10.22.0.64/26"}
    odd = of_cni(ipam={"type": "host-local", **part, "rangeEnd": "10.22.0.100"})
    assert odd.notes == ("the range 10.22.0.64-10.22.0.100 is no subnet: not taken over",)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (changed_plugin(type="calico"), "plugin calico is not taken over"),
        (changed_plugin(ipam={"type": "dhcp"}), "given by dhcp"),
        (changed_plugin(ipam={}), "given by nobody"),
        (changed_plugin(ipam={"type": "host-local"}), "no subnet"),
        (changed_plugin(type="macvlan"), "names no master"),
        ({"name": "pods", "plugins": []}, "it cannot be read: IndexError"),
        ({"plugins": POD["plugins"]}, "it cannot be read: KeyError"),
        (["no", "table"], "it is no JSON object"),
        ("{ no JSON", "it is no JSON object"),
    ],
)
def test_what_cni_has_and_netd_cannot_says_why(document: Any, why: str) -> None:
    (found,) = cni.networks([("10-pods.conflist", document)], {})
    assert why in found.refused


def test_netds_own_configuration_of_cni_is_left_out() -> None:
    assert cni.networks([("05-netd.conflist", changed_plugin(type="netd-cni"))], {}) == []


def test_a_bridge_of_podman() -> None:
    found = of_podman()
    assert found.spec == {
        "name": "pasta", "driver": "bridge", "subnets": ["10.89.0.0/24"],
        "gateways": ["10.89.0.1"], "mtu": 1400, "options": {"range": "10.89.0.64/26"},
    }  # fmt: skip
    assert (found.link, found.removal) == ("podman1", "podman network rm pasta")
    assert of_podman(options={}).spec["isolated"] is False  # as Podman has it unasked


def test_a_macvlan_of_podman_is_on_its_interface() -> None:
    found = of_podman(driver="macvlan", network_interface="eth0", options={"mode": "bridge"})
    assert (found.spec["parent"], found.link) == ("eth0", "")
    assert "no parent" in of_podman(driver="macvlan", network_interface="", options={}).refused
    assert "given by dhcp" in of_podman(ipam_options={"driver": "dhcp"}).refused
    assert podman.networks([("n.json", PASTA | {"driver": "netd"})]) == []


def test_what_is_there_already_is_the_same_or_differs() -> None:
    found = of_docker()
    same = {**BLUE, **found.spec, "labels": {}}
    (item,) = judge([found], [same], [found.link])
    assert (item.state, item.why) == ("same", "")
    (item,) = judge([found], [same | {"mtu": 1500, "isolated": False}], [])
    assert (item.state, item.why) == ("differs", "netd's network red has another mtu, isolated")


def test_a_bridge_that_is_there_holds_its_subnet() -> None:
    found = of_docker()
    (item,) = judge([found], [], ["lo", "br-7d86d31b1478"])
    assert item.state == "held"
    assert "br-7d86d31b1478 holds the subnet" in item.why
    assert judge([found], [], ["lo"])[0].state == "new"


def test_overlaps_and_names_taken_twice() -> None:
    (item,) = judge([of_docker()], [BLUE], [])
    assert (item.state, item.why) == ("cannot", "172.30.0.0/24 overlaps network blue")
    items = judge([of_docker(), of_docker(Name="Red"), of_docker(Name="rot")], [], [])
    assert [item.state for item in items] == ["new", "cannot", "cannot"]
    assert "is called red" in items[1].why
    assert "overlaps network red" in items[2].why


def test_the_command_makes_the_same() -> None:
    found = of_docker(Labels={"a": "it's; $(reboot)"})
    assert command("netctl", found.spec) == (
        "netctl network create red --subnet 172.30.0.0/24 --gateway 172.30.0.254 --mtu 1400 "
        """--label 'a=it'"'"'s; $(reboot)' --option range=172.30.0.128/25"""
    )
