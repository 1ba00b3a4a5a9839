"""Who has opened a network waits a moment for what the other hosts have to say of it.

An address that nobody answers for is asked for again after a second only. So a container that
sends at once, before the entries of the other hosts are there, would wait for that long.
"""

import asyncio
from contextlib import suppress
from typing import Final

from netd.engine.interfaces import Cluster
from netd.engine.overlay.peers import Peers
from netd.engine.overlay.remotes import Remotes
from netd.tasks import Tasks

HEARD_S: Final = 0.15  # since the network was opened; a few milliseconds are usual


class _Opened:
    """A network that was opened a moment ago, and which hosts have not told of it yet."""

    def __init__(self, missing: set[str], until_s: float) -> None:
        self.missing = missing
        self.until_s = until_s
        self.complete = asyncio.Event()


class Hearing:
    def __init__(self, tasks: Tasks, cluster: Cluster, peers: Peers, remotes: Remotes) -> None:
        self._tasks = tasks
        self._cluster = cluster
        self._peers = peers
        self._remotes = remotes
        self._opened: dict[str, _Opened] = {}

    def begin(self, network_id: str) -> None:
        """A network is being opened: the others are asked for what they have."""
        alive = {member.id for member in self._cluster.members() if member.state == "alive"}
        using = self._peers.vteps(network_id).keys() & alive
        missing = {m for m in using if not self._remotes.has_endpoints(network_id, m)}
        self._opened.pop(network_id, None)  # of an attach that has failed
        if missing:
            until_s = asyncio.get_running_loop().time() + HEARD_S
            self._opened[network_id] = _Opened(missing, until_s)

    def recorded(self, network_id: str, member: str) -> None:
        """A host has told of an endpoint."""
        opened = self._opened.get(network_id)
        if opened is not None:
            opened.missing.discard(member)
            if not opened.missing:
                opened.complete.set()

    async def heard(self, network_id: str) -> None:
        """Return when the hosts that use the network have told what they have on it and the
        kernel knows, `HEARD_S` after it was opened at the latest.
        """
        opened = self._opened.get(network_id)
        if opened is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout_at(opened.until_s):
                await opened.complete.wait()
        # Not cut short at the end of the time, as it writes.
        applied = self._tasks.start("entries of a new network", self._remotes.idle())
        left_s = opened.until_s - asyncio.get_running_loop().time()
        await asyncio.wait({applied}, timeout=max(0.0, left_s))
        self._opened.pop(network_id, None)
