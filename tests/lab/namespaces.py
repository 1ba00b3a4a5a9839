"""A lab on one machine: each host is a set of namespaces, the underlay a bridge in one more.

All of a lab is in its folder: `lab.json`, the cluster's key, and a folder for each machine,
which is the machine's disk. Nothing of the machine's own network is touched.
"""

import os
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Final, Literal

import msgspec

from tests.lab.host import READY_DEADLINE_S, LabHost
from tests.lab.lab import Lab
from tests.lab.machine import DISK, Machine, running
from tests.lab.underlay import HOSTS_MAX, LAST, OUTSIDE, Plan, start_outside
from tests.lab.waiting import wait_for

_PID_FILE: Final = "/run/netd.pid"
_END_DEADLINE_S: Final = 20.0


class NamespaceHost(LabHost):
    """A host on the bridge of `outside`; its netd's log is `netd.log` in its folder."""

    def __init__(self, machine: Machine, outside: Machine, number: int, plan: Plan) -> None:
        super().__init__()
        self.machine = machine
        self.name = machine.name
        self.address = plan.address(number)
        self._number = number
        self._outside = outside
        self._tied = False
        self._plan = plan

    def wrap(self, *command: str) -> list[str]:
        return self.machine.wrap(*command)

    def install(self, key: str, *, tied: bool) -> None:
        """Make its disk, and start the machine."""
        self._tied = tied
        disk = self.machine.folder
        disk.mkdir()
        (disk / "cluster.key").touch(mode=0o600)
        (disk / "cluster.key").write_text(key)
        (disk / "hosts").write_text(self._plan.hosts_file())
        settings = self._plan.settings(
            self._number, key_file=f"{DISK}/cluster.key", state_dir=f"{DISK}/state"
        )
        (disk / "netd.toml").write_text(settings)
        self.switch_on()

    # Power

    def switch_on(self) -> None:
        """Start the machine, without netd."""
        self.machine.on(tied=self._tied)
        self._outside.in_network(
            *("ip", "link", "add", self.name, "up", "master", "br0", "type", "veth"),
            *("peer", "name", self.uplink, "netns", str(self.machine.pid)),
        )
        for address in self._plan.addresses(self._number):
            flags = ("nodad",) if ":" in address else ()
            self.run("ip", "address", "add", address, "dev", self.uplink, *flags)
        self.run("ip", "link", "set", self.uplink, "up")
        for version, last in LAST.items():
            self.run("ip", f"-{version}", "route", "add", "default", "via", str(last))

    def cut_power(self) -> None:
        # The cable first: sockets that are closed send something.
        self._outside.in_network("ip", "link", "del", self.name)
        self.machine.off()

    def restore_power(self) -> None:
        self.switch_on()
        self.launch_netd()

    # The daemon

    @property
    def netd_runs(self) -> bool:
        return self.succeeds("sh", "-c", f"kill -0 $(cat {_PID_FILE})")

    def launch_netd(self) -> None:
        if not self.netd_runs:
            command = f"netd --config {DISK}/netd.toml >>{DISK}/netd.log 2>&1 </dev/null"
            self.run("sh", "-c", f"{command} & echo $! >{_PID_FILE}")

    def stop_netd(self) -> None:
        self._end_netd("TERM")

    def kill_netd(self) -> None:
        self._end_netd("KILL")

    def _end_netd(self, signal: str) -> None:
        self.run("sh", "-c", f"kill -{signal} $(cat {_PID_FILE})")
        wait_for(lambda: not self.netd_runs, _END_DEADLINE_S, what=f"end of netd on {self}")

    def await_ready(self) -> None:
        wait_for(
            lambda: self.is_ready() or not self.netd_runs,
            READY_DEADLINE_S,
            what=f"netd on {self} ready",
            show=self._end_of_log,
        )
        if not self.netd_runs:
            raise AssertionError(f"netd on {self} has ended:\n{self._end_of_log()}")

    def _end_of_log(self) -> str:
        return (self.machine.folder / "netd.log").read_text()[-4000:]


class NamespaceLab(Lab):
    """The lab in a folder, which may be there already. When `tied`, it ends with this process.

    `registry`: whether names are answered; not in tests, unless one sets it before `up`. So may
    `more`, see `Plan`.
    """

    def __init__(self, folder: Path, *, tied: bool = True) -> None:
        self.registry = not tied
        self.more = ""
        self.hosts: list[NamespaceHost] = []
        self.folder = folder
        self.outside = Machine(folder / OUTSIDE)
        self._tied = tied
        self._file = folder / "lab.json"
        if self._file.exists():
            plan = msgspec.json.decode(self._file.read_bytes(), type=Plan)
            self.hosts.extend(self._planned(plan))

    def _planned(self, plan: Plan) -> list[NamespaceHost]:
        return [
            NamespaceHost(Machine(self.folder / f"host-{number}"), self.outside, number, plan)
            for number in range(1, plan.count + 1)
        ]

    def up(self, count: int, *, profile: str = "fast", family: Literal[4, 6] = 4) -> None:
        assert 1 <= count <= HOSTS_MAX
        plan = Plan(count, profile, family, self.registry, self.more)
        self._file.write_bytes(msgspec.json.encode(plan))
        start_outside(self.outside, plan, tied=self._tied)
        key = b64encode(os.urandom(32)).decode() + "\n"
        for host in self._planned(plan):
            self.hosts.append(host)
            host.install(key, tied=self._tied)
            host.launch_netd()
        for host in self.hosts:
            host.await_ready()
        self.await_whole()

    def down(self) -> None:
        for host in self.hosts:
            for container in host.containers.values():
                container.forget()
        for machine in (self.outside, *(host.machine for host in self.hosts)):
            machine.off()
        for machine in running(self.folder):  # of a lab that was not finished
            machine.off()
        shutil.rmtree(self.folder)
