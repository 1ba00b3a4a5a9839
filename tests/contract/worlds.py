"""Two worlds for the same tests: the fake kernel's, and a real one in fresh namespaces."""

import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Protocol

from netd.engine.interfaces import Kernel
from netd.kernel.fake import FakeKernel
from netd.model.endpoint import Sandbox
from netd.plan.objects import HOST
from netd.plan.ports import HeldPort
from netd.plan.tunnels import FdbEntry, Neighbour
from tests.netns.conftest import Container, run

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}

Half = Literal["bridge", "link"]
"""Which half of a forwarding entry: the bridge's or the VXLAN link's."""


class World(Protocol):
    """What surrounds a kernel, and what others do to it behind netd's back."""

    kernel: Kernel

    async def container(self) -> Sandbox: ...
    def end(self, box: Sandbox) -> None:
        """End the container's last process."""
        ...

    def move(self, box: Sandbox, other: Sandbox) -> None:
        """Let the path of `box` lead to the namespace of `other`."""
        ...

    def path(self, kind: str) -> str:
        """A path to a "file", "directory", "fifo" or "mount namespace"."""
        ...

    def links(self, ns: str = HOST) -> set[str]: ...
    def add_link(self, name: str, ns: str = HOST) -> None:
        """A bridge that is not netd's, up."""
        ...

    def delete_link(self, name: str, ns: str = HOST) -> None: ...
    def rename_link(self, name: str, new: str, ns: str = HOST) -> None: ...
    def set_link(
        self,
        name: str,
        ns: str = HOST,
        *,
        up: bool | None = None,
        master: str | None = None,
        mtu: int | None = None,
    ) -> None: ...
    def add_address(self, link: str, address: str, ns: str = HOST) -> None: ...
    def delete_address(self, link: str, address: str, ns: str = HOST) -> None: ...
    def add_route(
        self, destination: str, link: str, ns: str = HOST, *, gateway: str | None = None
    ) -> None: ...
    def delete_route(self, destination: str, link: str, ns: str = HOST) -> None: ...
    def set_fdb_entry(self, entry: FdbEntry) -> None:
        """Both halves, whether they are there or not."""
        ...

    def delete_fdb_half(self, half: Half, entry: FdbEntry) -> None: ...
    def set_neighbour(self, neighbour: Neighbour) -> None: ...
    def delete_neighbour(self, neighbour: Neighbour) -> None: ...
    def spoil_port(self, name: str) -> None:
        """Have a bridge forward what it could answer to its port."""
        ...

    def flush_ruleset(self) -> None: ...
    def listen(self, port: HeldPort) -> None: ...
    def process(self) -> int:
        """A new process; its pid."""
        ...

    def end_process(self, pid: int) -> None: ...


class FakeWorld:
    """Everything is in the fake kernel."""

    def __init__(self) -> None:
        self.fake = FakeKernel()
        self.kernel: Kernel = self.fake

    async def container(self) -> Sandbox:
        return self.fake.container()

    def end(self, box: Sandbox) -> None:
        self.fake.by_hand.end_namespace(box)

    def move(self, box: Sandbox, other: Sandbox) -> None:
        self.fake.places[box.path] = self.fake.places[other.path]

    def path(self, kind: str) -> str:
        path = f"/somewhere/{kind}"
        match kind:
            case "file" | "directory" | "fifo" | "mount namespace":
                self.fake.places[path] = kind
            case _:
                raise ValueError(kind)
        return path

    def links(self, ns: str = HOST) -> set[str]:
        names = {key[2] for key in self.fake.simulation.objects if key[:2] == (ns, "link")}
        return names - {"lo", "eth0"} if ns == HOST else names - {"lo"}

    def add_link(self, name: str, ns: str = HOST) -> None:
        self.fake.by_hand.add_link(name, ns=ns)

    def rename_link(self, name: str, new: str, ns: str = HOST) -> None:
        self.fake.by_hand.rename_link(name, new, ns)

    def delete_link(self, name: str, ns: str = HOST) -> None:
        self.fake.by_hand.delete_link(name, ns)

    def set_link(
        self,
        name: str,
        ns: str = HOST,
        *,
        up: bool | None = None,
        master: str | None = None,
        mtu: int | None = None,
    ) -> None:
        self.fake.by_hand.set_link(name, ns, up=up, master=master, mtu=mtu)

    def add_address(self, link: str, address: str, ns: str = HOST) -> None:
        self.fake.by_hand.add_address(link, address, ns)

    def delete_address(self, link: str, address: str, ns: str = HOST) -> None:
        self.fake.by_hand.delete_address(link, address, ns)

    def add_route(
        self, destination: str, link: str, ns: str = HOST, *, gateway: str | None = None
    ) -> None:
        self.fake.by_hand.add_route(destination, link, gateway, ns)

    def delete_route(self, destination: str, link: str, ns: str = HOST) -> None:
        self.fake.by_hand.delete_route(destination, link, ns)

    def set_fdb_entry(self, entry: FdbEntry) -> None:
        self.fake.by_hand.set_fdb_entry(entry.link, entry.mac, entry.destination)

    def delete_fdb_half(self, half: Half, entry: FdbEntry) -> None:
        self.fake.by_hand.delete_fdb_half(half, entry)

    def set_neighbour(self, neighbour: Neighbour) -> None:
        self.fake.by_hand.set_neighbour(neighbour.link, neighbour.address, neighbour.mac)

    def delete_neighbour(self, neighbour: Neighbour) -> None:
        self.fake.by_hand.delete_neighbour(neighbour.link, neighbour.address)

    def spoil_port(self, name: str) -> None:
        self.fake.by_hand.spoil_port(name)

    def flush_ruleset(self) -> None:
        self.fake.by_hand.flush_ruleset()

    def listen(self, port: HeldPort) -> None:
        self.fake.by_hand.listen(port)

    def process(self) -> int:
        return self.fake.processes.start()

    def end_process(self, pid: int) -> None:
        self.fake.processes.end(pid)


class RealWorld:
    """Linux. The test's thread is in a network namespace of its own, which is the host here.

    A container's path is a symbolic link, so that it can be led elsewhere.
    """

    def __init__(
        self,
        kernel: Kernel,
        container: Callable[[], Container],
        folder: Path,
        stack: ExitStack,
    ) -> None:
        self.kernel = kernel
        self._make = container
        self._folder = folder
        self._stack = stack
        self._containers: dict[str, Container] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    async def container(self) -> Sandbox:
        made = self._make()
        path = self._folder / f"c{len(self._containers)}"
        path.symlink_to(made.path)
        self._containers[made.key] = made
        sandbox, _ = await self.kernel.enter(path=str(path), pid=None)
        return sandbox

    def end(self, box: Sandbox) -> None:
        self._containers[box.key].kill()

    def move(self, box: Sandbox, other: Sandbox) -> None:
        Path(box.path).unlink()
        Path(box.path).symlink_to(self._containers[other.key].path)

    def path(self, kind: str) -> str:
        path = self._folder / kind
        match kind:
            case "file":
                path.write_text("no namespace")
            case "directory":
                path.mkdir()
            case "fifo":
                run("mkfifo", str(path))
            case "mount namespace":
                return "/proc/self/ns/mnt"
            case _:
                raise ValueError(kind)
        return str(path)

    def links(self, ns: str = HOST) -> set[str]:
        lines = self._run(ns, "ip", "-br", "link").splitlines()
        return {line.split()[0].partition("@")[0] for line in lines} - {"lo"}

    def add_link(self, name: str, ns: str = HOST) -> None:
        self._run(ns, "ip", "link", "add", name, "up", "type", "bridge")

    def rename_link(self, name: str, new: str, ns: str = HOST) -> None:
        self._run(ns, "ip", "link", "set", name, "down")
        self._run(ns, "ip", "link", "set", name, "name", new)

    def delete_link(self, name: str, ns: str = HOST) -> None:
        self._run(ns, "ip", "link", "del", name)

    def set_link(
        self,
        name: str,
        ns: str = HOST,
        *,
        up: bool | None = None,
        master: str | None = None,
        mtu: int | None = None,
    ) -> None:
        if up is not None:
            self._run(ns, "ip", "link", "set", name, "up" if up else "down")
        if mtu is not None:
            self._run(ns, "ip", "link", "set", name, "mtu", str(mtu))
        if master is not None:
            self._run(
                ns, "ip", "link", "set", name, *(["master", master] if master else ["nomaster"])
            )

    def add_address(self, link: str, address: str, ns: str = HOST) -> None:
        self._run(ns, "ip", "address", "add", address, "dev", link, "nodad")

    def delete_address(self, link: str, address: str, ns: str = HOST) -> None:
        self._run(ns, "ip", "address", "del", address, "dev", link)

    def add_route(
        self, destination: str, link: str, ns: str = HOST, *, gateway: str | None = None
    ) -> None:
        via = ["via", gateway] if gateway else []
        self._run(ns, "ip", "route", "add", destination, *via, "dev", link)

    def delete_route(self, destination: str, link: str, ns: str = HOST) -> None:
        self._run(ns, "ip", "route", "del", destination, "dev", link)

    def set_fdb_entry(self, entry: FdbEntry) -> None:
        to = f"{entry.mac} dev {entry.link} dst {entry.destination} self master static"
        run("bridge", "fdb", "replace", *to.split())

    def delete_fdb_half(self, half: Half, entry: FdbEntry) -> None:
        which = f"dst {entry.destination} self" if half == "link" else "master"
        run("bridge", "fdb", "del", entry.mac, "dev", entry.link, *which.split())

    def set_neighbour(self, neighbour: Neighbour) -> None:
        to = f"{neighbour.address} dev {neighbour.link} lladdr {neighbour.mac} nud permanent"
        run("ip", "neighbour", "replace", *to.split())

    def delete_neighbour(self, neighbour: Neighbour) -> None:
        run("ip", "neighbour", "del", neighbour.address, "dev", neighbour.link)

    def spoil_port(self, name: str) -> None:
        run("bridge", "link", "set", "dev", name, "neigh_suppress", "off")

    def flush_ruleset(self) -> None:
        run("nft", "flush", "ruleset")

    def listen(self, port: HeldPort) -> None:
        family = socket.AF_INET if port.family == 4 else socket.AF_INET6
        other = self._stack.enter_context(socket.socket(family, KINDS[port.protocol]))
        if port.family == 6:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind((port.address, port.port))
        if port.protocol == "tcp":
            other.listen()

    def process(self) -> int:
        made = self._stack.enter_context(subprocess.Popen(["sleep", "infinity"]))
        self._stack.callback(made.kill)
        self._processes[made.pid] = made
        return made.pid

    def end_process(self, pid: int) -> None:
        process = self._processes.pop(pid)
        process.kill()
        process.wait()

    def _run(self, ns: str, *command: str) -> str:
        return run(*command) if ns == HOST else self._containers[ns].run(*command)
