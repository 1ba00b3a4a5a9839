"""The daemon ends and starts again, with full disks and other boots; the traffic goes on."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from netd.client.errors import ApiError
from tests.e2e.census import await_removals, census, ruleset_of
from tests.e2e.flow import Pings, Stream
from tests.e2e.lab import TRUE_DEADLINE_S, Host, Namespace, await_true, fill_disk, ip_of

WEB = [{"host_port": 8080, "container_port": 80}]


def container_ids(host: Host) -> set[str]:
    return {endpoint["container_id"] for endpoint in host.client.endpoints()}


# Traffic


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_restart_costs_no_packet(host: Host, stack: ExitStack, end: str) -> None:
    host.client.create_network(name="blue", driver="bridge")
    one, two = host.container(), host.container()
    first = host.attach("blue", one, name="one", ports=WEB)
    second = host.attach(
        "blue", two, name="two", bandwidth={"ingress_bps": 10**9, "egress_bps": 10**9}
    )
    streams = [
        Stream(stack, host.outside, one, Host.ADDRESS, 8080, listen=80),
        Stream(stack, one, two, ip_of(second, 6), 81, listen=81),
        Stream(stack, two, host.outside, Host.OUTSIDE, 82, listen=82),
    ]
    pings = [
        Pings(stack, one, ip_of(second), seconds=2.5),
        Pings(stack, two, Host.OUTSIDE6, seconds=2.5),
        Pings(stack, host, ip_of(first, 6), seconds=2.5),
    ]
    before = census(host, {}) | ruleset_of(host, {})
    known = host.client.endpoints()
    for flags in ((), ("--config", str(_config(host.folder)))):  # the other one is an upgrade
        host.stop_daemon() if end == "stopped" else host.kill()
        assert census(host, {}) | ruleset_of(host, {}) == before
        host.start_daemon(*flags)
        assert host.plan() == []
        assert host.client.endpoints() == known
    assert host.log.read_text().count("networks: 1, endpoints: 2, repaired: 0, swept: 0") == 2
    flows: tuple[Pings | Stream, ...] = (*pings, *streams)
    for flow in flows:
        flow.assert_nothing_was_lost()


def _config(folder: Path) -> Path:
    config = folder / "netd.toml"
    config.write_text("[reconcile]\ninterval_s = 1\n")
    return config


def test_addresses_stay_with_their_names(host: Host) -> None:
    host.client.create_network(name="blue", driver="bridge")
    one, two = host.container(), host.container()
    first = host.attach("blue", one, name="one", container_id="life-1")
    host.client.detach(first["id"])
    for end in (host.stop_daemon, host.kill):
        end()
        host.start_daemon()
        other = host.attach("blue", two, name="two")
        assert ip_of(other) != ip_of(first)  # quarantined for everybody else
        host.client.detach(other["id"])
    again = host.attach("blue", one, name="one", container_id="life-2")
    assert again["addresses"] == first["addresses"]
    assert again["mac"] == first["mac"]


def test_a_published_port_is_held_again(host: Host) -> None:
    host.client.create_network(name="blue", driver="bridge")
    host.attach("blue", host.container(), ports=WEB)
    bind = ("python3", "-c", "import socket; socket.create_server(('', 8080))")
    assert not host.succeeds(*bind)
    host.kill()
    assert host.succeeds(*bind)
    host.start_daemon()
    assert not host.succeeds(*bind)


def test_a_port_that_was_taken_meanwhile_is_told(host: Host, stack: ExitStack) -> None:
    host.client.create_network(name="blue", driver="bridge")
    endpoint = host.attach("blue", host.container(), ports=WEB)
    host.kill()
    squatter = host.start(stack, "python3", "-c", _SQUAT)
    assert squatter.stdout is not None
    assert squatter.stdout.readline() == "ready\n"
    host.start_daemon()
    (condition,) = host.client.endpoint(endpoint["id"])["conditions"]
    assert condition["code"] == "port-taken"
    assert "8080" in condition["detail"]


_SQUAT = """
import socket, time
server = socket.create_server(("", 8080))
print("ready", flush=True)
time.sleep(60)
"""


# Configuration and state folder


def test_configuration_is_read_again(cold_host: Host, tmp_path: Path) -> None:
    host = cold_host
    config = tmp_path / "netd.toml"

    def reload(text: str, says: str) -> None:
        config.write_text(text)
        told = len(host.log.read_text())
        os.kill(host.daemon_pid, signal.SIGHUP)
        await_true(lambda: says in host.log.read_text()[told:])

    def error() -> str:
        text: str = host.client.status()["config_error"]
        return text

    config.write_text("[networks]\nquarantine_s = 0\n")
    host.start_daemon("--config", str(config))
    host.client.create_network(name="blue", driver="bridge")
    one = host.container()

    def next_address() -> str:
        """Where a container of a new name comes to be."""
        endpoint = host.attach("blue", one, name=f"n{time.monotonic_ns()}")
        host.client.detach(endpoint["id"])
        return ip_of(endpoint)

    reload("[networks]\nquarantine_s = 3600\n", "changed: networks.quarantine_s")
    assert error() == ""
    assert next_address() != next_address()
    reload("[networks]\nquarantime_s = 0\n", "did you mean networks.quarantine_s")
    assert str(config) in error()
    assert "did you mean networks.quarantine_s" in error()
    assert next_address() != next_address()  # as before
    reload('[networks]\nzone = "example.org"\n', "need a restart: networks.zone")
    assert error() == "restart netd for: networks.zone"
    reload('[networks]\nzone = "example.org"\n', "need a restart: networks.zone")  # still
    assert error() == "restart netd for: networks.zone"
    (finding,) = (found for found in host.client.doctor() if found["check"] == "configuration")
    assert finding["level"] == "warning"
    assert "networks.zone" in finding["detail"]
    reload("", "changed: nothing")
    assert error() == ""
    assert host.client.status()["ready"]


def test_the_forward_guard_can_be_taken_out_of_a_running_daemon(
    cold_host: Host, tmp_path: Path
) -> None:
    host = cold_host
    config = tmp_path / "netd.toml"
    config.touch()
    host.run("sysctl", "-w", "net.ipv4.ip_forward=0")
    host.start_daemon("--config", str(config))
    host.client.create_network(name="blue", driver="bridge")

    def is_guarded() -> bool:
        rules = host.run("nft", "list", "chain", "inet", "netd", "filter_forward")
        return "iifname != @bridges oifname != @bridges" in rules

    assert is_guarded()
    config.write_text("[host]\nforward_guard = false\n")
    os.kill(host.daemon_pid, signal.SIGHUP)
    await_true(lambda: not is_guarded())
    await_true(lambda: host.plan() == [])


def test_a_state_folder_has_one_daemon(host: Host, stack: ExitStack, tmp_path: Path) -> None:
    other = Host(stack, tmp_path / "other")
    other.folder = host.folder
    other.socket = str(tmp_path / "other.sock")
    other.log = tmp_path / "other.log"
    other.launch()
    assert other.await_end() == 1
    assert f"in use by another netd (process {host.daemon_pid})" in other.log.read_text()
    assert host.client.status()["ready"]


def test_a_full_disk_refuses_changes_and_keeps_what_is_there(cold_host: Host) -> None:
    host = cold_host
    state = host.folder / "state"
    state.mkdir()
    mount = f'mount -t tmpfs -o size=512k none {state} && exec "$@"'
    host.around = ("unshare", "--mount", "sh", "-ec", mount, "sh")
    host.start_daemon()
    client = host.client
    client.create_network(name="blue", driver="bridge")
    client.create_network(name="lan", driver="macvlan", parent="eth0")
    one, two = host.container(), host.container()
    for container in (one, two):
        container.run("ip", "link", "set", "lo", "up")
    endpoint = host.attach("blue", one, name="one", ports=WEB)
    spaces = (host, one, two)
    before = [census(space, {}) | ruleset_of(space, {}) for space in spaces]
    ballast = Path(f"/proc/{host.daemon_pid}/root{state}/ballast")
    fill_disk(ballast)
    for change in (
        lambda: host.attach(
            "blue", two, name="two", ports=[{"host_port": 81, "container_port": 80}]
        ),
        lambda: host.attach("lan", two, name="two"),
        lambda: client.update_endpoint(endpoint["id"], ports=[]),
        lambda: client.detach(endpoint["id"]),
        lambda: client.create_network(name="red", driver="bridge"),
        lambda: client.delete_network("lan"),
    ):
        with pytest.raises(ApiError) as refused:
            change()
        assert (refused.value.status, refused.value.code) == (503, "unavailable")
        assert "the disk is full" in refused.value.detail
    await_removals(host)
    assert [census(space, {}) | ruleset_of(space, {}) for space in spaces] == before
    assert host.plan() == []
    assert client.endpoints() == [endpoint]
    assert one.pings(endpoint["gateways"][0])
    ballast.unlink()
    again = host.attach("blue", two, name="two", ports=[{"host_port": 81, "container_port": 80}])
    assert two.pings(ip_of(endpoint))
    client.update_endpoint(endpoint["id"], ports=[])
    client.detach(again["id"])
    client.delete_network("lan")
    assert host.plan() == []


# Containers that end by themselves


def test_a_container_that_dies_is_swept_at_once(host: Host) -> None:
    host.client.create_network(name="blue", driver="bridge")
    one, two = host.container(), host.container()
    dead = host.attach("blue", one, name="one", ports=WEB)
    with host.client.events() as events:
        one.end()
        swept = next(event for event in events if event["type"] == "endpoint.swept")
    assert swept["object"] == dead["id"]
    assert swept["detail"] == "its network namespace is gone"
    assert host.client.endpoints() == []
    endpoint = host.attach("blue", two, name="two", ports=WEB)
    assert ip_of(endpoint) != ip_of(dead)  # quarantined
    assert host.plan() == []


@pytest.mark.parametrize("driver", ["macvlan", "none"])
def test_a_container_without_a_link_on_the_host_is_swept_at_the_next_look(
    cold_host: Host, tmp_path: Path, driver: str
) -> None:
    host = cold_host
    host.start_daemon("--config", str(_config(tmp_path)))
    parent = {"parent": "eth0"} if driver == "macvlan" else {}
    host.client.create_network(name="n", driver=driver, **parent)
    one = host.container()
    host.attach("n", one, container_id="dying")
    host.attach("n", host.container(), container_id="living")
    one.end()
    await_true(lambda: container_ids(host) == {"living"}, within_s=1 + TRUE_DEADLINE_S)
    assert host.plan() == []


@pytest.mark.parametrize("driver", ["bridge", "macvlan", "none"])
def test_a_container_that_died_while_netd_was_down(host: Host, driver: str) -> None:
    parent = {"parent": "eth0"} if driver == "macvlan" else {}
    host.client.create_network(name="n", driver=driver, **parent)
    one, two = host.container(), host.container()
    dead = host.attach("n", one, container_id="dying")
    host.attach("n", two, container_id="living")
    host.kill()
    one.end()
    host.start_daemon()
    assert container_ids(host) == {"living"}
    assert host.plan() == []
    if driver != "none":
        again = host.attach("n", host.container(), container_id="other")
        assert ip_of(again) != ip_of(dead)


def test_a_container_that_comes_back_under_its_id(host: Host) -> None:
    """The runtime restarts it before netd has noticed its end."""
    host.client.create_network(name="none", driver="none")
    one, two = host.container(), host.container()
    first = host.attach("none", one, container_id="box")
    one.end()
    second = host.attach("none", two, container_id="box")
    assert second["id"] != first["id"]
    assert [endpoint["id"] for endpoint in host.client.endpoints()] == [second["id"]]


# Another boot


def test_a_reboot_ends_endpoints_and_keeps_networks(cold_host: Host, tmp_path: Path) -> None:
    host = cold_host
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("00000000-0000-4000-8000-000000000001\n")
    mount = f'mount --bind {boot_id} /proc/sys/kernel/random/boot_id && exec "$@"'
    host.around = ("unshare", "--mount", "sh", "-ec", mount, "sh")
    host.start_daemon()
    network = host.client.create_network(name="blue", driver="bridge")
    one = host.attach("blue", host.container(), name="one", ports=WEB)
    two = host.attach("blue", host.container(), name="two")
    host.kill()
    boot_id.write_text("00000000-0000-4000-8000-000000000002\n")
    reboot(host)
    host.start_daemon()
    assert host.client.status()["boot_id"].endswith("2")
    assert host.client.networks() == [network]
    assert host.client.endpoints() == []
    assert host.plan() == []
    # In another order, and yet each gets its own.
    for old in (two, one):
        new = host.attach("blue", host.container(), name=old["name"], ports=old["ports"])
        assert new["addresses"] == old["addresses"]


def reboot(host: Namespace) -> None:
    """Remove all that a boot would not bring back."""
    host.run("nft", "flush", "ruleset")
    host.run("sysctl", "-w", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    for link in host.links():
        if link.startswith(("nd-", "nv")):
            host.run("ip", "link", "del", link)
