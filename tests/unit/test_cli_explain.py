"""`netctl explain` and `netctl topology`: what they print, and the picture."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.unit.cli_daemon import Daemon, Netctl, serving

STEPS = [
    {"name": "name", "status": "ok", "detail": "web-1 is 10.20.0.2", "remedy": ""},
    {
        "name": "forwarding",
        "status": "failed",
        "detail": "missing: fdb 0e:aa:0a:14:00:03 dev nx-blue dst 192.0.2.20",
        "remedy": "netctl reconcile",
    },
    {"name": "underlay", "status": "skipped", "detail": "not judged", "remedy": ""},
]
FAILED = {
    "from": "web-1",
    "to": "db-1",
    "protocol": "tcp",
    "port": 5432,
    "node": "host-1",
    "result": "failed",
    "failed": "forwarding",
    "steps": STEPS,
}
OK = FAILED | {"result": "ok", "failed": None, "steps": STEPS[:1]}
ONE, TWO = "1" * 32, "2" * 32


def host(host_id: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": host_id,
        "name": name,
        "address": f"192.0.2.{host_id[0]}0:7940",
        "state": "alive",
        "own": host_id == ONE,
        "rtt_ms": 0.41 if host_id != ONE else 0.0,
    } | more


def network(name: str, driver: str, *hosts: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name * 3,
        "name": name,
        "driver": driver,
        "subnets": ["10.20.0.0/24", "fd20::/64"],
        "vni": 4097 if driver == "overlay" else None,
        "hosts": list(hosts),
    } | more


def endpoint(name: str, on: str, host_id: str, *addresses: str) -> dict[str, Any]:
    return {
        "id": f"{name}-id",
        "name": name,
        "container_id": f"c-{name}",
        "network": on * 3,
        "host": host_id,
        "addresses": list(addresses),
    }


TOPOLOGY = {
    "hosts": [host(ONE, "host-1"), host(TWO, "host-2", state="suspect")],
    "networks": [
        network("blue", "overlay", ONE, TWO),
        network("green", "overlay", subnets=["10.30.0.0/24"]),
        network("host", "host", ONE, subnets=[]),
        network("red", "bridge", ONE, subnets=["10.40.0.0/24"]),
    ],
    "endpoints": [
        endpoint("db-1", "blue", TWO, "10.20.0.3/24", "fd20::3/64"),
        endpoint("proxy", "host", ONE, "192.0.2.10/24"),
        endpoint("web-1", "blue", ONE, "10.20.0.2/24", "fd20::2/64"),
        endpoint("web-2", "blue", ONE, "10.20.0.4/24"),
        endpoint("web-9", "red", ONE),
    ],
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


@pytest.fixture
def netctl(daemon: Daemon) -> Netctl:
    return Netctl(daemon.path)


def test_a_step_that_fails_is_exit_code_1(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/explain", FAILED)
    result = netctl("explain", "web-1", "db-1", "--port", "5432")
    assert result.stdout == (
        "ok       name        web-1 is 10.20.0.2\n"
        "failed   forwarding  missing: fdb 0e:aa:0a:14:00:03 dev nx-blue dst 192.0.2.20\n"
        "                     remedy: netctl reconcile\n"
        "skipped  underlay    not judged\n"
    )
    assert result.stderr == "web-1 to db-1: fails at forwarding\n"
    assert result.exit_code == 1
    assert daemon.calls[0].target == "/v1/explain?from=web-1&to=db-1&protocol=tcp&port=5432"


def test_a_way_that_is_open(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/explain", OK)
    result = netctl("explain", "web-1", "fd20::3", "--protocol", "udp")
    assert (result.stderr, result.exit_code) == ("web-1 to db-1: ok\n", 0)
    assert daemon.calls[0].target == "/v1/explain?from=web-1&to=fd20%3A%3A3&protocol=udp"


def test_what_could_not_be_asked_is_said(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/explain", OK | {"result": "unknown"})
    result = netctl("explain", "web-1", "db-1")
    assert result.stderr == "web-1 to db-1: nothing fails, but not all could be judged\n"
    assert result.exit_code == 0


def test_json_is_what_the_api_answers(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/explain", FAILED)
    result = netctl("explain", "web-1", "db-1", "--json")
    assert (json.loads(result.stdout), result.stderr, result.exit_code) == (FAILED, "", 1)
    daemon.on("GET", "/v1/topology", TOPOLOGY)
    assert json.loads(netctl("topology", "--json").stdout) == TOPOLOGY


def test_what_another_host_says_cannot_steer_the_terminal(daemon: Daemon, netctl: Netctl) -> None:
    step = STEPS[0] | {"detail": "\x1b[2Jweb"}
    daemon.on("GET", "/v1/explain", OK | {"steps": [step], "from": "\x1b[2J"})
    result = netctl("explain", "web-1", "db-1")
    assert "\x1b" not in result.stdout + result.stderr
    evil = copy.deepcopy(TOPOLOGY)
    evil["endpoints"][0]["name"] = evil["hosts"][1]["name"] = "\x1b[2J"
    daemon.on("GET", "/v1/topology", evil)
    assert "\x1b" not in netctl("topology").stdout


def test_the_topology_is_a_tree(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/topology", TOPOLOGY)
    assert (
        netctl("topology").stdout
        == """\
host-1  192.0.2.10:7940  this host
|- blue  overlay  10.20.0.0/24,fd20::/64  VNI 4097  === host-2
|  |- web-1  10.20.0.2,fd20::2
|  `- web-2  10.20.0.4
|- host  host
|  `- proxy  192.0.2.10
`- red  bridge  10.40.0.0/24
   `- web-9
host-2  192.0.2.20:7940  suspect  0.4 ms
`- blue  overlay  10.20.0.0/24,fd20::/64  VNI 4097  === host-1
   `- db-1  10.20.0.3,fd20::3
on no host
`- green  overlay  10.30.0.0/24  VNI 4097
"""
    )


def boxes(picture: str, kind: str) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom of each rectangle of a class."""
    found = []
    for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect"):
        if kind in (element.get("class") or "").split():
            left, top, width, height = (
                int(element.get(name) or 0) for name in ("x", "y", "width", "height")
            )
            found.append((left, top, left + width, top + height))
    return found


def inside(inner: tuple[int, int, int, int], outer: tuple[int, int, int, int]) -> bool:
    return outer[0] < inner[0] < inner[2] < outer[2] and outer[1] < inner[1] < inner[3] < outer[3]


def overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_the_picture_has_each_thing_in_its_place(
    daemon: Daemon, netctl: Netctl, tmp_path: Path
) -> None:
    daemon.on("GET", "/v1/topology", TOPOLOGY)
    assert netctl("topology", "--svg", str(tmp_path / "net.svg")).exit_code == 0
    picture = (tmp_path / "net.svg").read_text()
    hosts = boxes(picture, "host")
    (overlay,) = boxes(picture, "overlay")
    local, endpoints = boxes(picture, "local"), boxes(picture, "endpoint")
    assert (len(hosts), len(local), len(endpoints)) == (2, 2, 5)
    assert overlay[0] > hosts[0][0]
    assert overlay[2] > hosts[1][0]  # it reaches from one to the other
    assert all(inside(box, hosts[0]) for box in local)
    networks = [overlay, *local]
    assert all(sum(inside(box, outer) for outer in networks) == 1 for box in endpoints)
    assert all(sum(inside(box, outer) for outer in hosts) == 1 for box in endpoints)
    for group in (hosts, networks, endpoints):
        pairs = [(a, b) for at, a in enumerate(group) for b in group[at + 1 :]]
        assert not any(overlap(*pair) for pair in pairs)
    words = " ".join(ElementTree.fromstring(picture).itertext())
    for name in ("host-1", "host-2", "blue", "red", "web-1", "db-1", "10.20.0.3", "this host"):
        assert name in words
    assert "green" not in words
    assert "prefers-color-scheme: dark" in picture


def test_the_picture_is_alone_and_harmless(daemon: Daemon, netctl: Netctl) -> None:
    evil = copy.deepcopy(TOPOLOGY)
    evil["endpoints"][0]["name"] = '</text><script>alert("x")</script>&\x00\x1b'
    evil["hosts"][1]["name"] = "<a href='http://example.org'>" + "x" * 100
    daemon.on("GET", "/v1/topology", evil)
    picture = netctl("topology", "--svg", "-").stdout
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture).iter()}
    assert tags == {"svg", "title", "style", "rect", "text"}
    assert "url(" not in picture
    elements = ElementTree.fromstring(picture).iter()
    attributes = {name for element in elements for name in element.attrib}
    assert not {name for name in attributes if "href" in name or name.startswith("on")}
    assert '<script>alert("x")' in " ".join(ElementTree.fromstring(picture).itertext())


def test_a_picture_of_nothing(daemon: Daemon, netctl: Netctl) -> None:
    daemon.on("GET", "/v1/topology", {"hosts": [host(ONE, "h")], "networks": [], "endpoints": []})
    assert len(boxes(netctl("topology", "--svg", "-").stdout, "host")) == 1
    assert netctl("topology").stdout == "h  192.0.2.10:7940  this host\n"


def test_a_file_that_cannot_be_written(daemon: Daemon, netctl: Netctl, tmp_path: Path) -> None:
    daemon.on("GET", "/v1/topology", TOPOLOGY)
    result = netctl("topology", "--svg", str(tmp_path / "none" / "net.svg"))
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr
