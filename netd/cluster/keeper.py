"""What a running node keeps on disk: the keyring, and the peers to go back to."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from netd.cluster import snapshot
from netd.cluster.core import Core
from netd.gossip.values import State
from netd.tasks import Tasks
from netd.worker import Worker

PEERS_FLUSH_S: Final = 0.5

log = logging.getLogger(__name__)


class Keeper:
    """On the gossip loop. `peers` are those that are on disk."""

    def __init__(
        self,
        directory: Path,
        cluster_id: bytes,
        core: Core,
        worker: Worker,
        peers: Sequence[snapshot.Peer],
    ) -> None:
        self._directory = directory
        self._cluster_id = cluster_id
        self._core = core
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._flush: asyncio.TimerHandle | None = None
        self._stored = tuple(peers)
        self._failed = False
        self._forgotten = False

    async def close(self) -> None:
        """Write what is still to be written."""
        await self._tasks.stop()
        if self._flush is not None:
            self._flush.cancel()
            await self._write_peers()

    async def store_ring(self) -> None:
        """Raises `Unavailable` when the keyring cannot be stored."""
        store = partial(snapshot.store_ring, self._directory, self._cluster_id, self._core.ring)
        await self._worker.call(store)

    def peers_changed(self) -> None:
        """Write them soon."""
        if self._flush is None and not self._forgotten:
            self._flush = self._loop.call_later(PEERS_FLUSH_S, self._flush_peers)

    async def forget_peers(self) -> None:
        """This node goes for good: nothing brings it back by itself."""
        self._forgotten = True
        await self._tasks.stop()
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        try:
            await self._worker.call(partial(snapshot.forget_peers, self._directory))
        except OSError as error:
            log.warning("the peers of the cluster that was left stay on disk: %s", error)

    def _flush_peers(self) -> None:
        self._flush = None
        self._tasks.start("peers", self._write_peers())

    async def _write_peers(self) -> None:
        """Keep the peers that are known now. A full disk does not stop anything."""
        peers = tuple(
            snapshot.Peer(member.id.hex(), *member.address)
            for member in sorted(self._core.members(), key=lambda member: member.state)
            if member.id != self._core.id and member.state != State.LEFT
        )
        if peers == self._stored:
            return
        store = partial(snapshot.store_peers, self._directory, self._cluster_id, peers)
        try:
            await self._worker.call(store)
        except OSError as error:
            if not self._failed:
                log.warning("peers are not kept for the next start: %s", error)
            self._failed = True
        else:
            self._failed = False
            self._stored = peers
