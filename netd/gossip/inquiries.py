"""Asking who somebody is, and telling those who have missed it that their run is over."""

from typing import Final

from netd.gossip.messages import MemberRow, MemberRows, Query
from netd.gossip.parts import Parts
from netd.gossip.post import Post
from netd.gossip.values import Address, NodeId, State

_QUERY_S: Final = 1.0
_LATE_S: Final = 1.0


class Inquiries:
    """All are caused by packets of others, and so are rare, however many come."""

    def __init__(self, parts: Parts, post: Post) -> None:
        self._parts = parts
        self._post = post
        self._queried: dict[NodeId, float] = {}
        self._late_s = parts.now_s - _LATE_S

    def ask_about(self, node: NodeId, source: Address | None) -> None:
        """Ask at `source` who that is, at most once in `_QUERY_S` for each node."""
        if source is not None and self._may_be_sent_about(node):
            self._post.send(source, Query((node,)))

    def answer_forgotten(self, node: NodeId, epoch: int, source: Address) -> None:
        """A packet of a run that is forgotten here: its node was away for longer than any is
        remembered, takes itself for a member, and is none again before it begins another run.
        """
        if self._may_be_sent_about(node):
            row = MemberRow(node, epoch, 0, int(State.LEFT), ())
            self._post.send(source, MemberRows(b"", (row,)))

    def _may_be_sent_about(self, node: NodeId) -> bool:
        now_s = self._parts.now_s
        if now_s - self._queried.get(node, -_QUERY_S) < _QUERY_S:
            return False
        if len(self._queried) >= self._parts.settings.members_max:
            self._queried.clear()
        self._queried[node] = now_s
        return True

    def answered(self, node: NodeId) -> None:
        self._queried.pop(node, None)

    def answer_late_run(self, node: NodeId, source: Address) -> None:
        """A packet of an earlier run of a member: tell whoever sent it that there is a later one.

        It may be a copy, or a machine that was set back, and nobody else answers it. The packet
        proves nothing, so this is done once in `_LATE_S`, whoever it is.
        """
        parts = self._parts
        member = parts.members.get(node)
        if member is not None and parts.now_s - self._late_s >= _LATE_S:
            self._late_s = parts.now_s
            self._post.send(source, member.introduction)
