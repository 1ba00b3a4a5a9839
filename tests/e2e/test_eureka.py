"""Eureka's API on one host: py-eureka-client, curl with XML, and what the other views show."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import pytest

from tests.e2e.lab import Host, Namespace, await_true, ip_of
from tests.e2e.registry_lab import (
    Asker,
    furnished,
    gateway,
    host_address,
    host_with_registry,
    registry_pid,
)
from tests.lab.process import Process, spawn

BASE: Final = "http://127.0.0.1:8761/eureka"
SEEN_S: Final = 10.0
MINE: Final = "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo"
JSON: Final = ("-H", "Content-Type: application/json")
XML: Final = f"""<instance><instanceId>web-1</instanceId><hostName>web-1</hostName>
<app>WEB</app><ipAddr>192.0.2.10</ipAddr><status>UP</status><port enabled="true">8080</port>
<vipAddress>web</vipAddress><dataCenterInfo class="{MINE}"><name>MyOwn</name></dataCenterInfo>
<leaseInfo><durationInSecs>90</durationInSecs></leaseInfo><metadata><zone>a</zone></metadata>
</instance>"""


class Answer(NamedTuple):
    status: int
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.body)


def curl(place: Namespace, url: str, *flags: str, feed: str | None = None) -> Answer:
    """The answer to a call from `place`."""
    command = place.wrap("curl", "-sS", "-m", "10", "-w", "\n%{http_code}", *flags, url)
    if feed is not None:
        command += ["--data-binary", "@-"]
    done = subprocess.run(
        command, input=feed, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, f"{url}: {done.stderr}"
    body, _, status = done.stdout.rpartition("\n")
    return Answer(int(status), body)


def instance(app: str, ident: str, address: str, **more: Any) -> str:
    """The body of a registration; `lease` are the seconds of its lease."""
    lease = more.pop("lease", 90)
    fields = {
        "instanceId": ident,
        "hostName": address,
        "app": app.upper(),
        "ipAddr": address,
        "status": "UP",
        "port": {"$": 8080, "@enabled": "true"},
        "vipAddress": app,
        "dataCenterInfo": {"@class": MINE, "name": "MyOwn"},
        "leaseInfo": {"renewalIntervalInSecs": 1, "durationInSecs": lease},
        **more,
    }
    return json.dumps({"instance": fields})


def register(place: Namespace, app: str, ident: str, address: str, **more: Any) -> Answer:
    base = more.pop("base", BASE)
    return curl(place, f"{base}/apps/{app}", *JSON, feed=instance(app, ident, address, **more))


class Views:
    """A service as DNS, Consul's API and Eureka's show it on the host: addresses each."""

    def __init__(self, host: Host, stack: ExitStack) -> None:
        self._host = host
        self._asker = Asker(stack, host)
        self._server = host_address(host)

    def of(self, name: str) -> list[set[str]]:
        code, *data = self._asker.ask(self._server, f"{name}.service.netd.internal").split()
        assert code in ("NOERROR", "NXDOMAIN")
        rows = curl(self._host, f"http://127.0.0.1:8500/v1/health/service/{name}?passing").json
        return [
            set(data),
            {row["Service"]["Address"] for row in rows},
            {address for address, status in instances(self._host, name).items() if status == "UP"},
        ]

    def are(self, name: str, *addresses: str) -> bool:
        return self.of(name) == [set(addresses)] * 3


def instances(place: Namespace, app: str, base: str = BASE) -> dict[str, str]:
    """Status by address."""
    answer = curl(place, f"{base}/apps/{app}")
    if answer.status == 404:
        return {}
    found = answer.xml.iter("instance")
    return {one.findtext("ipAddr", ""): one.findtext("status", "") for one in found}


def start_client(place: Namespace, stack: ExitStack, servers: str, *words: str) -> Process:
    """py-eureka-client, once it has registered; see `eureka_program.py`."""
    program = (sys.executable, "-m", "tests.e2e.eureka_program", servers, *words)
    process = spawn(place.wrap(*program), "py-eureka-client")
    stack.callback(process.stop)
    process.await_line("ready")
    return process


def ask(client: Process, *words: str) -> str:
    client.tell(" ".join(words))
    return client.line()


def finds(client: Process, app: str, *found: str) -> Callable[[], bool]:
    """Whether the client knows these instances; it asks once a second."""
    return lambda: ask(client, "find", app) == " ".join(found)


@pytest.fixture(scope="module")
def shared_host() -> Iterator[Host]:
    with host_with_registry() as host:
        yield host


@pytest.fixture
def host(shared_host: Host) -> Iterator[Host]:
    """The host of the module with the network blue, and no services."""
    with furnished(shared_host) as host:
        yield host


@pytest.fixture
def views(host: Host, stack: ExitStack) -> Views:
    return Views(host, stack)


# Clients


def test_a_program_from_its_start_to_its_end(host: Host, stack: ExitStack, views: Views) -> None:
    one = start_client(host, stack, f"{BASE}/", "orders", Host.ADDRESS, "8080")
    two = start_client(host, stack, f"{BASE}/", "-", Host.ADDRESS, "1")
    assert views.are("orders", Host.ADDRESS)
    assert finds(two, "orders", f"UP {Host.ADDRESS}:8080")()
    [service] = host.client.services()
    assert (service["name"], service["port"], service["node"]) == ("orders", 8080, "host-1")
    assert ask(one, "out") == "done"
    assert views.are("orders")
    await_true(finds(two, "orders", f"OUT_OF_SERVICE {Host.ADDRESS}:8080"), SEEN_S)
    assert ask(one, "in") == "done"
    await_true(lambda: views.are("orders", Host.ADDRESS), SEEN_S)
    one.finish()
    assert views.are("orders")
    assert host.client.services() == []
    await_true(finds(two, "orders", ""), SEEN_S)
    two.finish()


def test_a_killed_program_goes_with_its_lease(host: Host, stack: ExitStack, views: Views) -> None:
    one = start_client(host, stack, BASE, "orders", Host.ADDRESS, "8080")
    one.stop()
    assert views.are("orders", Host.ADDRESS)
    await_true(lambda: views.are("orders"), SEEN_S)


def test_a_client_of_xml(host: Host, views: Views) -> None:
    web = f"{BASE}/v2/apps/WEB"
    answer = curl(host, web, "-H", "Content-Type: application/xml", feed=XML)
    assert answer == (204, "")
    assert views.are("web", Host.ADDRESS)
    for path in ("/apps", "/apps/", "/apps/delta", "/vips/web"):
        found = curl(host, f"{BASE}{path}").xml
        assert found.tag == "applications"
        assert found.findtext("apps__hashcode") == "UP_1_"
        [one] = [one for one in found.iter("instance") if one.findtext("app") == "WEB"]
        port, center = one.find("port"), one.find("dataCenterInfo")
        assert port is not None
        assert center is not None
        assert (port.text, port.get("enabled")) == ("8080", "true")
        assert (center.get("class"), center.findtext("name")) == (MINE, "MyOwn")
        assert one.findtext("metadata/zone") == "a"
    assert curl(host, f"{web}/web-1").xml.findtext("status") == "UP"
    assert curl(host, f"{web}/web-1", "-X", "PUT") == (200, "")
    assert curl(host, f"{web}/web-1/status?value=OUT_OF_SERVICE", "-X", "PUT") == (200, "")
    assert instances(host, "web") == {Host.ADDRESS: "OUT_OF_SERVICE"}
    assert views.are("web")
    assert curl(host, f"{web}/web-1/status?value=UP", "-X", "DELETE") == (200, "")
    assert views.are("web", Host.ADDRESS)
    assert curl(host, f"{web}/web-1/metadata?zone=b", "-X", "PUT") == (200, "")
    assert curl(host, f"{BASE}/instances/web-1").xml.findtext("metadata/zone") == "b"
    assert curl(host, f"{web}/web-1", "-X", "DELETE") == (200, "")
    assert views.are("web")


def test_what_is_wrong_is_said(host: Host) -> None:
    def post(body: str, app: str = "web") -> Answer:
        return curl(host, f"{BASE}/apps/{app}", *JSON, feed=body)

    for body, word in (
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "object"),
        ("<instance>", "JSON"),
        (instance("web", "web-1", "web.example"), "no IP address"),
        (instance("web", "web-1", Host.ADDRESS, dataCenterInfo=None), "dataCenterInfo"),
        (instance("web", "web-1", Host.ADDRESS, port={"$": 70_000}), "port"),
        (instance("web", "web-1", Host.ADDRESS, metadata={"a": "b" * 20_000}), "4096"),
    ):
        answer = post(body)
        assert answer.status == 400, body
        assert word in answer.body, answer
    assert "WEB" in post(instance("web", "web-1", Host.ADDRESS), "shop").body
    assert post("x" * 200_000).status == 413
    assert curl(host, f"{BASE}/apps/WEB", feed="<a>&b;</a>").status == 400
    for path in (
        "apps/WEB",
        "apps/WEB/none",
        "instances/none",
        "vips/none",
        "nothing",
        "apps/a/b/c",
    ):
        assert curl(host, f"{BASE}/{path}").status == 404, path
    for method in ("PUT", "DELETE"):
        assert curl(host, f"{BASE}/apps/WEB/none", "-X", method).status == 404
    assert curl(host, f"{BASE}/apps", "-X", "DELETE").status == 405
    assert "UP" in curl(host, f"{BASE}/apps/A/b/status?value=WELL", "-X", "PUT").body
    assert host.client.services() == []


def test_a_page_for_people(host: Host) -> None:
    register(host, "orders", "<b>one</b>", Host.ADDRESS)
    for path in ("/", "/lastn", "/eureka/"):
        page = curl(host, f"http://127.0.0.1:8761{path}").body
        assert "ORDERS" in page
        assert "&lt;b&gt;one" in page


# One catalogue


def test_what_others_register_clients_of_eureka_see(host: Host, stack: ExitStack) -> None:
    consul = "http://127.0.0.1:8500/v1/agent"
    check = {"TTL": "1h", "Status": "passing"}
    given = {"Name": "shop", "ID": "shop-1", "Port": 81, "Tags": ["v1"], "Check": check}
    given["Address"] = "192.0.2.7"
    client = start_client(host, stack, BASE, "-", Host.ADDRESS, "1")
    flags = ("-X", "PUT")
    assert curl(host, f"{consul}/service/register", *flags, feed=json.dumps(given)).status == 200
    await_true(finds(client, "shop", "UP 192.0.2.7:81"), SEEN_S)
    found = curl(host, f"{BASE}/apps/shop/shop-1@host-1", "-H", "Accept: application/json").json
    assert found["instance"]["metadata"] == {"tags": "v1"}
    assert found["instance"]["vipAddress"] == "shop"
    assert curl(host, f"{consul}/check/fail/service:shop-1", *flags).status == 200
    assert instances(host, "shop") == {"192.0.2.7": "DOWN"}
    await_true(finds(client, "shop", "DOWN 192.0.2.7:81"), SEEN_S)
    assert curl(host, f"{consul}/check/pass/service:shop-1", *flags).status == 200
    assert (
        curl(host, f"{BASE}/apps/shop/shop-1@host-1/status?value=OUT_OF_SERVICE", *flags).status
        == 200
    )
    [row] = curl(host, "http://127.0.0.1:8500/v1/health/checks/shop").json[-1:]
    assert row["CheckID"].endswith("maintenance:shop-1")
    assert curl(host, f"{BASE}/apps/shop/shop-1@host-1", "-X", "DELETE").status == 200
    assert host.client.services() == []

    web = host.attach("blue", host.container(), name="web", labels={"netd.service": "web:80"})
    await_true(finds(client, "web", f"UP {ip_of(web)}:80"), SEEN_S)


# Containers


def test_a_container_registers_what_is_its_own(host: Host, stack: ExitStack, views: Views) -> None:
    one, two, red = host.container(), host.container(), host.container()
    host.client.create_network(name="red", driver="bridge")
    mine, others = host.attach("blue", one), host.attach("blue", two)
    secret = host.attach("red", red, labels={"netd.service": "secret:80"})
    base = f"http://{gateway(mine)}:8761/eureka"
    for address in (ip_of(others), ip_of(secret), gateway(mine), Host.ADDRESS, "127.0.0.1"):
        answer = register(one, "orders", "one", address, base=base)
        assert answer.status == 403, address
        assert "only the host" in answer.body
    client = start_client(one, stack, base, "orders", ip_of(mine), "8080")
    assert views.are("orders", ip_of(mine))
    # What is registered at its address is its own, also by another host name; no more than that.
    [service] = [each for each in host.client.services() if each["name"] == "orders"]
    assert (service["network"], service["endpoint"]) == ("blue", mine["id"])
    ident = f"{ip_of(mine)}:orders:8080"
    path = f"{base}/apps/ORDERS/{ident}"
    for method, more in (("PUT", ""), ("DELETE", ""), ("PUT", "/status?value=DOWN")):
        assert curl(two, path + more, "-X", method).status == 403
    assert register(two, "orders", ident, ip_of(others), base=base).status == 403
    # The neighbour sees it, who is on another network does not, whatever gateway is asked.
    assert instances(two, "orders", base) == {ip_of(mine): "UP"}
    for place in (gateway(secret), gateway(mine)):
        there = f"http://{place}:8761/eureka"
        assert instances(red, "orders", there) == {}
        assert instances(red, "secret", there) == {ip_of(secret): "UP"}
        assert curl(red, f"{there}/apps/ORDERS/{ident}", "-X", "DELETE").status == 404
    assert instances(two, "secret", base) == {}
    assert views.are("orders", ip_of(mine))
    # Sight follows the networks.
    host.attach("red", two, ifname="eth1")
    assert instances(two, "secret", base) == {ip_of(secret): "UP"}
    # It goes with the container, at once, whatever its lease is.
    client.stop()
    one.end()
    began_s = time.monotonic()
    await_true(lambda: views.are("orders"), 2)
    print(f"gone from all views {time.monotonic() - began_s:.3f} s after the container's end")


# Leases


def test_a_lease_that_runs_out_and_one_that_is_renewed_late(host: Host, views: Views) -> None:
    assert register(host, "late", "one", Host.ADDRESS, lease=1).status == 204
    assert views.are("late", Host.ADDRESS)
    await_true(lambda: views.are("late"), SEEN_S)
    assert curl(host, f"{BASE}/apps/LATE/one").status == 404
    assert curl(host, f"{BASE}/apps/LATE/one", "-X", "PUT").status == 200
    assert views.are("late", Host.ADDRESS)
    # No word, no instance; it is not the last of many that keeps the others.
    await_true(lambda: views.are("late"), SEEN_S)


@pytest.mark.parametrize("lost", ["the registry", "netd"])
def test_what_is_registered_outlives_a_restart(
    host: Host, stack: ExitStack, views: Views, lost: str
) -> None:
    one = start_client(host, stack, BASE, "orders", Host.ADDRESS, "8080")
    curl(host, f"{BASE}/apps/quiet", *JSON, feed=instance("quiet", "one", Host.ADDRESS, lease=30))
    if lost == "netd":
        host.stop_daemon()
        # The registry shows what it knew; what is to be kept cannot be taken.
        assert instances(host, "quiet") == {Host.ADDRESS: "UP"}
        assert register(host, "new", "one", Host.ADDRESS).status == 500
        host.start_daemon()
    else:
        pid = registry_pid(host)
        os.kill(pid, signal.SIGKILL)
        await_true(lambda: registry_pid(host) not in (0, pid), SEEN_S)
        await_true(lambda: host.succeeds("curl", "-sf", f"{BASE}/apps/quiet"), SEEN_S)
    await_true(lambda: views.are("quiet", Host.ADDRESS), SEEN_S)
    await_true(lambda: views.are("orders", Host.ADDRESS), SEEN_S)
    assert ask(one, "find", "orders") == f"UP {Host.ADDRESS}:8080"
    one.finish()
