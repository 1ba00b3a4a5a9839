"""serf's agents (Debian package `serf`), with what they log for what they see."""

import base64
import os
import re
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack
from typing import IO, Final

from tests.bench.gossip_fleet import ALIVE, DEAD, Fleet, address

_MEMBER: Final = re.compile(r"serf: EventMember(Join|Failed): (\S+)")
_EVENT: Final = re.compile(r"agent: Received event: user-event: (\S+)")
_STATES: Final = {"Join": ALIVE, "Failed": DEAD}
_STAGGER_S: Final = 0.05


def version() -> str | None:
    """What is installed, None if nothing is."""
    if shutil.which("serf") is None:
        return None
    done = subprocess.run(["serf", "version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


class SerfFleet(Fleet):
    """`size` agents with serf's profile `lan` and encryption, each a process."""

    def __init__(self, stack: ExitStack, size: int) -> None:
        super().__init__(stack)
        self._stack = stack
        self._key = base64.b64encode(os.urandom(32)).decode()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._hosts = {f"n{number}": address(number) for number in range(1, size + 1)}
        for name in self._hosts:
            self._start(name)
            self.names.append(name)
            time.sleep(_STAGGER_S)
            if len(self.names) == 1:
                self.sightings.wait(
                    lambda: self.sightings.state("n1", "n1")[0] == ALIVE, 10, "serf has started"
                )
        self.await_all()
        self.victims = self.names[-5:]

    def kill(self, victim: str) -> None:
        process = self._processes[victim]
        process.kill()
        process.wait()

    def restart(self, victim: str) -> None:
        self._start(victim)

    def change(self, number: int) -> tuple[str, str]:
        """A user event, the smallest thing that serf tells all."""
        writer = self.names[number % len(self.names)]
        self.space.run(
            "serf",
            "event",
            f"-rpc-addr={self._hosts[writer]}:7373",
            "-coalesce=false",
            f"e{number}",
        )
        return writer, f"e{number}"

    def _start(self, name: str) -> None:
        host = self._hosts[name]
        joins = [] if name == "n1" else [f"-join={self._hosts['n1']}"]
        process = self.space.start(
            self._stack,
            *("serf", "agent", f"-node={name}", f"-bind={host}:7946", f"-rpc-addr={host}:7373"),
            *("-profile=lan", "-log-level=info", f"-encrypt={self._key}", *joins),
        )
        self._processes[name] = process
        assert process.stdout is not None
        arguments = (name, process.stdout)
        threading.Thread(target=self._listen, args=arguments, daemon=True).start()

    def _listen(self, name: str, output: IO[str]) -> None:
        for line in output:
            now_s = time.monotonic()
            if found := _MEMBER.search(line):
                self.sightings.note_state(name, found[2], _STATES[found[1]], now_s)
            elif found := _EVENT.search(line):
                self.sightings.note_value(name, found[1], now_s)
