"""Several hosts with a netd each, joined by a bridge: a cluster on one machine.

The bridge and the hosts are in namespaces of their own. Hosts are cut off from each other by
rules in a table of the lab's own; netd's is left alone.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from netd.client.client import Client
from tests.e2e.lab import Machine, Namespace
from tests.lab.waiting import DEADLINE_S, wait_for

BIN: Final = Path(sys.executable).parent
PORT: Final = 7940
# For benchmarks of networks (RFC 2544): no host route of a machine leads there.
FIRST_ADDRESS: Final = IPv4Address("198.18.0.1")
PREFIX: Final = 15

_TABLE: Final = "lab_cuts"
_TABLE_TEXT: Final = f"""
table inet {_TABLE} {{
    chain input {{ type filter hook input priority -300; policy accept; }}
}}
"""


class ClusterHost(Machine):
    """One host of a cluster: `eth0` leads to the bridge."""

    PROGRAM = (str(BIN / "netd"),)

    def __init__(
        self, cluster: "Cluster", stack: ExitStack, folder: Path, node: str, address: str
    ) -> None:
        folder.mkdir()
        super().__init__(stack, folder, node)
        self.address = ""
        self.flags: list[str] = list(cluster.flags)
        self.environment: dict[str, str] = {}
        self.run(
            *("ip", "link", "add", "eth0", "type", "veth"),
            *("peer", "name", f"to-{self.pid}", "netns", str(cluster.underlay.pid)),
        )
        cluster.underlay.run("ip", "link", "set", f"to-{self.pid}", "up", "master", "br0")
        self.run("ip", "link", "set", "eth0", "up")
        self.move(address)
        self.mend()

    def __repr__(self) -> str:
        return self.node

    def move(self, address: str) -> None:
        """Give the host another address, its only one."""
        self.run("ip", "-4", "address", "flush", "dev", "eth0")
        self.run("ip", "address", "add", f"{address}/{PREFIX}", "dev", "eth0")
        self.address = address

    # The daemon

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def up(self, *flags: str) -> None:
        """Start the daemon with the cluster's flags and `flags`; return when it is ready."""
        self.start_daemon(*self.flags, *flags, environment=self.environment)

    def launch_only(self, *flags: str) -> None:
        """Start it without waiting."""
        self.launch(*self.flags, *flags, environment=self.environment)

    def restart(self, *flags: str) -> None:
        """SIGTERM, and the daemon once more."""
        self.stop_daemon()
        self.up(*flags)

    def stop(self) -> None:
        """SIGSTOP: the process stays, and does nothing."""
        os.kill(self.daemon_pid, signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT."""
        os.kill(self.daemon_pid, signal.SIGCONT)

    def lose_disk(self) -> None:
        """The state folder is gone; not to be called while the daemon runs."""
        shutil.rmtree(self.state_dir)

    def start_program(self, *command: str) -> "subprocess.Popen[str]":
        """Start a program on the host that ends with it."""
        return self.start(self._stack, *command)

    # What it says

    def netctl(self, *words: str, code: int = 0, feed: str | None = None) -> str:
        """Run netctl; its output, with messages after it. Fails unless it ends with `code`."""
        done = subprocess.run(
            [str(BIN / "netctl"), *words],
            env={**os.environ, "NETD_SOCKET": self.socket},
            input=feed,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == code, f"{self}: {words}: {done}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def members(self) -> dict[str, dict[str, Any]]:
        """By id."""
        return {member["id"]: member for member in self.client.members()}

    def states(self) -> dict[str, str]:
        """State by name and id, for people."""
        return {
            f"{member['name']} {member['id'][:4]}": member["state"]
            for member in self.client.members()
        }

    @property
    def id(self) -> str:
        """The daemon's id; it sees itself first."""
        own: str = self.client.members()[0]["id"]
        return own

    def sees(self, state: str, others: Iterable["ClusterHost"]) -> bool:
        """Whether the others are all in that state.

        At an address there may be an earlier member, of a disk that was lost: what is asked is
        who came there last.
        """
        found: dict[str, str] = {}
        for member in sorted(self.client.members(), key=lambda member: int(member["epoch"])):
            found[member["address"].rpartition(":")[0]] = member["state"]
        return all(found.get(other.address) == state for other in others)

    def resolves(self, host: "ClusterHost") -> list[str]:
        """The IPv4 addresses of another's node name."""
        answer = self.client.resolve(f"{host.node}.node.netd.internal")
        return [record["data"] for record in answer["records"]]

    def doctor(self, check: str) -> str:
        """What doctor has to say of a check, unless it is fine."""
        return "\n".join(
            f"{finding['level']}: {finding['detail']} -> {finding['remedy']}"
            for finding in self.client.doctor()
            if finding["check"] == check and finding["level"] != "ok"
        )

    def metrics(self, prefix: str = "netd_cluster_") -> dict[str, float]:
        """Values by name (with labels) of the metrics that begin with `prefix`."""
        lines = self.client.metrics().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith(prefix))
        return {name: float(value) for name, _, value in pairs}

    def conditions(self) -> set[str]:
        return {condition["code"] for condition in self.client.status()["conditions"]}

    @property
    def revision(self) -> int:
        """Of the newest event: there is one more after each call."""
        mark = f"mark-{secrets.token_hex(4)}"
        with Client(self.socket) as client, client.events() as events:
            client.create_network(name=mark, driver="none")
            for event in events:
                if event["name"] == mark:
                    break
        self.client.delete_network(mark)
        revision: int = event["revision"]
        return revision

    def events(self, since: int) -> list[dict[str, Any]]:
        """All events of the cluster after a revision until now."""
        until = self.revision
        found = []
        with self.client.events(since) as events:
            for event in events:
                if event["revision"] >= until:
                    break
                if event["type"].partition(".")[0] in ("member", "cluster", "key", "events"):
                    found.append(event)
        return found

    # What lies between it and the others

    def mend(self) -> None:
        """Let everything in again."""
        self._nft(f"table inet {_TABLE}\ndelete table inet {_TABLE}\n{_TABLE_TEXT}")

    def drop(self, *matches: str) -> None:
        """Lose what comes in and matches, e.g. `udp dport 7940`."""
        self._nft("".join(f"add rule inet {_TABLE} input {match} drop\n" for match in matches))

    def _nft(self, text: str) -> None:
        subprocess.run(
            self.wrap("nft", "-f", "-"), input=text, text=True, check=True, capture_output=True
        )


class Cluster:
    """Hosts named `host-1`, `host-2`, ..., with one cluster key; no daemon runs at first."""

    def __init__(self, stack: ExitStack, folder: Path, count: int, *, profile: str) -> None:
        self.stack = stack
        self.folder = folder
        self.key_file = self.make_key("cluster.key")
        self.flags: tuple[str, ...] = (
            *("--cluster-key", str(self.key_file)),
            *("--profile", profile),
        )
        self.underlay = Namespace(stack)
        self.underlay.run("ip", "link", "add", "br0", "type", "bridge")
        self.underlay.run("ip", "link", "set", "br0", "up")
        self._addresses = self._folders = 0
        self.hosts = [self.add_host(f"host-{number}") for number in range(1, count + 1)]

    def make_key(self, name: str) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(b64encode(os.urandom(32)) + b"\n")
        return path

    def add_host(self, node: str, stack: ExitStack | None = None) -> ClusterHost:
        """One more host, which is not among `hosts`. It ends with `stack`, else the cluster's."""
        self._folders += 1
        folder = self.folder / f"h{self._folders}"
        return ClusterHost(self, stack or self.stack, folder, node, self.new_address())

    @contextmanager
    def guest(self, node: str) -> Iterator[ClusterHost]:
        """A host that is there for a while; its daemon is for the caller to start and to stop."""
        with ExitStack() as stack:
            yield self.add_host(node, stack)

    def new_address(self) -> str:
        self._addresses += 1
        return str(FIRST_ADDRESS + self._addresses - 1)

    def start(self, hosts: Sequence[ClusterHost] | None = None) -> None:
        """Start daemons side by side; return when all are ready."""
        hosts = self.hosts if hosts is None else hosts
        for host in hosts:
            host.launch_only()
        for host in hosts:
            host.await_ready()

    def join(self, hosts: Sequence[ClusterHost] | None = None) -> None:
        """Have all join the first, by hand; return when all see all."""
        first, *others = self.hosts if hosts is None else hosts
        for host in others:
            host.netctl("member", "join", first.address)
        self.await_whole(hosts)

    def repair(self) -> None:
        """Whatever was done to the hosts: let them be whole again."""
        self.heal()
        for host in self.hosts:
            if host.running:
                host.cont()
            else:
                host.up()
        if any(len(host.client.members()) == 1 for host in self.hosts):
            self.join()  # one has left, or never was a member
        self.await_whole()

    # Between hosts

    def cut(self, one: ClusterHost, two: ClusterHost, *, both_ways: bool = True) -> None:
        """Lose what goes from `one` to `two`, and what comes back too."""
        two.drop(f"ip saddr {one.address}")
        if both_ways:
            one.drop(f"ip saddr {two.address}")

    def part(self, some: Sequence[ClusterHost], others: Sequence[ClusterHost]) -> None:
        """Cut each of `some` off from each of the `others`."""
        for one in some:
            one.drop(*(f"ip saddr {other.address}" for other in others))
        for other in others:
            other.drop(*(f"ip saddr {one.address}" for one in some))

    def isolate(self, host: ClusterHost) -> None:
        """Cut a host off from everybody."""
        host.drop("iifname eth0")

    def heal(self) -> None:
        for host in self.hosts:
            host.mend()

    # What they see

    def others(self, *but: ClusterHost) -> list[ClusterHost]:
        return [host for host in self.hosts if host not in but]

    def await_seen(
        self,
        state: str,
        of: Sequence[ClusterHost],
        by: Sequence[ClusterHost],
        deadline_s: float = DEADLINE_S,
    ) -> float:
        """Wait until each of `by` sees each of `of` in that state; the seconds it took."""
        return wait_for(
            lambda: all(host.sees(state, of) for host in by),
            deadline_s,
            what=f"{of} {state} for {by}",
            show=lambda: self.views(by),
        )

    def await_whole(
        self, hosts: Sequence[ClusterHost] | None = None, deadline_s: float = DEADLINE_S
    ) -> float:
        """Wait until all see all alive; the seconds it took."""
        hosts = self.hosts if hosts is None else hosts
        return self.await_seen("alive", hosts, hosts, deadline_s)

    def views(self, hosts: Iterable[ClusterHost]) -> str:
        """Who sees what, for people."""
        return "\n".join(f"{host}: {json.dumps(host.states())}" for host in hosts)
