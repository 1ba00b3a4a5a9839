"""Replies as bytes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from netd.naming import wire as naming
from netd.naming.values import Answer, Record
from netd.registry.dns import records
from netd.registry.dns.wire import AA, CD, HEADER, QR, RA, RD, RECORD, TC, Query, opt

_POINTER: Final = 0xC000
_QUESTION_NAME: Final = (_POINTER | HEADER.size).to_bytes(2, "big")
_POINTERS_MAX: Final = 0x4000  # as far into a message a pointer can reach
_CACHED_NAMES: Final = 65_536
_NAMES_FIRST: Final = {"CNAME": 1, "NS": 1, "PTR": 1, "SOA": 2}  # names that data begins with

_name_wire = lru_cache(maxsize=_CACHED_NAMES)(naming.name_wire)


def encode_reply(query: Query, answer: Answer, limit: int) -> bytes:
    """The reply to `query` in at most `limit` bytes: `query.udp_limit`, or `TCP_MAX_BYTES`.

    What does not fit is left out: the additional records without a word (RFC 2181, 9), of the
    others as many as there is no room for, with TC set, so that the client asks by TCP. OPT is
    there if the client sent one. `answer` must not be FORWARD.
    """
    rcode = records.RCODES[answer.rcode]
    option = opt(query, rcode) if query.edns else b""
    writer = _Writer(query, limit - len(option))
    answers = writer.add(answer.records, _QUESTION_NAME)
    authority = 0 if writer.full else writer.add(answer.authority)
    flags = QR | RA | query.flags & (RD | CD) | rcode
    if answer.aa:
        flags |= AA
    additional = 0
    if writer.full:
        flags |= TC
    else:
        additional = writer.add(answer.additional)
    HEADER.pack_into(
        writer.data, 0, query.id, flags, 1, answers, authority, additional + bool(option)
    )
    return bytes(writer.data + option)


def encode_error(query: Query, rcode: int) -> bytes:
    """A reply without records."""
    option = opt(query, rcode) if query.edns else b""
    flags = QR | RA | query.flags & (RD | CD) | rcode & 0xF
    return HEADER.pack(query.id, flags, 1, 0, 0, bool(option)) + query.question + option


class _Writer:
    """A reply that grows record by record up to `limit` bytes, with names compressed."""

    def __init__(self, query: Query, limit: int) -> None:
        self.data = bytearray(HEADER.size) + query.question
        self.full = False
        self._limit = limit
        self._asked = query.question
        self._places: dict[bytes, int] = {}  # of names and of their ends, in lower case

    def add(self, section: Sequence[Record], owner: bytes = b"") -> int:
        """Write records, until one does not fit; nothing can be added then. Returns how many
        there are. `owner` is what is written for their names.
        """
        data = self.data
        for count, record in enumerate(section):
            start = len(data)
            if owner:
                data += owner
            else:
                self._name(_name_wire(record.name))
            rdata = record.rdata
            data += RECORD.pack(
                records.TYPE_CODES[record.type], records.CLASS_IN, record.ttl_s, len(rdata)
            )
            if record.type in _NAMES_FIRST:
                self._compress(rdata, _NAMES_FIRST[record.type])
            else:
                data += rdata
            if len(data) > self._limit:
                del data[start:]
                self.full = True
                return count
        return len(section)

    def _compress(self, rdata: bytes, names: int) -> None:
        """Write data that begins with names, and its length before it."""
        data = self.data
        start = len(data)
        at = 0
        for _ in range(names):
            end = rdata.index(0, at) + 1  # no label has a byte 0, `naming.is_name`
            self._name(rdata[at:end])
            at = end
        data += rdata[at:]
        data[start - 2 : start] = (len(data) - start).to_bytes(2, "big")

    def _name(self, wire: bytes) -> None:
        """Write a name: as much of it as is new, and a pointer to the rest."""
        places = self._places
        if not places:
            asked = self._asked[:-4].lower()
            self._remember(asked, len(asked) - 1, HEADER.size)
        at = 0
        while wire[at]:
            place = places.get(wire[at:])
            if place is not None:
                self._remember(wire, at, len(self.data))
                self.data += wire[:at] + (_POINTER | place).to_bytes(2, "big")
                return
            at += wire[at] + 1
        self._remember(wire, at, len(self.data))
        self.data += wire

    def _remember(self, wire: bytes, end: int, place: int) -> None:
        """That the labels before `end` of a name stand at `place`."""
        at = 0
        while at < end and place + at < _POINTERS_MAX:
            self._places[wire[at:]] = place + at
            at += wire[at] + 1
