"""Packets on their way out: messages for one member, filled up with news."""

from collections.abc import Iterable

from netd.gossip.codec import ARRAY_BYTES, MESSAGES_MAX, encode, join_parts
from netd.gossip.messages import Message
from netd.gossip.news import News
from netd.gossip.parts import Parts
from netd.gossip.sealing import Sealer
from netd.gossip.values import Address, Datagram


class Post:
    """Makes sealed packets within the packet's size. `out` has what is to be sent."""

    def __init__(self, parts: Parts, sealer: Sealer, news: News) -> None:
        self._parts = parts
        self._sealer = sealer
        self._news = news
        self.room_bytes = parts.settings.packet_max_bytes - sealer.overhead_bytes - ARRAY_BYTES
        self.out: list[Datagram] = []

    def send(self, to: Address, *messages: Message) -> None:
        """Send messages in one packet, with news in the room that is left."""
        parts = [encode(message) for message in messages]
        if self._news:
            room = self.room_bytes - sum(map(len, parts))
            copies = self._parts.settings.statement_copies(self._parts.members.live_count)
            parts += self._news.take(room, copies)
        self.send_encoded(to, parts)

    def send_many(self, to: Address, messages: Iterable[Message]) -> None:
        """Send messages in as few packets as they fit into, in order, without news."""
        self.send_all(to, map(encode, messages))

    def send_all(self, to: Address, messages: Iterable[bytes]) -> int:
        """The same for messages that are encoded; the number of packets."""
        parts: list[bytes] = []
        size = packets = 0
        for data in messages:
            if parts and (size + len(data) > self.room_bytes or len(parts) >= MESSAGES_MAX):
                self.send_encoded(to, parts)
                packets += 1
                parts, size = [], 0
            parts.append(data)
            size += len(data)
        if parts:
            self.send_encoded(to, parts)
            packets += 1
        return packets

    def send_encoded(self, to: Address, parts: list[bytes]) -> None:
        self.out.append(Datagram(to, self._sealer.seal(join_parts(parts[:MESSAGES_MAX]))))
