"""A container that is killed: how soon DNS, Consul and Eureka show its instance on no host."""

import json
import time
from contextlib import ExitStack
from typing import Any, Final

from netd.client.client import Client
from tests.bench.overlay import client, lab
from tests.bench.registry_host import Clients, await_registry, row, spread, start
from tests.bench.registry_programs import PROCESSES
from tests.lab.namespaces import NamespaceHost
from tests.lab.process import Process
from tests.lab.waiting import wait_for

HOSTS: Final = 3
GONE_MS: Final = 300.0
DNS: Final = "127.0.0.54"
ALL: Final = "all three on all hosts"
_NETWORK: Final = "bench"


def views(quick: bool) -> None:
    """Registered by a label, by Consul's API and by Eureka's, in turns."""
    rounds = 3 if quick else 20
    with ExitStack() as stack:
        hosts = stack.enter_context(lab(HOSTS, profile="lan", registry=True)).hosts
        for host in hosts:
            await_registry(host)
        watching = [Clients(stack, host, "views", DNS) for host in hosts]
        home = hosts[0]
        calls = stack.enter_context(client(home))
        # Of a bridge of one host, the others are told nothing.
        calls.create_network(name=_NETWORK, driver="overlay")
        processes = start(stack, home, PROCESSES)
        calls.attach(_NETWORK, container_id="keep", pid=_container(processes))
        for way in ("label", "Consul", "Eureka"):
            took_ms: dict[str, list[float]] = {}
            for number in range(rounds):
                name = f"{way.lower()}-{number}"
                killed_s, seen = _kill(home, calls, processes, watching, name, way)
                for view in seen[0]:
                    last_s = max(each[view] for each in seen)
                    took_ms.setdefault(view, []).append((last_s - killed_s) * 1000)
                last_s = max(at_s for each in seen for at_s in each.values())
                took_ms.setdefault(ALL, []).append((last_s - killed_s) * 1000)
            for view, values in took_ms.items():
                goal = f"{GONE_MS:.0f} ms" if view == ALL else "-"
                met = max(values) <= GONE_MS if view == ALL else None
                row(f"container killed, registered by {way}: gone from {view}",
                    goal, spread(values), met)  # fmt: skip


def _kill(
    home: NamespaceHost,
    calls: Client,
    processes: Process,
    watching: list[Clients],
    name: str,
    way: str,
) -> tuple[float, list[dict[str, float]]]:
    """When the container of the service `name` was killed, and when who showed it no more."""
    pid = _container(processes)
    labels = {"netd.service": f"{name}:80"} if way == "label" else {}
    endpoint = calls.attach(_NETWORK, container_id=name, pid=pid, labels=labels)
    address = endpoint["addresses"][0].partition("/")[0]
    if way == "Consul":
        _ask(home, "PUT", "8500/v1/agent/service/register", _of_consul(name, address))
    elif way == "Eureka":
        _ask(home, "POST", f"8761/eureka/apps/{name}", _of_eureka(name, address))
    for each in watching:
        each.do(f"present {name}")
    for each in watching:
        assert each.do(f"absent {name}") == "watching"
    # Blocked queries have to be with their servers.
    time.sleep(0.1)
    processes.tell(f"kill {pid}")
    killed_s = float(processes.line())
    seen = [each.end() for each in watching]
    wait_for(lambda: len(calls.endpoints(network=_NETWORK)) == 1, what="one endpoint")
    return killed_s, seen


def _container(processes: Process) -> int:
    processes.tell("start unshare --net")
    return int(processes.line())


def _ask(host: NamespaceHost, method: str, place: str, body: dict[str, Any]) -> None:
    host.run(
        *("curl", "--silent", "--show-error", "--fail", "--request", method),
        *("--header", "Content-Type: application/json", "--data", json.dumps(body)),
        f"http://127.0.0.1:{place}",
    )


def _of_consul(name: str, address: str) -> dict[str, Any]:
    check = {"TTL": "60s", "Status": "passing"}
    return {"ID": name, "Name": name, "Address": address, "Port": 80, "Check": check}


def _of_eureka(name: str, address: str) -> dict[str, Any]:
    center = {
        "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
        "name": "MyOwn",
    }
    instance = {
        "instanceId": f"{name}:80",
        "hostName": name,
        "app": name.upper(),
        "ipAddr": address,
        "status": "UP",
        "port": {"$": 80, "@enabled": "true"},
        "vipAddress": name,
        "dataCenterInfo": center,
    }
    return {"instance": instance}
