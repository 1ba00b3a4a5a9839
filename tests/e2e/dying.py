"""Daemons that are killed, and start again, many times within seconds.

A nursery is a process with everything imported that forks others: real daemons, and ones
that kill themselves at a chosen step of a use case. The latter run the real engine on the
real kernel and store.
"""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from netd.daemon.config import load
from netd.daemon.main import main
from netd.daemon.settings.parts import engine_settings
from netd.engine.clock import SystemClock
from netd.engine.core import Engine
from netd.engine.interfaces import Change
from netd.kernel.linux import LinuxKernel
from netd.model.endpoint import AttachRequest, EndpointPatch, Sandbox
from netd.model.network import NetworkSpec
from netd.plan.operations import Failure, Operation
from netd.plan.ports import HeldPort
from netd.store.sqlite import SqliteStore
from tests.e2e.lab import Host, Process
from tests.lab.process import die_with_parent
from tests.unit.memory_cluster import Mesh


class Fate:
    """Counts steps once it is armed, and ends the process at the one it is to end at."""

    def __init__(self) -> None:
        self._left = -1

    def arm(self, step: int) -> None:
        """Die at the `step`-th step from now, counted from 0."""
        self._left = step

    def step(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


class MortalKernel(LinuxKernel):
    """Applies operations one by one; between any two it may be the end."""

    def __init__(self, node: str, fate: Fate) -> None:
        super().__init__(node)
        self._fate = fate

    async def apply(
        self, operations: Sequence[Operation], sandboxes: Mapping[str, Sandbox]
    ) -> list[Failure]:
        failures: list[Failure] = []
        for operation in operations:
            self._fate.step()
            failures += await super().apply([operation], sandboxes)
        return failures

    async def flush_conntrack(self, ports: Sequence[HeldPort]) -> int:
        self._fate.step()
        return await super().flush_conntrack(ports)


class MortalStore(SqliteStore):
    """It may be the end before and after each commit."""

    fate = Fate()

    async def commit(self, change: Change) -> None:
        self.fate.step()
        await super().commit(change)
        self.fate.step()


UseCase = Callable[[Engine, dict[str, Any]], Awaitable[object]]
_USE_CASES: dict[str, UseCase] = {
    "create_network": lambda engine, call: engine.create_network(
        msgspec.convert(call["spec"], NetworkSpec)
    ),
    "delete_network": lambda engine, call: engine.delete_network(call["network"]),
    "attach": lambda engine, call: engine.attach(
        call["network"], msgspec.convert(call["request"], AttachRequest)
    ),
    "update": lambda engine, call: engine.update_endpoint(
        call["endpoint"], msgspec.convert(call["patch"], EndpointPatch)
    ),
    "detach": lambda engine, call: engine.detach(call["endpoint"]),
    "detach_container": lambda engine, call: engine.detach_container(call["container"]),
}


async def _live(state_dir: Path, call: dict[str, Any], step: int) -> None:
    settings = engine_settings(load(flags={"node": {"name": "host-1"}}))
    store = await MortalStore.open(state_dir)
    kernel = MortalKernel(settings.node, MortalStore.fate)
    engine = await Engine.start(kernel, store, SystemClock(), settings, Mesh().node("host-1"))
    MortalStore.fate.arm(step)
    await _USE_CASES[call["use_case"]](engine, call)
    MortalStore.fate.arm(-1)
    await engine.stop()
    kernel.close()


def _fork(work: Callable[[], int]) -> int:
    """Run `work` in a child; its result is the exit code."""
    child = os.fork()
    if child:
        return child
    try:
        die_with_parent()
        code = work()
    except BaseException:  # noqa: BLE001 - the child must not go on as its parent
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stderr.flush()
    os._exit(code)


def _daemon(arguments: list[str], log: str) -> int:
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    return main(arguments)


def _life(state_dir: str, call: dict[str, Any], step: int) -> int:
    asyncio.run(_live(Path(state_dir), call, step))
    return 0


def _serve() -> None:
    """Read orders, one on each line, and print how a life ended or a daemon's number."""
    die_with_parent()
    for line in sys.stdin:
        match json.loads(line):
            case ["live", state_dir, call, step]:
                child = _fork(lambda: _life(state_dir, call, step))
                answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            case ["daemon", arguments, log]:
                answer = _fork(lambda: _daemon(arguments, log))
            case ["reap", child]:
                answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            case order:
                raise ValueError(order)
        print(answer, flush=True)


class Nursery:
    """The test's side of the process that forks."""

    def __init__(self, host: Host, stack: ExitStack) -> None:
        self._process = subprocess.Popen(
            host.wrap(sys.executable, "-m", "tests.e2e.dying"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        stack.enter_context(self._process)
        stack.callback(self._process.kill)

    def order(self, *order: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


class _Forked:
    """A daemon of the nursery."""

    def __init__(self, nursery: Nursery, arguments: list[str], log: Path) -> None:
        self._nursery = nursery
        self.pid = nursery.order("daemon", arguments, str(log))
        self._pidfd = os.pidfd_open(self.pid)
        self._code: int | None = None

    def poll(self) -> int | None:
        ended = self._code is None and select.select([self._pidfd], [], [], 0)[0]
        return self.wait() if ended else self._code

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            if not select.select([self._pidfd], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} does not end")
            self._code = self._nursery.order("reap", self.pid)
            os.close(self._pidfd)
        return self._code

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def terminate(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)


class MortalHost(Host):
    """A host whose daemons start at once, and can be made to die at a step."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        super().__init__(stack, folder)
        self._nursery = Nursery(self, stack)
        stack.callback(self.kill)  # before the nursery is

    def _spawn(self, arguments: list[str], environment: dict[str, str]) -> Process:
        assert not environment
        return _Forked(self._nursery, arguments, self.log)

    def dies(self, call: dict[str, Any], step: int) -> bool:
        """Run the call until its `step`-th step; False if it was through before that.

        The daemon must not be running.
        """
        code = self._nursery.order("live", str(self.folder / "state"), call, step)
        assert code in (0, -signal.SIGKILL), f"the use case failed: {code}"
        return code != 0


if __name__ == "__main__":
    _serve()
