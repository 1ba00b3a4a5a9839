"""Real nodes on this machine: what netd's and serf's have in common when they are measured."""

import json
import math
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from tests.e2e.lab import Namespace

ALIVE: Final = "alive"
DEAD: Final = "dead"
START_S: Final = 120.0
CRASH_S: Final = 120.0
CHANGE_S: Final = 30.0
CALM_S: Final = 5.0  # after which a fleet is at rest


class Sightings:
    """What nodes have said, each with when (monotonic seconds, which all processes share)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._states: dict[tuple[str, str], tuple[str, float]] = {}
        self._values: dict[str, dict[str, float]] = {}

    def note_state(self, observer: str, about: str, state: str, at_s: float) -> None:
        with self._changed:
            self._states[observer, about] = state, at_s
            self._changed.notify_all()

    def note_value(self, observer: str, value: str, at_s: float) -> None:
        with self._changed:
            self._values.setdefault(value, {}).setdefault(observer, at_s)
            self._changed.notify_all()

    def forget(self, observer: str) -> None:
        """It has ended, and with it what it said."""
        with self._changed:
            self._states = {key: said for key, said in self._states.items() if key[0] != observer}

    def wait(self, is_so: Callable[[], bool], within_s: float, what: str) -> None:
        """Until `is_so`, which may look at what is noted."""
        with self._changed:
            if not self._changed.wait_for(is_so, within_s):
                raise TimeoutError(f"not so after {within_s:g} s: {what}")

    def state(self, observer: str, about: str) -> tuple[str, float]:
        return self._states.get((observer, about), ("", 0.0))

    def value(self, value: str) -> dict[str, float]:
        """When each has seen it."""
        return self._values.get(value, {})


class Fleet(ABC):
    """Nodes in a network namespace of their own, each with an address on its loopback device.

    `names` are of the nodes that run; a node of `victims` is a process by itself.
    """

    def __init__(self, stack: ExitStack) -> None:
        self.sightings = Sightings()
        self.names: list[str] = []
        self.victims: list[str] = []
        self.space = Namespace(stack, loopback=True)
        # All addresses of a prefix on `lo` are the host's own.
        self.space.run("ip", "address", "add", "10.66.0.1/16", "dev", "lo")

    @abstractmethod
    def kill(self, victim: str) -> None:
        """SIGKILL, and return when it has ended."""

    @abstractmethod
    def restart(self, victim: str) -> None:
        """Start the same node again."""

    @abstractmethod
    def change(self, number: int) -> tuple[str, str]:
        """Have a node tell all something new; which one, and what the others will see."""

    def await_all(self) -> None:
        """Until all know all."""

        def is_so() -> bool:
            return all(
                self.sightings.state(observer, about)[0] == ALIVE
                for observer in self.names
                for about in self.names
                if observer != about
            )

        self.sightings.wait(is_so, START_S, f"{len(self.names)} nodes know each other")

    def crashes(self, count: int, calm_s: float = CALM_S) -> list[float]:
        """Seconds from each crash until it is known to all others."""
        took_s = []
        for number in range(count):
            victim = self.victims[number % len(self.victims)]
            time.sleep(calm_s + random.random() * 2)
            began_s = time.monotonic()
            self.kill(victim)
            self.names.remove(victim)
            took_s.append(self._last_to_notice(victim, began_s) - began_s)
            self.sightings.forget(victim)
            self.restart(victim)
            self.names.append(victim)
            self.await_all()
        return took_s

    def _last_to_notice(self, victim: str, began_s: float) -> float:
        def noticed() -> list[float]:
            said = [self.sightings.state(observer, victim) for observer in self.names]
            return [at_s for state, at_s in said if state == DEAD and at_s >= began_s]

        self.sightings.wait(
            lambda: len(noticed()) == len(self.names), CRASH_S, f"{victim} is dead for all"
        )
        return max(noticed())

    def changes(self, count: int) -> list[float]:
        """Seconds from when a node tells of a change until the last has seen it.

        A change that never reaches all, as may be with a message that is only forwarded, is
        infinitely late.
        """
        took_s = []
        for number in range(count):
            time.sleep(0.3 + random.random() * 0.3)
            writer, value = self.change(number)
            try:
                self.sightings.wait(partial(self._all_have, value), CHANGE_S, f"all have {value}")
            except TimeoutError:
                took_s.append(math.inf)
                continue
            seen = self.sightings.value(value)
            took_s.append(max(seen.values()) - seen[writer])
        return took_s

    def _all_have(self, value: str) -> bool:
        return len(self.sightings.value(value)) == len(self.names)

    def quiet_bytes(self, seconds: float, calm_s: float = CALM_S) -> float:
        """What one node sends in a second while nothing happens, with headers of IP and above."""
        time.sleep(calm_s)
        before, began_s = self._sent(), time.monotonic()
        time.sleep(seconds)
        sent, ended_s = self._sent(), time.monotonic()
        return (sent - before) / (ended_s - began_s) / len(self.names)

    def _sent(self) -> int:
        """Bytes on the loopback device, from the IP header on (`loopback_xmit` in Linux)."""
        told = json.loads(self.space.run("ip", "-json", "-statistics", "link", "show", "lo"))
        sent: int = told[0]["stats64"]["tx"]["bytes"]
        return sent


def address(number: int) -> str:
    return f"10.66.{number // 250}.{number % 250 + 1}"
