"""A host of a lab: what can be done on it and to it."""

import json
import subprocess
from abc import ABC, abstractmethod
from typing import Any, Final

from tests.lab.container import Container
from tests.lab.process import Process, spawn
from tests.lab.waiting import wait_for

TIMEOUT_S: Final = 60.0
READY_DEADLINE_S: Final = 60.0
SOCKET: Final = "/run/netd/netd.sock"
_TABLE: Final = "lab_cuts"


class LabHost(ABC):
    """A host with netd; `name` is also netd's `--node`, `address` its own in the underlay.

    Commands run on it as root, in an environment where `netctl` finds netd, `python3` is 3.8 or
    newer, and `/run/netns` is the host's own. `slowness` is what the time limits of scenarios
    are multiplied by.
    """

    name: str
    address: str
    uplink: str = "eth0"
    slowness: float = 1.0

    def __init__(self) -> None:
        self.containers: dict[str, Container] = {}
        self.powered = True

    def __repr__(self) -> str:
        return self.name

    # What a backend has to say

    @abstractmethod
    def wrap(self, *command: str) -> list[str]:
        """A local command that runs `command` on the host, passing its input, output and code."""

    @abstractmethod
    def launch_netd(self) -> None:
        """Start netd without waiting until it is ready; nothing if it runs."""

    @abstractmethod
    def stop_netd(self) -> None:
        """SIGTERM, and wait for the end. It stays away until it is started."""

    @abstractmethod
    def kill_netd(self) -> None:
        """SIGKILL, and wait for the end. It stays away until it is started."""

    @abstractmethod
    def cut_power(self) -> None:
        """The end of the host: nothing of it is left but what is on its disk."""

    @abstractmethod
    def restore_power(self) -> None:
        """The host starts again, with the same addresses, and netd with it, not awaited."""

    # The daemon, and power

    def start_netd(self) -> None:
        """Start netd; return when it is ready."""
        self.launch_netd()
        self.await_ready()

    def await_ready(self) -> None:
        """Return when netd says that it is ready."""
        wait_for(
            self.is_ready,
            READY_DEADLINE_S * self.slowness,
            what=f"netd on {self} ready",
        )

    def is_ready(self) -> bool:
        """Whether netd says that it is ready."""
        return self.succeeds("curl", "-sf", "--unix-socket", SOCKET, "http://netd/readyz")

    def power_off(self) -> None:
        """Cut the power. Its containers are gone."""
        self.cut_power()
        self.powered = False
        for container in self.containers.values():
            container.forget()
        self.containers.clear()

    def power_on(self) -> None:
        """Restore it; return when netd is ready. There are no containers."""
        self.restore_power()
        self.powered = True
        self.await_ready()

    # Commands

    def run(
        self,
        *command: str,
        code: int | None = 0,
        feed: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> str:
        """Run a command on the host; what it prints. Fails unless it ends with `code`.

        `feed` is its input. With `code=None` it may end as it likes.
        """
        done = self._done(command, feed, timeout_s)
        if code is not None and done.returncode != code:
            raise AssertionError(
                f"{self}: {' '.join(command)}: exit code {done.returncode}, not {code}: "
                f"{done.stdout}{done.stderr}"
            )
        return done.stdout

    def succeeds(self, *command: str, timeout_s: float = TIMEOUT_S) -> bool:
        """Whether a command ends with 0."""
        return self._done(command, None, timeout_s).returncode == 0

    def _done(
        self, command: tuple[str, ...], feed: str | None, timeout_s: float
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.wrap(*command),
            input=feed,
            stdin=subprocess.DEVNULL if feed is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s * self.slowness,
            check=False,
        )

    def netctl(self, *words: str, code: int = 0, timeout_s: float = TIMEOUT_S) -> str:
        """Run netctl; its output, with messages after it. Fails unless it ends with `code`."""
        done = self._done(("netctl", *words), None, timeout_s)
        assert done.returncode == code, f"{self}: netctl {' '.join(words)}: {done}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def api(self, path: str) -> Any:
        """What `GET` of a path of netd's API answers, e.g. `/v1/members`."""
        told = self.run("curl", "-sf", "--unix-socket", SOCKET, f"http://netd{path}")
        return json.loads(told)

    def clock_s(self) -> float:
        """What its clock says, Unix time."""
        return float(self.run("date", "+%s.%N"))

    def states(self) -> dict[str, str]:
        """The cluster's members as the host sees them: states by name."""
        return {member["name"]: member["state"] for member in self.api("/v1/members")}

    def spawn(self, *command: str) -> Process:
        """Start a program on the host that goes on meanwhile.

        It has to end when its input does, or soon by itself: there are hosts where nothing else
        can end it.
        """
        return spawn(self.wrap(*command), f"{self}: {command[0]}")

    # Containers

    def start(self, name: str) -> Container:
        """A new container, not attached to anything."""
        self.run("ip", "netns", "add", name)
        container = self.containers[name] = Container(self, name)
        return container

    def clear(self) -> None:
        """End all containers, and have netd forget those that the host has lost."""
        for container in list(self.containers.values()):
            container.end()
        lost = {endpoint["container_id"] for endpoint in self.api(f"/v1/endpoints?node={self}")}
        for name in lost:
            self.netctl("endpoint", "detach", "--container", name)

    def plan(self) -> list[str]:
        """What netd would change in the kernel now."""
        return [f"{op['verb']} {op['object']}" for op in self.api("/v1/plan")]

    def networks(self) -> list[str]:
        """Names of the networks that it knows."""
        return [network["name"] for network in self.api("/v1/networks")]

    # What lies between it and the others

    def mend(self) -> None:
        """Let everything in again."""
        self.run("nft", "-f", "-", feed=f"table inet {_TABLE}\ndelete table inet {_TABLE}\n")

    def drop(self, *matches: str) -> None:
        """Lose what comes in and matches, e.g. `ip saddr 198.18.0.2`."""
        chain = "chain input {\ntype filter hook input priority -300; policy accept;\n}"
        rules = "".join(f"add rule inet {_TABLE} input {match} drop\n" for match in matches)
        self.run("nft", "-f", "-", feed=f"table inet {_TABLE} {{\n{chain}\n}}\n{rules}")
