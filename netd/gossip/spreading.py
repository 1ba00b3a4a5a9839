"""When news goes out: at once when it is learned, then at intervals until it has been told often
enough. Without news nothing is sent.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from netd.gossip.member import Member
from netd.gossip.news import News
from netd.gossip.parts import Parts
from netd.gossip.post import Post
from netd.gossip.timers import Timer

FURTHER: Final = 7  # packets to one member at once, after the first


class Cargo(Protocol):
    """What travels beside statements: changes of records."""

    def __bool__(self) -> bool: ...

    def clear(self) -> None: ...

    def peers(self, fresh_only: bool) -> list[Member]:
        """Whom to send to now; statements go along."""
        ...

    def fill(
        self, peer: Member, room_bytes: int, fresh_only: bool, further: Sequence[int]
    ) -> list[bytes]:
        """Messages for that member that fit, in their order, counted as sent. There may be
        packets after the first one, with `further` bytes.
        """
        ...


class Spreading:
    """Sends news to `fanout` members drawn anew each time."""

    def __init__(self, parts: Parts, post: Post, news: News, cargo: Cargo) -> None:
        self._parts = parts
        self._post = post
        self._news = news
        self._cargo = cargo
        self._tick: Timer | None = None
        self._burst: Timer | None = None
        self._last_s = parts.now_s - parts.settings.gossip_gap_s

    def kick(self) -> None:
        """Something new is queued: send it as soon as the last burst is long enough ago."""
        parts = self._parts
        if parts.members.live_count == 1:
            # Nobody to tell. Whoever joins asks for all there is.
            self._news.clear()
            self._cargo.clear()
            return
        if self._burst is None:
            at_s = max(parts.now_s, self._last_s + parts.settings.gossip_gap_s)
            self._burst = parts.timers.at(at_s, self._send_burst)
        if self._tick is None:
            self._tick = parts.timers.at(
                parts.now_s + parts.jitter(parts.settings.gossip_interval_s), self._send_tick
            )

    def _send_burst(self) -> None:
        self._burst = None
        self._last_s = self._parts.now_s
        self._send(fresh_only=True)

    def _send_tick(self) -> None:
        self._tick = None
        self._send(fresh_only=False)
        parts = self._parts
        if (self._news or self._cargo) and parts.members.live_count > 1:
            self._tick = parts.timers.at(
                parts.now_s + parts.jitter(parts.settings.gossip_interval_s), self._send_tick
            )

    def _send(self, *, fresh_only: bool) -> None:
        parts = self._parts
        peers = {member.id: member for member in self._cargo.peers(fresh_only)}
        if self._news:
            for member in parts.members.pick(parts.random, parts.settings.fanout):
                peers.setdefault(member.id, member)
        copies = parts.settings.statement_copies(parts.members.live_count)
        room = self._post.room_bytes
        for member in peers.values():
            # Records keep a third of the packet, however much is said about members.
            share = room * 2 // 3 if self._cargo else room
            messages = self._news.take(share, copies, fresh_only=fresh_only)
            left = room - sum(map(len, messages))
            messages += self._cargo.fill(member, left, fresh_only, (room,) * FURTHER)
            parts.counters["gossip_packets_sent"] += self._post.send_all(member.address, messages)
