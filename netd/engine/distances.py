"""How far the hosts are from each other: measured from here, and told by all.

Neither is needed at once, and the log is to be quiet: what changes by little is not told.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from netd.engine.interfaces import Cluster, ClusterChange, Record, RecordChange
from netd.engine.nodes import NodeNames
from netd.engine.parts import Parts
from netd.engine.positions import beginning, is_news, moved
from netd.model.position import Position

TABLE: Final = "position"  # the key is "", the scope that of all members
EACH_S: Final = 10.0  # between two looks at what gossip has measured


class Distances:
    """`nodes` has what the registry is told of. Nothing that another member sends makes it
    raise.
    """

    def __init__(self, parts: Parts, cluster: Cluster, nodes: NodeNames) -> None:
        self._parts = parts
        self._cluster = cluster
        self._nodes = nodes
        self._own = beginning(cluster.id)
        self._told: Position | None = None  # to this host's registry
        self._published: Position | None = None
        self._others: dict[str, Position] = {}
        self._stop: Callable[[], None] = lambda: None
        self.ignored = 0  # records that could not be read

    def start(self) -> None:
        """Follow the cluster, from what is so now."""
        self._stop = self._cluster.watch(self._changed)
        self._parts.tasks.start("distances", self._follow())

    def stop(self) -> None:
        self._stop()

    def look(self) -> None:
        """See what has been measured since, and move to where that makes this host be."""
        measured_s: dict[str, float] = {}
        for member in self._cluster.members():
            if member.id == self._cluster.id or member.rtt_ms is None or member.state != "alive":
                continue
            self._nodes.measured(member.id, member.rtt_ms)
            measured_s[member.id] = member.rtt_ms / 1000
        known = [
            (position.vector, measured_s[node_id])
            for node_id, position in self._others.items()
            if node_id in measured_s
        ]
        self._own = moved(self._own, known)
        if is_news(self._told, self._own, measured_s.values()):
            self._told = self._own
            self._nodes.at(self._cluster.id, self._own)
        if measured_s and self._published != self._told:  # else there is nobody to tell
            self._published = self._told
            value = msgspec.json.encode(self._told)
            self._cluster.publish([Record(table=TABLE, key="", value=value)])

    async def _follow(self) -> None:
        """Work until cancelled. Gossip measures all the time, and tells nobody."""
        while True:
            self.look()
            await asyncio.sleep(EACH_S)

    def _changed(self, change: ClusterChange) -> None:
        match change:
            case RecordChange(table=table, key="", owner=owner) if table == TABLE:
                if owner != self._cluster.id:
                    self._heard(owner, change.value)

    def _heard(self, owner: str, value: bytes | None) -> None:
        position = None if value is None else read(value)
        self.ignored += value is not None and position is None
        if position is None:
            self._others.pop(owner, None)
        else:
            self._others[owner] = position
        self._nodes.at(owner, position)


def read(value: bytes) -> Position | None:
    """The position in a record; None for one that no netd would write."""
    try:
        return msgspec.json.decode(value, type=Position)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
