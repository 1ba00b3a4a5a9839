"""Watches one service of this host's three views, and says when its last instance is gone.

Arguments: the name of the service, and the address of Eureka's API. A line `ready` once all views
show it; then, for each view, a line `VIEW SECONDS` of the monotonic clock, which all processes of a
machine share. The process waits for Consul's API, and asks the two others in turn.
"""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable

import dns.message
import dns.query

STEP_S = 0.005
PATIENCE_S = 60.0
DNS = "127.0.0.54"


def in_dns(name: str, _: str) -> Callable[[], bool]:
    query = dns.message.make_query(f"{name}.service.netd.internal", "A")
    return lambda: bool(dns.query.udp(query, DNS, 5).answer)


def in_eureka(name: str, address: str) -> Callable[[], bool]:
    connection = http.client.HTTPConnection(address, 8761, timeout=10)

    def shown() -> bool:
        connection.request("GET", f"/eureka/apps/{name}")
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200

    return shown


def in_consul(name: str, _: str) -> Callable[[], bool]:
    """The first call answers at once, each other when the service has changed."""
    connection = http.client.HTTPConnection("127.0.0.1", 8500, timeout=PATIENCE_S + 10)
    index = 0

    def shown() -> bool:
        nonlocal index
        path = f"/v1/health/service/{name}?passing&index={index}&wait={PATIENCE_S:g}s"
        connection.request("GET", path)
        answer = connection.getresponse()
        index = int(answer.getheader("X-Consul-Index", "0"))
        return bool(json.loads(answer.read()))

    return shown


VIEWS = {"dns": in_dns, "consul": in_consul, "eureka": in_eureka}


def watch(view: str, shown: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while shown():
        if time.monotonic() > deadline_s:
            return
        if view != "consul":
            time.sleep(STEP_S)
    print(f"{view} {time.monotonic()}\n", end="", flush=True)


if __name__ == "__main__":
    views = {view: ask(*sys.argv[1:]) for view, ask in VIEWS.items()}
    for view, shown in views.items():
        while not shown():
            time.sleep(STEP_S if view != "consul" else 0)
    print("ready", flush=True)
    threads = [threading.Thread(target=watch, args=one) for one in views.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
