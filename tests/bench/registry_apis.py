"""Consul's and Eureka's APIs: what answers, watchers and renewals cost the processes of a host."""

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Final

from tests.bench.overlay import client, lab
from tests.bench.registry_host import Clients, Used, await_registry, row, spread
from tests.lab.namespaces import NamespaceHost
from tests.lab.waiting import wait_for

PORTS: Final = {"consul": 8500, "eureka": 8761}
INSTANCES: Final = 50
ANSWERS_PER_S: Final = 5000
AT_ONCE: Final = 16  # connections that ask
ANSWERS_S: Final = 8.0

WATCHERS: Final = 5000
OF_EACH: Final = 50  # watchers of a service, but for one with half of all
WOKEN_S: Final = 0.5

RENEWED: Final = 10_000
CONNECTIONS: Final = 500  # that renew
RENEWALS_S: Final = 20.0
SHARE: Final = 0.30
SETTLED_S: Final = 120.0


def answers(quick: bool) -> None:
    """`health/service`, asked for as often as it is answered, by one processor."""
    with ExitStack() as stack:
        home = _home(stack)
        register = Clients(stack, home, "register", "8500")
        for number in range(INSTANCES):
            register.do(f"web-{number} web {1000 + number}")
        used = Used(home)
        if (os.cpu_count() or 1) > 1:
            used.pin(0)  # those who ask keep to the last one
        for coding in ("identity", "gzip"):
            asked = ("8500", "/v1/health/service/web?passing", coding, str(AT_ONCE))
            clients = Clients(stack, home, "answers", *asked)
            used = Used(home)
            told = clients.do(str(2.0 if quick else ANSWERS_S))
            count, cpu_s = told["answers"], used.cpu_s()["the registry"]
            per_s, per_cpu_s = count / told["took_s"], count / cpu_s
            figure = f"health/service, {INSTANCES} instances, {coding}, {told['bytes']:,} bytes"
            goal = f"{ANSWERS_PER_S:,}/s"
            row(f"{figure}: answers", goal, f"{per_s:,.0f}/s", per_s >= ANSWERS_PER_S)
            reached = f"{per_cpu_s:,.0f}/s, {1e6 / per_cpu_s:.0f} µs each"
            row(f"{figure}: by a processor's time", goal, reached, per_cpu_s >= ANSWERS_PER_S)


def watchers(quick: bool) -> None:
    """Blocked queries, a change of what some of them wait for, and who is told of it."""
    count = 500 if quick else WATCHERS
    few = {f"few-{number}": OF_EACH for number in range(count // 2 // OF_EACH)}
    _watch({**few, "many": count // 2}, ("few-0", "few-1", "many"))
    _watch({"all": count}, ("all",))


def _watch(watching: dict[str, int], changed: Iterable[str]) -> None:
    """`watching` has how many watch a service; each of `changed` is."""
    count = sum(watching.values())
    with ExitStack() as stack:
        home = _home(stack)
        register = Clients(stack, home, "register", "8500")
        watch = Clients(stack, home, "watch", "8500")
        used = Used(home)
        before_mb = used.resident_mb()["the registry"]
        for name, some in watching.items():
            register.do(f"{name}-0 {name} 80")
            watch.do(f"begin {some} {name}")
        with client(home) as calls:
            wait_for(lambda: _waiting(calls.registry()) == count, 60.0, what="all are blocked")
        each_kb = (used.resident_mb()["the registry"] - before_mb) * 1000 / count
        for name in changed:
            used, some = Used(home), watching[name]
            watch.begin(f"woken {name} {some}")
            began_s = time.monotonic()
            register.do(f"{name}-1 {name} 80")
            told = watch.end()
            woken_s = [at_s - began_s for at_s in told["woken_s"]]
            last_s = max(woken_s, default=0.0)
            right = len(woken_s) == some and not told["others"] and not told["twice"]
            figure = f"{count:,} blocked watchers, a change of what {some:,} watch"
            reached = (
                f"{len(woken_s):,} told, first after {min(woken_s, default=0.0):.3f} s, last "
                f"{last_s:.3f} s; {told['others']} others; "
                f"{used.cpu_s()['the registry']:.2f} s of a processor"
            )
            row(figure, f"{WOKEN_S:g} s, no others", reached, right and last_s <= WOKEN_S)
        row(f"{count:,} blocked watchers: memory of each", "-", f"{each_kb:.1f} kB")


def _waiting(state: dict[str, Any]) -> int:
    return sum(int(each["value"]) for each in state["counts"] if each["name"] == "consul_waiting")


def renewals(quick: bool) -> None:
    """Instances with a ttl check or a lease that is renewed, of which nothing changes."""
    count = 1000 if quick else RENEWED
    for api, port in PORTS.items():
        with ExitStack() as stack:
            home = _home(stack)
            connections = min(CONNECTIONS, count // 10)
            clients = Clients(stack, home, "renew", api, str(port), str(count), str(connections))
            used = Used(home)
            took_s = clients.do("register")["took_s"]
            all_s = sum(used.cpu_s().values())
            reached = f"{took_s:.1f} s, {all_s / count * 1e3:.2f} ms of processor each"
            row(f"{api}: {count:,} instances registered", "-", reached)
            _settle(home, clients, count)
            used = Used(home)
            told = clients.do(f"renew {RENEWALS_S / 4 if quick else RENEWALS_S:g}")
            share = used.share()
            parts = ", ".join(f"{name} {part:.1%}" for name, part in share.items())
            whole = sum(share.values())
            each_us = sum(used.cpu_s().values()) / told["renewals"] * 1e6
            figure = f"{api}: {count:,} instances renewed each 10 s"
            reached = f"{whole:.1%} ({parts}), {each_us:.0f} µs each"
            met = None if quick else whole <= SHARE
            row(f"{figure}: a processor's time", f"{SHARE:.0%}", reached, met)
            row(f"{figure}: the answer", "-", spread(told["took_ms"]))


def _settle(home: NamespaceHost, clients: Clients, count: int) -> None:
    """Renew until all are well, and then once more."""
    deadline_s = time.monotonic() + SETTLED_S
    with client(home) as calls:
        well = 0
        while well < count and time.monotonic() < deadline_s:
            clients.do("renew 10")
            well = len(calls.services(passing=True))
    assert well == count, f"{well} of {count} are well after {SETTLED_S:g} s"
    clients.do("renew 10")


def _home(stack: ExitStack) -> NamespaceHost:
    [home] = stack.enter_context(lab(1, registry=True)).hosts
    await_registry(home)
    return home
