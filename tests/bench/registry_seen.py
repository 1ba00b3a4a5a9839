"""Who sees a service, and when: the directories of hosts, and what their DNS answers."""

import threading
import time
from collections.abc import Collection, Sequence
from typing import Final

from netd.client.client import Lines
from netd.client.errors import Unreachable
from tests.bench.gossip_fleet import Sightings
from tests.lab.process import Process

WITHIN_S: Final = 60.0
PAUSE_S: Final = 0.005
GONE: Final = "gone"


class Seen:
    """What the hosts say of services, by the name of the service.

    Who sees it is a host, by its `/v1/directory`, or its DNS, called `dns_of` it. States are the
    status of an instance or `GONE`; of DNS `present` and `absent`.
    """

    def __init__(self) -> None:
        self._sightings = Sightings()
        self._askers: dict[str, Process] = {}
        self._listeners: list[threading.Thread] = []

    def follow(self, host: str, lines: Lines) -> None:
        """Note what the directory of a host says, until its daemon ends."""
        names: dict[str, str] = {}
        synced = threading.Event()

        def read() -> None:
            try:
                for entry in lines:
                    at_s = time.monotonic()
                    if entry["kind"] == "sync":
                        synced.set()
                    if entry["kind"] != "service":
                        continue
                    service = entry.get("service")
                    if service is not None:
                        names[entry["id"]] = service["name"]
                    name = names.get(entry["id"], "")
                    state = GONE if service is None else service["status"]
                    self._sightings.note_value(host, f"{name} {state}", at_s)
            except (Unreachable, OSError, ValueError):
                return  # the lab is taken down

        threading.Thread(target=read, daemon=True).start()
        if not synced.wait(WITHIN_S):
            raise TimeoutError(f"the directory of {host} was not there within {WITHIN_S:g} s")

    def listen(self, host: str, asker: Process) -> None:
        """Note what DNS says on a host."""
        self._askers[dns_of(host)] = asker

        def read() -> None:
            while line := asker.line():
                what, _, at_s = line.rpartition(" ")
                self._sightings.note_value(dns_of(host), what, float(at_s))

        listener = threading.Thread(target=read, daemon=True)
        listener.start()
        self._listeners.append(listener)

    def end(self) -> None:
        """End the programs that ask by DNS."""
        for asker in self._askers.values():
            asker.tell("end")
        for listener in self._listeners:
            listener.join(WITHIN_S)

    def ask(self, state: str, names: Sequence[str], pause_s: float = PAUSE_S) -> None:
        """Have DNS asked for names until it says `state`; return when all askers have begun."""
        for asker in self._askers.values():
            asker.tell(" ".join((state, str(pause_s), *names)))
        self._await(f"asking {state} {names[0]}", self._askers)

    def when(self, what: str, who: Collection[str]) -> dict[str, float]:
        """When each of them saw it first; waits for the last."""
        self._await(what, who)
        seen = self._sightings.value(what)
        return {name: seen[name] for name in who}

    def _await(self, what: str, who: Collection[str]) -> None:
        def is_so() -> bool:
            return self._sightings.value(what).keys() >= set(who)

        self._sightings.wait(is_so, WITHIN_S, f"{what!r} is seen by all")


def dns_of(host: str) -> str:
    return f"{host} dns"
