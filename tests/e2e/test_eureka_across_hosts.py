"""Eureka's API on three hosts: clients that know all of them, and what all of them show."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.test_eureka import XML, finds, instance
from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.namespaces import NamespaceLab
from tests.lab.process import Process, spawn
from tests.lab.waiting import wait_for

# Clients try hosts that are lost for many seconds before they go to the next.
pytestmark = pytest.mark.timeout(180)

SEEN_S: Final = 40.0  # on busy processors
GONE_GOAL_S: Final = 0.3
GONE_MOST_S: Final = 10 * GONE_GOAL_S  # on busy processors
JSON: Final = ("-X", "POST", "-H", "Content-Type: application/json", "-d")
OUTSIDE: Final = "198.18.255.254"
CONFIG: Final = """
[eureka]
address = "ADDRESS:8761"
clients = ["198.18.0.0/16"]
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[NamespaceLab]:
    """Three, with a registry each, which answer Eureka's API in the underlay, too."""
    # In a folder that the registry's user can reach, unlike pytest's.
    with tempfile.TemporaryDirectory(prefix="netd-eureka-") as name:
        Path(name).chmod(0o755)
        made = NamespaceLab(Path(name) / "lab")
        made.folder.mkdir()
        made.registry = True
        made.more = CONFIG
        try:
            made.up(3)
            yield made
        finally:
            made.down()


@pytest.fixture
def hosts(lab: NamespaceLab) -> Iterator[list[LabHost]]:
    """Whole, without services; the overlay blue is known to all."""
    subnets = ("--subnet", "10.40.0.0/16", "--subnet", "fd40::/64")
    hosts: list[LabHost] = list(lab.hosts)
    hosts[0].netctl("network", "create", "blue", "--driver", "overlay", *subnets)
    for host in hosts:
        wait_for(partial(answers, host), SEEN_S)
        wait_for(partial(_knows_blue, host), SEEN_S)
    yield hosts
    lab.repair()
    for host in hosts:
        own = [each["id"] for each in host.api("/v1/services") if each["node"] == host.name]
        if own:
            host.netctl("service", "deregister", *own)
    for host in hosts:
        wait_for(partial(_has_no_services, host), SEEN_S)


def _knows_blue(host: LabHost) -> bool:
    return "blue" in host.networks()


def _has_no_services(host: LabHost) -> bool:
    return not host.api("/v1/services")


def base(host: LabHost) -> str:
    return f"http://{host.address}:8761/eureka"


def answers(host: LabHost) -> bool:
    return host.succeeds("curl", "-sf", "-o", "/dev/null", f"{base(host)}/apps")


def holder(host: LabHost, name: str) -> str:
    """The host that has the service's one instance, as `host` sees it; "" without one."""
    nodes = [each["node"] for each in host.api("/v1/services") if each["name"] == name]
    return nodes[0] if len(nodes) == 1 else ""


def renewed_s(host: LabHost, name: str) -> float:
    """When the host has heard last of the service's first instance, Unix time; 0 for never."""
    answer = host.run("curl", "-s", f"{base(host)}/apps/{name}")
    ident = answer.partition("<instanceId>")[2].partition("<")[0]
    instance = host.run("curl", "-s", f"{base(host)}/apps/{name}/{ident}")
    return int(instance.partition("<lastRenewalTimestamp>")[2].partition("<")[0] or 0) / 1000


def is_held_by(host: LabHost, name: str, node: str) -> bool:
    return holder(host, name) == node


def start_client(stack: ExitStack, wrap: Callable[..., object], *words: str) -> Process:
    """py-eureka-client, once it has registered; see `eureka_program.py`."""
    command = wrap(sys.executable, "-m", "tests.e2e.eureka_program", *words)
    assert isinstance(command, list)
    process = spawn(command, "py-eureka-client")
    stack.callback(process.stop)
    process.await_line("ready")
    return process


def in_container(container: Container) -> Callable[..., object]:
    return lambda *command: container.host.wrap(*container.wrap(*command))


def gateway(container: Container) -> str:
    return f"http://{container.endpoint()['dns']['nameservers'][0]}:8761/eureka"


def views(host: LabHost, name: str) -> list[set[str]]:
    """A service as DNS, Consul's API and Eureka's show it on a host: addresses each."""
    script = (
        'dig +short "$1.service.netd.internal" @127.0.0.54 | paste -sd " "; '
        'curl -s "127.0.0.1:8500/v1/health/service/$1?passing" && echo && curl -s "$2/apps/$1"'
    )
    found = host.run("sh", "-c", script, "sh", name, base(host)).split("\n", 2)
    names, rows, document = found
    up = [] if not document else ElementTree.fromstring(document).iter("instance")
    return [
        set(names.split()),
        {row["Service"]["Address"] for row in json.loads(rows)},
        {one.findtext("ipAddr", "") for one in up if one.findtext("status") == "UP"},
    ]


def await_shown(hosts: Sequence[LabHost], name: str, *addresses: str) -> None:
    """Wait until all views of all of these hosts show the service at these addresses."""
    for host in hosts:
        wait_for(
            partial(_shows, host, name, addresses),
            SEEN_S,
            what=f"{name} on {host}",
            show=partial(views, host, name),
        )


def _shows(host: LabHost, name: str, addresses: tuple[str, ...]) -> bool:
    return views(host, name) == [set(addresses)] * 3


# Clients


def test_programs_in_containers_find_and_call_each_other(
    hosts: list[LabHost], stack: ExitStack
) -> None:
    places = [host.start(name) for host, name in zip(hosts, ("one", "two", "three"), strict=True)]
    for place in places:
        place.attach("blue")
    programs = []
    for place in places[:2]:
        server = place.serve(f"hello from {place.name}", 8080)
        stack.callback(server.stop)
        words = (gateway(place), "shop", place.address(), "8080")
        programs.append(start_client(stack, in_container(place), *words))
    caller = start_client(stack, in_container(places[2]), gateway(places[2]), "-", "0.0.0.0", "1")
    shown = sorted(f"UP {place.address()}:8080" for place in places[:2])
    wait_for(finds(caller, "shop", *shown), SEEN_S)
    caller.tell("call SHOP /")
    assert caller.line().startswith("hello from ")
    # One leaves by its own word, one with its container.
    programs[0].finish()
    wait_for(finds(caller, "shop", f"UP {places[1].address()}:8080"), SEEN_S)
    caller.tell("call SHOP /")
    assert caller.line().startswith("hello from two")
    places[1].end()
    wait_for(finds(caller, "shop", ""), SEEN_S)
    for host in hosts:
        wait_for(partial(_has_no_services, host), SEEN_S)


@pytest.mark.parametrize("loss", ["registry killed", "netd stopped", "host lost"])
def test_a_client_of_several_hosts_survives_the_loss_of_any(
    lab: NamespaceLab, hosts: list[LabHost], stack: ExitStack, loss: str
) -> None:
    servers = ",".join(map(base, hosts))
    one = start_client(stack, lab.outside.wrap, servers, "orders", OUTSIDE, "8080")
    two = start_client(stack, lab.outside.wrap, servers, "-", OUTSIDE, "1")
    found = f"UP {OUTSIDE}:8080"
    await_shown(hosts, "orders", OUTSIDE)
    assert holder(hosts[1], "orders") == "host-1"
    began_s = time.monotonic()
    match loss:
        case "registry killed":
            pid = hosts[0].api("/v1/registry")["pid"]
            hosts[0].run("kill", "-KILL", str(pid))
        case "netd stopped":
            hosts[0].stop_netd()
        case "host lost":
            hosts[0].power_off()
    if loss == "registry killed":  # it is back within a second: the client may not have noticed
        wait_for(partial(answers, hosts[0]), SEEN_S)
        back_s = hosts[0].clock_s()
        wait_for(lambda: max(renewed_s(host, "orders") for host in hosts) > back_s, SEEN_S)
    else:
        wait_for(lambda: holder(hosts[1], "orders") == "host-2", SEEN_S)
        print(f"taken over {time.monotonic() - began_s:.1f} s after: {loss}")
    await_shown(hosts[1:], "orders", OUTSIDE)
    wait_for(finds(two, "orders", found), SEEN_S)
    if loss == "netd stopped":  # it is back, and gives up what it had
        hosts[0].start_netd()
        for host in hosts:
            wait_for(partial(is_held_by, host, "orders", "host-2"), SEEN_S)
        await_shown(hosts, "orders", OUTSIDE)
    one.finish()
    await_shown(hosts[1:], "orders")


def test_a_machine_without_netd_speaks_for_itself_only(
    lab: NamespaceLab, hosts: list[LabHost]
) -> None:
    def post(address: str, where: str) -> str:
        body = instance("orders", "one", address)
        write = ("-s", "-o", "/dev/null", "-w", "%{http_code}")
        command = lab.outside.wrap("curl", *write, *JSON, body, f"{where}/apps/ORDERS")
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert post("198.18.0.2", base(hosts[0])) == "403"
    assert post(OUTSIDE, base(hosts[0])) == "204"
    # By another host it goes on there; the first gives it up.
    assert post(OUTSIDE, base(hosts[2])) == "204"
    for host in hosts:
        wait_for(partial(is_held_by, host, "orders", "host-3"), SEEN_S)
    # What belongs to a network it does not see.
    web = hosts[0].start("web")
    web.attach("blue", "--label", "netd.service=web:80")
    await_shown(hosts, "web", web.address())
    shown = subprocess.run(
        lab.outside.wrap("curl", "-s", f"{base(hosts[0])}/apps"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "ORDERS" in shown
    assert "WEB" not in shown


# One catalogue


def test_each_view_shows_on_each_host_what_another_one_took(hosts: list[LabHost]) -> None:
    one, two, three = hosts
    given = '{"Name": "by-consul", "Port": 80, "Address": "192.0.2.1"}'
    url = "http://127.0.0.1:8500/v1/agent/service/register"
    one.run("curl", "-sf", "-X", "PUT", "-d", given, url)
    xml = XML.replace("WEB", "BY-EUREKA").replace("192.0.2.10", "192.0.2.2")
    flags = ("-sf", "-X", "POST", "-H", "Content-Type: application/xml", "-d", xml)
    two.run("curl", *flags, f"{base(two)}/apps/by-eureka")
    three.netctl("service", "register", "by-netctl", "--address", "192.0.2.3", "--port", "80")
    await_shown(hosts, "by-consul", "192.0.2.1")
    await_shown(hosts, "by-eureka", "192.0.2.2")
    await_shown(hosts, "by-netctl", "192.0.2.3")


def test_a_killed_container_leaves_all_views_of_all_hosts(
    hosts: list[LabHost], stack: ExitStack
) -> None:
    longest = []
    for number in range(3):
        web = hosts[0].start(f"web-{number}")
        web.attach("blue")
        body = instance("web", f"web-{number}", web.address())
        web.run("curl", "-sf", *JSON, body, f"{gateway(web)}/apps/WEB")
        watching = (sys.executable, "-m", "tests.e2e.eureka_gone", "web")
        watchers = [host.spawn(*watching, host.address) for host in hosts]
        for watcher in watchers:
            stack.callback(watcher.stop)
            watcher.await_line("ready")
        began_s = time.monotonic()
        hosts[0].run("ip", "netns", "del", web.name)
        took_s = {}
        for host, watcher in zip(hosts, watchers, strict=True):
            for line in watcher.finish(60).splitlines():
                view, _, gone_s = line.partition(" ")
                took_s[f"{view} on {host}"] = float(gone_s) - began_s
        assert len(took_s) == 9, took_s
        longest.append(max(took_s.values()))
        print({place: round(seconds, 3) for place, seconds in took_s.items()})
        hosts[0].containers.pop(web.name)
    print(f"gone from all: median {statistics.median(longest):.3f} s, slowest {max(longest):.3f} s")
    assert statistics.median(longest) < GONE_MOST_S
