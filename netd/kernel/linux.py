"""The kernel of this host, as the engine sees it."""

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from netd.engine.interfaces import Observation, Scope, Trigger, WatchedProcess
from netd.kernel import rtnl_encode as encode
from netd.kernel.apply import Applier
from netd.kernel.conntrack import flush_udp, forget_flows
from netd.kernel.echo import echo
from netd.kernel.facts import observe_facts
from netd.kernel.foreign import DockerUserHook, observe_foreign
from netd.kernel.lookup import mtus_to, next_hop
from netd.kernel.managers import unaware_managers
from netd.kernel.monitor import Monitor
from netd.kernel.netlink import NetlinkSocket
from netd.kernel.netns import Namespaces
from netd.kernel.nft import Nftables
from netd.kernel.observe import Observer
from netd.kernel.ports import PortHolder
from netd.kernel.processes import watch_process
from netd.kernel.tc import TrafficControl
from netd.kernel.unasked import send_announcements
from netd.model.endpoint import Sandbox
from netd.model.errors import KernelFailure
from netd.plan.facts import Echo, Facts, NextHop
from netd.plan.operations import Failure, Operation
from netd.plan.ports import HeldPort
from netd.plan.tunnels import Neighbour
from netd.plan.virtual import Flows
from netd.worker import Worker

log = logging.getLogger(__name__)

T = TypeVar("T")


class LinuxKernel:
    """Implements `netd.engine.interfaces.Kernel`.

    The host's network is that of the thread that makes this object. A netlink write blocks
    its thread while others hold the kernel's network lock, so one thread makes all calls, in
    the order they were made in. The removal of retired links and the search for UDP flows,
    which take tens of milliseconds, have threads of their own, and the latter's sends
    announcements, too; so has the question whether a namespace is alive, because names wait
    for the answer. With `docker_user_hook` it keeps rules in Docker's chain of that name that
    accept netd's traffic. Raises OSError when a socket cannot be opened.
    """

    def __init__(self, node: str, *, docker_user_hook: bool = False) -> None:
        self._node = node
        self._hook = DockerUserHook() if docker_user_hook else None
        self._namespaces = Namespaces()
        self._rtnl = NetlinkSocket()
        self._reaper_rtnl = NetlinkSocket()
        self._nft = Nftables()
        self._tc = TrafficControl(self._rtnl)
        self._applier = Applier(self._rtnl, self._namespaces, self._nft, self._tc)
        self._ports = PortHolder()
        self._monitor = Monitor()
        self._retired = 0
        self._thread = Worker("kernel")
        self._reaper = Worker("reaper")
        self._flusher = Worker("flusher")
        self._looker = Worker("looker")

    def close(self) -> None:
        """Wait for what was begun and close all sockets. Kernel state stays as it is."""
        self._thread.close()
        self._reaper.close()
        self._flusher.close()
        self._looker.close()
        self._rtnl.close()
        self._reaper_rtnl.close()
        self._nft.close()
        self._ports.close()
        self._namespaces.close()

    async def facts(self) -> Facts:
        return await self._call(self._facts)

    async def enter(self, *, path: str | None, pid: int | None) -> tuple[Sandbox, frozenset[str]]:
        identify = partial(self._namespaces.identify, path=path, pid=pid)
        return await self._call(identify)

    def own_sandbox_inode(self) -> int:
        return self._namespaces.home_inode

    async def alive(self, sandbox: Sandbox) -> bool:
        return await self._call(partial(self._namespaces.alive, sandbox), self._looker)

    async def observe(self, scope: Scope) -> Observation:
        observer = Observer(self._rtnl, self._namespaces, self._nft, self._tc, scope)
        observation = await self._call(observer.run)
        self._retired = observation.retired
        return observation

    async def apply(
        self, operations: Sequence[Operation], sandboxes: Mapping[str, Sandbox]
    ) -> list[Failure]:
        run = partial(self._applier.run, operations, sandboxes)
        failures, retired = await self._call(run)
        self._retired += retired
        return failures

    async def reap(self) -> int:
        """As in the interface; counts those that this object retired or observed."""
        waiting, self._retired = self._retired, 0
        await self._call(self._reap, self._reaper)
        return waiting

    def hold_ports(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        return self._ports.hold(ports)

    def release_ports(self, ports: Sequence[HeldPort]) -> None:
        self._ports.release(ports)

    def busy_ports(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        return self._ports.busy(ports)

    async def flush_conntrack(self, ports: Sequence[HeldPort]) -> int:
        return await self._call(partial(flush_udp, ports), self._flusher)

    async def forget_flows(self, flows: Sequence[Flows]) -> int:
        return await self._call(partial(forget_flows, flows), self._flusher)

    async def next_hop(
        self, sandbox: Sandbox | None, destination: str, source: str | None = None
    ) -> NextHop | None:
        return await self._call(partial(self._next_hop, sandbox, destination, source))

    async def mtus_to(self, addresses: Sequence[str]) -> dict[str, int]:
        return await self._call(partial(mtus_to, self._rtnl, addresses))

    async def echo(self, address: str, size: int, timeout_s: float) -> Echo:
        try:
            return await echo(address, size, timeout_s)
        except OSError as error:
            raise KernelFailure(f"no echo request can be sent: {error.strerror}") from error

    async def announce(self, neighbours: Sequence[Neighbour]) -> None:
        await self._call(partial(send_announcements, neighbours), self._flusher)

    def watch(self, notify: Callable[[Trigger], None]) -> Callable[[], None]:
        return self._monitor.start(notify)

    def watch_process(
        self, pid: int, start_ticks: int | None, ended: Callable[[], None]
    ) -> WatchedProcess:
        return watch_process(pid, start_ticks, ended)

    async def _call(self, work: Callable[[], T], thread: Worker | None = None) -> T:
        try:
            return await (thread or self._thread).call(work)
        except OSError as error:
            raise KernelFailure(f"the kernel refused: {error.strerror or error}") from error

    def _facts(self) -> Facts:
        if self._hook is not None and self._hook.install():
            log.info("DOCKER-USER accepts what netd's bridges forward")
        return replace(
            observe_facts(self._rtnl, self._node),
            foreign_chains=observe_foreign(self._nft.query),
            managers=unaware_managers(),
        )

    def _next_hop(
        self, sandbox: Sandbox | None, destination: str, source: str | None
    ) -> NextHop | None:
        if sandbox is None:
            return next_hop(self._rtnl, destination, source)
        opened = self._namespaces.open(sandbox)
        if opened is None:
            return None
        try:
            return next_hop(opened.socket, destination, source)
        finally:
            opened.close()

    def _reap(self) -> None:
        refused = self._reaper_rtnl.send([encode.delete_retired_links()])
        for error in refused.values():
            if error.errno != errno.ENODEV:  # there is none
                raise error
