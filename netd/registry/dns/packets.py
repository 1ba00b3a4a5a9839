"""Replies that are kept as bytes, for who asks the same again.

A reply holds until one of its topics is named: then it goes in the same turn of the event loop in
which the change was taken over, and all others stay. So changes cost nothing to those who ask
for something else.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from netd.naming.values import EVERYTHING, Answer, Record, Scope, Topics
from netd.registry.dns.wire import Query
from netd.registry.dns.wire_reply import encode_reply

VARIANTS_MAX: Final = 64  # orders of records that one reply is sent in
BYTES_MAX: Final = 128 << 20  # of all replies that are kept, in all their orders
_RECORDS_MAX: Final = 256  # of which orders are kept: what is longer is asked for by TCP
_OVERHEAD_BYTES: Final = 900  # of a kept reply beside its key and bytes
_RECORD_BYTES: Final = 110  # of a record that further orders are made of


class Packet:
    """A reply without its id, in several orders. `next` gives one; `count` is of its kind.

    `count` is a list of one number, shared by all replies that are counted together. `size` are
    the bytes of its orders, see `size_of`.
    """

    __slots__ = ("count", "home", "key", "next", "size", "topics")

    def __init__(
        self, make_next: Callable[[], bytes], count: list[int], topics: Topics, size: int = 0
    ) -> None:
        self.next = make_next
        self.count = count
        self.topics = topics
        self.size = size
        self.home: dict[bytes, Packet] | None = None  # None: it is not kept, or no longer
        self.key = b""


class Packets:
    """Replies by scope and by the query's bytes after its id. The oldest go when there are
    `most`, or `BYTES_MAX` of them: one question in many spellings is as many replies.

    `stamp` is a list of one number, which is another when `of` may give something else than
    before for the same client.
    """

    def __init__(self, most: int) -> None:
        self.stamp = [0]
        self.dropped = 0
        self.size = 0  # bytes, about
        self._by_scope: dict[Scope, dict[bytes, Packet]] = {}
        self._most = most
        self._by_topic: dict[str, set[Packet]] = {}
        self._ages: deque[Packet] = deque()  # those that are kept, and some that are not any more

    def of(self, scope: Scope) -> dict[bytes, Packet]:
        """The replies to those who have this scope; for reading only."""
        found = self._by_scope.get(scope)
        if found is None:
            if len(self._by_scope) >= self._most:
                self.clear()
            found = self._by_scope[scope] = {}
        return found

    def keep(self, scope: Scope, key: bytes, packet: Packet) -> None:
        home = self.of(scope)
        if key in home:
            self._drop(home[key])
        packet.home, packet.key = home, key
        self.size += _bytes_of(packet)
        while self._ages and (len(self._ages) >= self._most or self.size > BYTES_MAX):
            self._drop(self._ages.popleft())
        home[key] = packet
        for topic in packet.topics:
            self._by_topic.setdefault(topic, set()).add(packet)
        self._ages.append(packet)

    def drop(self, topics: Iterable[str]) -> None:
        """Forget what depends on one of `topics`."""
        for topic in topics:
            if topic == EVERYTHING:
                self.clear()
                return
            for packet in list(self._by_topic.get(topic, ())):
                self._drop(packet)

    def clear(self) -> None:
        for packet in self._ages:
            packet.home = None
        self._ages.clear()
        self.size = 0
        self._by_topic.clear()
        for home in self._by_scope.values():
            home.clear()  # somebody may have it at hand
        self._by_scope.clear()
        self.stamp[0] += 1

    def __len__(self) -> int:
        return sum(map(len, self._by_scope.values()))

    def _drop(self, packet: Packet) -> None:
        if packet.home is None:
            return
        del packet.home[packet.key]
        packet.home = None
        self.size -= _bytes_of(packet)
        self.dropped += 1
        for topic in packet.topics:
            packets = self._by_topic[topic]
            packets.discard(packet)
            if not packets:
                del self._by_topic[topic]


def replies(query: Query, answer: Answer, limit: int) -> Iterator[bytes]:
    """Replies without their ids, for ever: the records in another order each time, and in each
    place first as often as their weights say. The first is made at once, the others when they
    are asked for. Of very many records there is one order.
    """
    if not 1 < len(answer.records) <= _RECORDS_MAX:
        return itertools.repeat(encode_reply(query, shuffled(answer), limit)[2:])
    return itertools.chain.from_iterable(_rounds(query, answer, limit))


def shuffled(answer: Answer) -> Answer:
    """The answer with its records in some order; who comes first is chosen by their weights."""
    records = list(answer.records)
    if len(records) < 2:
        return answer
    random.shuffle(records)
    weights = [max(record.weight, 0) for record in records]
    if len(set(weights)) > 1:
        (first,) = random.sample(range(len(records)), 1, counts=weights)
        records[0], records[first] = records[first], records[0]
    return msgspec.structs.replace(answer, records=tuple(records))


def size_of(answer: Answer, reply: bytes) -> int:
    """The bytes of a reply in all the orders that `replies` makes of it."""
    count = len(answer.records)
    if not 1 < count <= _RECORDS_MAX:
        return len(reply)
    even = len({record.weight for record in answer.records}) == 1
    orders = min(count, VARIANTS_MAX) if even else VARIANTS_MAX
    return orders * len(reply) + count * _RECORD_BYTES


def _bytes_of(packet: Packet) -> int:
    return _OVERHEAD_BYTES + len(packet.key) + packet.size


def _rounds(query: Query, answer: Answer, limit: int) -> Iterator[Iterable[bytes]]:
    made: list[bytes] = []

    def first_round() -> Iterator[bytes]:
        for first in _firsts(answer.records):
            rest = [record for record in answer.records if record is not first]
            random.shuffle(rest)
            shuffled = msgspec.structs.replace(answer, records=(first, *rest))
            data = encode_reply(query, shuffled, limit)[2:]
            made.append(data)
            yield data

    yield first_round()
    while True:
        yield made


def _firsts(records: Sequence[Record]) -> list[Record]:
    """Who comes first in each of the orders, in no order: each as often as its weight says.

    The share that is left after dividing goes to those who have lost most by it.
    """
    weights = [max(record.weight, 0) for record in records]
    total = sum(weights)
    if not total or len(set(weights)) == 1:
        return random.sample(records, min(len(records), VARIANTS_MAX))
    shares = [VARIANTS_MAX * weight / total for weight in weights]
    counts = [int(share) for share in shares]
    by_loss = sorted(range(len(records)), key=lambda at: counts[at] - shares[at])
    for at in by_loss[: VARIANTS_MAX - sum(counts)]:
        counts[at] += 1
    chosen = [record for record, count in zip(records, counts, strict=True) for _ in range(count)]
    random.shuffle(chosen)
    return chosen
