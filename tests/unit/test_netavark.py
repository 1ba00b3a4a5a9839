"""The driver of Podman, against a daemon with prepared answers."""

import json
import posix
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netd.runtimes.netavark.plugin import answer
from netd.runtimes.shim.tombstones import Tombstone
from tests.unit.cli_daemon import ENDPOINT, NETWORK, Daemon, serving

RED = {"name": "red", "id": "ab" * 32, "driver": "netd"}
PODS = {"name": "pods", "id": "cd" * 32, "driver": "netd", "options": {"network": "blue"}}
LABELS = {
    "netd.runtime": "netavark",
    "netd.runtime.network": "pods",
    "netd.runtime.ifname": "eth0",
}
ATTACHED: dict[str, Any] = ENDPOINT | {"container_id": "c1", "ifname": "eth0", "labels": LABELS}
FOUND = f"/v1/endpoints/{ENDPOINT['id']}"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path / "netd.sock") as daemon:
        yield daemon


def call(daemon: Daemon, *words: str, given: Any) -> Any:
    """The answer, or what Podman is told that does not work."""
    code, text = answer(list(words), lambda: json.dumps(given).encode(), str(daemon.path))
    told: Any = json.loads(text) if text else None
    if code == 0:
        return told
    assert told.keys() == {"error"}
    return told["error"]


def execution(network: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {
        "container_id": "c1",
        "container_name": "web",
        "network": network,
        "network_options": {"interface_name": "eth0", **options},
    }


def made(daemon: Daemon) -> list[tuple[str, str]]:
    """The calls that change something."""
    return [(each.method, each.target) for each in daemon.calls if each.method != "GET"]


def test_what_was_deleted_before_goes_before_the_container_comes_again(daemon: Daemon) -> None:
    """The same container starts once more: its new endpoint must not go for the old one's end."""
    daemon.on("GET", "/v1/endpoints", [ATTACHED])
    daemon.on("DELETE", FOUND, status=204)
    daemon.on("POST", "/v1/networks/blue/endpoints", ATTACHED, 201)
    folder = daemon.path.parent / "deleted"
    Tombstone("netavark", "c1", "pods", "eth0").write(str(folder))
    assert "interfaces" in call(daemon, "setup", "/run/netns/web", given=execution(PODS))
    assert made(daemon) == [("DELETE", FOUND), ("POST", "/v1/networks/blue/endpoints")]
    assert daemon.calls[-1].body["labels"] == LABELS
    assert not list(folder.iterdir())


def test_teardown_leaves_another_runtimes_attachment(daemon: Daemon) -> None:
    of_cni = ATTACHED | {"id": "1" * 16, "labels": {**LABELS, "netd.runtime": "cni"}}
    # Attached by a version that had no such label.
    unsaid = {key: text for key, text in LABELS.items() if key != "netd.runtime"}
    before = ATTACHED | {"id": "2" * 16, "labels": unsaid}
    daemon.on("GET", "/v1/endpoints", [of_cni, before, ATTACHED])
    for found in (before, ATTACHED):
        daemon.on("DELETE", f"/v1/endpoints/{found['id']}", status=204)
    assert call(daemon, "teardown", "/run/netns/web", given=execution(PODS)) is None
    assert made(daemon) == [("DELETE", f"/v1/endpoints/{'2' * 16}"), ("DELETE", FOUND)]


def test_a_teardown_that_the_daemon_fails_at_is_noted(daemon: Daemon) -> None:
    daemon.on("GET", "/v1/endpoints", [ATTACHED])
    daemon.refuse("DELETE", FOUND, 503, "unavailable", detail="the disk is full")
    assert call(daemon, "teardown", "/run/netns/web", given=execution(PODS)) is None
    (note,) = (daemon.path.parent / "deleted").iterdir()
    assert json.loads(note.read_text())["runtime"] == "netavark"


def test_a_teardown_that_cannot_be_noted_says_so(daemon: Daemon) -> None:
    daemon.refuse("GET", "/v1/endpoints", 503, "unavailable", detail="stopping")
    (daemon.path.parent / "deleted").write_text("in the way")
    told = call(daemon, "teardown", "/run/netns/web", given=execution(PODS))
    assert told == "stopping; and it cannot be noted for later: File exists"


def test_a_network_that_cannot_go_is_no_hindrance_to_a_teardown(daemon: Daemon) -> None:
    own = NETWORK | {"name": "red", "labels": {"netd.podman.id": RED["id"]}}
    daemon.on("GET", "/v1/endpoints", [])
    daemon.on("GET", "/v1/networks/red", own)
    daemon.refuse("DELETE", "/v1/networks/red", 503, "unavailable", detail="the disk is full")
    assert call(daemon, "teardown", "/run/netns/web", given=execution(RED)) is None
    assert made(daemon) == [("DELETE", "/v1/networks/red?keep_subnets=true")]


@pytest.mark.parametrize("refused", [False, True])
def test_ports_go_to_a_network_that_the_container_is_still_on(
    daemon: Daemon, refused: bool
) -> None:
    labels = {**LABELS, "netd.runtime.network": "red"}
    other = ATTACHED | {"id": "3" * 16, "labels": labels, "ports": []}
    target = f"/v1/endpoints/{other['id']}"
    daemon.on("GET", "/v1/endpoints", [other])
    daemon.on("PATCH", target, other)
    if refused:  # whatever becomes of them, a teardown succeeds
        daemon.refuse("PATCH", target, 409, "conflict")
    given = execution(PODS) | {"port_mappings": [{"host_port": 8080, "container_port": 80}]}
    assert call(daemon, "teardown", "/run/netns/web", given=given) is None
    assert made(daemon) == [("PATCH", target)]
    (port,) = daemon.calls[-1].body["ports"]
    assert (port["host_port"], port["container_port"]) == (8080, 80)
    daemon.on("GET", "/v1/endpoints", [other | {"ports": [port]}])
    daemon.calls.clear()
    assert call(daemon, "teardown", "/run/netns/web", given=given) is None
    assert made(daemon) == []


def test_a_network_goes_when_its_first_container_cannot_be_attached(daemon: Daemon) -> None:
    own = NETWORK | {"name": "red", "labels": {"netd.podman.id": RED["id"]}}
    daemon.on("POST", "/v1/networks", own, 201)
    daemon.on("GET", "/v1/networks/red", own)
    daemon.refuse("POST", "/v1/networks/red/endpoints", 409, "conflict", detail="8080 is taken")
    for status in (204, 503):  # whatever becomes of the network, the reason is the container's
        daemon.on("DELETE", "/v1/networks/red", {} if status == 503 else None, status)
        daemon.calls.clear()
        assert call(daemon, "setup", "/run/netns/web", given=execution(RED)) == "8080 is taken"
        assert made(daemon)[-1] == ("DELETE", "/v1/networks/red?keep_subnets=true")


def test_a_network_that_is_netds_stays_when_an_attach_is_refused(daemon: Daemon) -> None:
    daemon.refuse("POST", "/v1/networks/blue/endpoints", 409, "conflict", detail="taken")
    assert call(daemon, "setup", "/run/netns/web", given=execution(PODS)) == "taken"
    assert made(daemon) == [("POST", "/v1/networks/blue/endpoints")]


def test_create_takes_the_place_of_an_idle_network_that_podman_left(daemon: Daemon) -> None:
    daemon.on("GET", "/v1/networks/red", NETWORK | {"labels": {"netd.podman.id": "old"}})
    daemon.on("POST", "/v1/networks", NETWORK, 201)
    daemon.on("DELETE", "/v1/networks/red", status=204)
    assert call(daemon, "create", given=RED)["name"] == "red"
    assert [call.method for call in daemon.calls] == ["GET", "DELETE", "POST", "DELETE"]


@pytest.mark.parametrize("labels", [{}, {"netd.podman.id": "used"}])
def test_create_leaves_a_network_that_is_used_or_somebody_elses(
    daemon: Daemon, labels: dict[str, str]
) -> None:
    daemon.on("GET", "/v1/networks/red", NETWORK | {"labels": labels})
    daemon.refuse("DELETE", "/v1/networks/red", 409, "conflict", detail="1 endpoint uses it")
    assert "has a network 'red' already" in call(daemon, "create", given=RED)
    assert made(daemon) == ([("DELETE", "/v1/networks/red")] if labels else [])


@pytest.mark.parametrize("servers", [None, []])
def test_no_name_servers_are_none(daemon: Daemon, servers: Any) -> None:
    daemon.on("POST", "/v1/networks/blue/endpoints", ATTACHED, 201)
    given = execution({**PODS, "network_dns_servers": servers}, options=None)
    assert "interfaces" in call(daemon, "setup", "/run/netns/web", given=given)


def test_a_network_that_is_joined_is_as_private_as_podman_wants(daemon: Daemon) -> None:
    inner = {**PODS, "internal": True}
    daemon.on("GET", "/v1/networks/blue", NETWORK | {"internal": False})
    assert "is not internal" in call(daemon, "create", given=inner)
    daemon.on("GET", "/v1/networks/blue", NETWORK | {"internal": True})
    assert call(daemon, "create", given=inner)["internal"]


def test_a_network_without_names(daemon: Daemon) -> None:
    """`--disable-dns`: Podman itself forgets that for a driver that gives addresses."""
    daemon.on("GET", "/v1/networks/blue", NETWORK)
    daemon.on("POST", "/v1/networks/blue/endpoints", ATTACHED, 201)
    kept = call(daemon, "create", given={**PODS, "dns_enabled": False})
    assert kept["options"] == {"network": "blue", "no_dns": "true"}
    status = call(daemon, "setup", "/run/netns/web", given=execution(kept))
    assert (status["dns_search_domains"], status["dns_server_ips"]) == ([], [])


def test_an_address_that_is_named_twice_is_one(daemon: Daemon) -> None:
    """As `podman network reload` does with one that was asked for."""
    daemon.on("POST", "/v1/networks/blue/endpoints", ATTACHED, 201)
    given = execution(PODS, static_ips=["10.20.0.9", "fd20::9", "10.20.0.9"])
    assert "interfaces" in call(daemon, "setup", "/run/netns/web", given=given)
    assert daemon.calls[-1].body["addresses"] == ["10.20.0.9", "fd20::9"]


def test_podman_without_root(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(posix.environ, b"_CONTAINERS_ROOTLESS_UID", b"1000")
    assert "does not reach into" in call(daemon, "create", given=PODS)
    assert "does not reach into" in call(daemon, "setup", "/run/netns/web", given=execution(PODS))
    assert not daemon.calls


def test_what_would_be_ignored_is_refused(daemon: Daemon) -> None:
    asking = {**PODS, "network_dns_servers": ["192.0.2.53"]}
    assert "leave --dns of the network out" in call(daemon, "create", given=asking)
    bridge = {**RED, "network_interface": "br0"}
    assert "leave --interface-name out" in call(daemon, "create", given=bridge)
    for given, says in (
        (execution(asking), "leave --dns of the network out"),
        (execution(PODS, options={"host_interface_name": "v1"}), "of its own on netd's networks"),
    ):
        assert says in call(daemon, "setup", "/run/netns/web", given=given)
    assert not daemon.calls
