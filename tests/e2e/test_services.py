"""Services on real hosts: what they go with is a real process or namespace."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from netd.client.client import Lines
from netd.client.errors import ApiError
from tests.e2e.cluster_lab import Cluster
from tests.e2e.lab import Host, Machine, await_true, ip_of
from tests.lab.process import die_with_parent


class Happenings:
    """The events of one daemon, from when this is made."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def next(self, kind: str, about: str) -> tuple[float, dict[str, Any]]:
        """When the next event of that type about that object was heard, and the event."""
        for event in self._lines:
            if (event["type"], event["object"]) == (kind, about):
                return time.monotonic(), event
        raise AssertionError(f"the daemon has ended before {kind} of {about}")


@contextmanager
def happenings(machine: Machine) -> Iterator[Happenings]:
    with machine.client.events() as lines:
        yield Happenings(lines)


def process(stack: ExitStack) -> "subprocess.Popen[bytes]":
    made = subprocess.Popen(["sleep", "infinity"], preexec_fn=die_with_parent)
    stack.enter_context(made)
    stack.callback(made.kill)
    return made


def ids(machine: Machine) -> list[str]:
    return [service["id"] for service in machine.client.services()]


def test_an_instance_goes_with_its_process(host: Host, stack: ExitStack) -> None:
    program = process(stack)
    service = host.client.register("web-1", name="web", port=80, pid=program.pid)
    assert (service["address"], service["status"]) == (Host.ADDRESS, "passing")
    host.client.register("web-2", name="web", port=81)
    with happenings(host) as heard:
        program.kill()
        _, event = heard.next("service.deregistered", "web-1")
    assert event["detail"] == f"process {program.pid} has ended"
    assert ids(host) == ["web-2"]
    with pytest.raises(ApiError) as caught:
        host.client.register("web-3", name="web", pid=program.pid)  # it is a zombie
    assert (caught.value.code, caught.value.field) == ("not-found", "pid")


def test_labels_and_the_namespaces_end(host: Host) -> None:
    host.client.create_network(name="blue", driver="bridge")
    ending, staying = host.container(), host.container()
    labels = {"netd.service": "web:80", "netd.service.tags": "v1"}
    first = host.attach("blue", ending, name="one", labels=labels)
    second = host.attach("blue", staying, name="two", labels=labels)
    found = {service["address"]: service for service in host.client.services(name="web")}
    assert found.keys() == {ip_of(first), ip_of(second)}
    assert found[ip_of(first)]["tags"] == ["v1"]
    with happenings(host) as heard:
        ending.end()
        heard.next("service.deregistered", f"web-{first['id']}")
        assert host.client.resolve("one.blue")["records"] == []
        assert host.client.resolve("two.blue")["records"] != []
    assert ids(host) == [f"web-{second['id']}"]
    await_true(lambda: len(host.client.endpoints()) == 1)


def test_a_ttl_check_turns_critical_in_time(host: Host) -> None:
    beat = {"kind": "ttl", "id": "beat", "ttl_s": 0.1}
    host.client.register("web-1", name="web", checks=[beat])
    with happenings(host) as heard:
        host.client.report("web-1", "beat", "passing", "here I am")
        passing_s, _ = heard.next("service.passing", "web-1")
        critical_s, event = heard.next("service.critical", "web-1")
    assert event["detail"] == "beat: no word for 0.1 s"
    assert 0.08 < critical_s - passing_s < 1.0
    assert host.client.services(passing=True) == []


def test_services_survive_the_daemon(host: Host, stack: ExitStack) -> None:
    program, other = process(stack), process(stack)
    host.client.create_network(name="blue", driver="bridge")
    container = host.container()
    endpoint = host.attach("blue", container, labels={"netd.service": "api:90"})
    tcp = {"kind": "tcp", "id": "tcp"}
    host.client.register("web-1", name="web", port=80, pid=program.pid, checks=[tcp])
    host.client.register("web-2", name="web", pid=other.pid)
    host.client.register("web-3", name="web", endpoint=endpoint["id"], meta={"k": "v"})
    host.client.report("web-1", "tcp", "warning", "slow")
    host.client.maintain("web-3", True, "disk")
    before = host.client.services()
    host.kill()
    host.start_daemon()
    assert host.client.services() == before
    host.kill()
    other.kill()
    other.wait()
    container.end()
    host.start_daemon()
    assert ids(host) == ["web-1"]
    assert host.client.service("web-1")["status"] == "warning"
    with happenings(host) as heard:
        program.kill()
        heard.next("service.deregistered", "web-1")
    assert host.client.services() == []
    host.stop_daemon()
    host.start_daemon()
    assert host.client.services() == []


def test_all_hosts_see_what_one_registers(cluster: Cluster, stack: ExitStack) -> None:
    one, *others = cluster.hosts
    program = process(stack)
    checks = [{"kind": "ttl", "id": "beat", "ttl_s": 60, "status": "passing"}]
    one.client.register("web-1", name="web", port=80, pid=program.pid, checks=checks)

    def status(host: Machine) -> str | None:
        return next((s["status"] for s in host.client.services(name="web")), None)

    for host in others:
        await_true(lambda host=host: status(host) == "passing")  # type: ignore[misc]
        service = host.client.service("web-1")
        assert (service["node"], service["address"]) == (one.node, one.address)
        assert service["pid"] is None
        with pytest.raises(ApiError, match=one.node):
            host.client.deregister("web-1")
    one.client.maintain("web-1", True)
    for host in others:
        await_true(lambda host=host: status(host) == "critical")  # type: ignore[misc]
    program.kill()
    for host in others:
        await_true(lambda host=host: status(host) is None)  # type: ignore[misc]


def test_a_dead_hosts_instances_are_gone_and_come_back_with_it(cluster: Cluster) -> None:
    one, two, *_ = cluster.hosts
    one.client.register("web-1", name="web", port=80)
    await_true(lambda: ids(two) == ["web-1"])
    one.kill()
    await_true(lambda: ids(two) == [], within_s=20)
    one.up()
    await_true(lambda: ids(two) == ["web-1"], within_s=20)
    one.client.deregister("web-1")
    await_true(lambda: ids(two) == [])


def test_netctl(cluster: Cluster) -> None:
    one, two, *_ = cluster.hosts
    words = "web --id web-1 --port 80 --tag v1 --check ttl=1m --deregister-after 1h"
    assert one.netctl("service", "register", *words.split()) == (
        f"web-1\nweb at {one.address}:80: critical\n"
    )
    one.netctl("service", "pass", "web-1", "--output", "here")
    await_true(lambda: "passing" in two.netctl("service", "ls", "--name", "web"))
    assert "here" in two.netctl("service", "inspect", "web-1")
    assert one.node in two.netctl("service", "deregister", "web-1", code=4)
    one.netctl("service", "maintenance", "web-1", "on")
    assert "critical,maintenance" in one.netctl("service", "ls")
    one.netctl("service", "maintenance", "web-1", "off")
    assert one.netctl("service", "deregister", "web-1") == "web-1\n"
    one.netctl("service", "deregister", "web-1", code=3)
