"""netd's nodes as processes, several nodes in each."""

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

import msgspec

from netd.gossip.settings import Profile
from tests.bench.gossip_fleet import Fleet, address
from tests.bench.gossip_process import Orders, Sight, Write

IN_ONE: Final = 11
SINGLE: Final = 5


class NetdFleet(Fleet):
    """`size` nodes: some in processes of their own, the others up to `IN_ONE` in a process."""

    def __init__(self, stack: ExitStack, folder: Path, size: int, profile: Profile) -> None:
        super().__init__(stack)
        self._stack = stack
        self._secret = os.urandom(32)
        self._folder = folder / profile
        self._folder.mkdir()
        self._profile: Profile = profile
        self._processes: dict[str, subprocess.Popen[str]] = {}  # by the node's name
        self._hosts = {f"n{number}": address(number) for number in range(1, size + 1)}
        names = list(self._hosts)
        single = names[-SINGLE:]
        together = names[:-SINGLE]
        groups = [together[at : at + IN_ONE] for at in range(0, len(together), IN_ONE)]
        for group in [*groups, *([name] for name in single)]:
            self._start(group)
            self.names += group
            self.await_all()
        self.victims = single

    def kill(self, victim: str) -> None:
        process = self._processes[victim]
        process.kill()
        process.wait()

    def restart(self, victim: str) -> None:
        self._start([victim])

    def change(self, number: int) -> tuple[str, str]:
        writer = self.names[number % len(self.names)]
        write = Write(writer, f"change {number}")
        write_line(self._processes[writer], write)
        return writer, write.value

    def _start(self, names: list[str]) -> None:
        orders = Orders(
            secret=self._secret,
            directory=str(self._folder),
            profile=self._profile,
            nodes={name: self._hosts[name] for name in names},
            seeds=list(self._hosts.values())[:3],
        )
        process = self.space.start(
            self._stack, sys.executable, "-m", "tests.bench.gossip_process", talk=True
        )
        write_line(process, orders)
        for name in names:
            self._processes[name] = process
        assert process.stdout is not None
        threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()

    def _listen(self, output: IO[str]) -> None:
        decode = msgspec.json.Decoder(Sight).decode
        for line in output:
            sight = decode(line)
            if sight.value:
                self.sightings.note_value(sight.node, sight.value, sight.at_s)
            else:
                self.sightings.note_state(sight.node, sight.about, sight.state, sight.at_s)


def write_line(process: "subprocess.Popen[str]", what: msgspec.Struct) -> None:
    """To the process's standard input, as JSON."""
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(what).decode() + "\n")
    process.stdin.flush()
