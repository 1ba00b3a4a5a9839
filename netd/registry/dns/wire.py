"""Queries as bytes (RFC 1035, EDNS(0): RFC 6891).

    query = parse_query(data)  # or NoQuery, which says what to send back
    data = encode_reply(query, answer, query.udp_limit)  # wire_reply.py

Nothing but what an answer depends on is read: one question, and the client's OPT.
"""

import struct
from typing import Final

import msgspec

from netd.registry.dns import records
from netd.registry.dns.wire_names import (
    Malformed,
    end_of_plain_name,
    name_text,
    skip_name,
)

UDP_BYTES: Final = 512  # for clients without EDNS
UDP_MAX_BYTES: Final = 65_507  # that fit into a datagram of IPv4
TCP_MAX_BYTES: Final = 65_535
OUR_UDP_BYTES: Final = 1232  # what we take: fits into any IPv6 path, so it is never fragmented

HEADER: Final = struct.Struct("!HHHHHH")  # id, flags, question, answer, authority, additional
_QUESTION: Final = struct.Struct("!HH")  # type, class
RECORD: Final = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_OPTION: Final = struct.Struct("!HH")  # code, length

QR: Final = 0x8000
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
CD: Final = 0x0010
OPCODE: Final = 0x7800
DO: Final = 0x8000  # of the flags in OPT

_ADDITIONAL_MAX: Final = 8  # records that a query may have beside its question


class Query(msgspec.Struct, frozen=True, gc=False):
    """A question.

    `question` are the bytes as they were sent, `name` its name as text (see `wire_names`), `flags`
    those of the header. `udp_limit` is how long an answer by UDP may be. `edns` is whether the
    client knows EDNS, `dnssec_ok` whether it wants signatures.
    """

    id: int
    flags: int
    question: bytes
    name: str
    type: int
    klass: int
    edns: bool = False
    dnssec_ok: bool = False
    udp_limit: int = UDP_BYTES

    @property
    def key(self) -> bytes:
        """The question with its name in lower case."""
        return self.question[:-4].lower() + self.question[-4:]


class NoQuery(Malformed):
    """What came is no query that can be answered. `reply` is to be sent back, None: nothing."""

    def __init__(self, reason: str, reply: bytes | None = None) -> None:
        super().__init__(reason)
        self.reply = reply


def parse_query(data: bytes) -> Query:
    """Raises `NoQuery`, and nothing else, whatever `data` is.

    Exactly one question is answered (RFC 9619), and nothing but it and additional records may be
    there. Responses and what is shorter than a header get no answer, lest two servers talk to
    each other for ever.
    """
    if len(data) < HEADER.size:
        raise NoQuery("shorter than a header")
    query_id, flags, questions, answers, authority, additional = HEADER.unpack_from(data)
    if flags & QR:
        raise NoQuery("a response")
    if flags & OPCODE:
        raise NoQuery("not a query", _error(query_id, flags, records.NOTIMP))
    if questions != 1 or answers or authority or additional > _ADDITIONAL_MAX:
        raise NoQuery("not one question", _error(query_id, flags, records.FORMERR))
    question = b""
    try:
        end = end_of_plain_name(data, HEADER.size)
        if len(data) < end + _QUESTION.size:
            raise Malformed("a question that goes past the end")
        name = name_text(data[HEADER.size : end])
        kind, klass = _QUESTION.unpack_from(data, end)
        question = data[HEADER.size : end + _QUESTION.size]
        edns = _read_additional(data, end + _QUESTION.size, additional)
    except Malformed as error:
        raise NoQuery(str(error), _error(query_id, flags, records.FORMERR, question)) from None
    if edns is None:
        return Query(query_id, flags, question, name, kind, klass)
    size, ttl = edns
    limit = min(max(size, UDP_BYTES), UDP_MAX_BYTES)
    query = Query(query_id, flags, question, name, kind, klass, True, bool(ttl & DO), limit)
    if ttl >> 16 & 0xFF:
        reply = _error(query_id, flags, records.BADVERS, question, opt(query, records.BADVERS))
        raise NoQuery("an unknown version of EDNS", reply)
    return query


def _read_additional(data: bytes, at: int, count: int) -> tuple[int, int] | None:
    """The class and TTL of OPT among the records from `at` to the end of a query: the size of
    answers that its client takes, and flags. None without one. Raises `Malformed`.
    """
    found = None
    for _ in range(count):
        start = at
        at = skip_name(data, at)
        if len(data) < at + RECORD.size:
            raise Malformed("a record that goes past the end")
        kind, klass, ttl, length = RECORD.unpack_from(data, at)
        at += RECORD.size
        if len(data) < at + length:
            raise Malformed("a record that goes past the end")
        if kind == records.OPT:
            if found is not None or data[start]:
                raise Malformed("more than one OPT, or one that is not of the root")
            _check_options(data, at, at + length)
            found = klass, ttl
        at += length
    if at != len(data):
        raise Malformed("bytes after the last record")
    return found


def _check_options(data: bytes, at: int, end: int) -> None:
    while at < end:
        if end < at + _OPTION.size:
            raise Malformed("an option that goes past the end")
        at += _OPTION.size + _OPTION.unpack_from(data, at)[1]
    if at != end:
        raise Malformed("an option that goes past the end")


def opt(query: Query, rcode: int) -> bytes:
    """Our OPT: what size we take, the high bits of the rcode, and DO as it was sent (RFC 3225)."""
    ttl = rcode >> 4 << 24 | (DO if query.dnssec_ok else 0)
    return b"\0" + RECORD.pack(records.OPT, OUR_UDP_BYTES, ttl, 0)


def _error(
    query_id: int, flags: int, rcode: int, question: bytes = b"", option: bytes = b""
) -> bytes:
    """What is sent for something that cannot be read, or not all of it."""
    flags = QR | flags & (OPCODE | RD) | rcode & 0xF
    header = HEADER.pack(query_id, flags, bool(question), 0, 0, bool(option))
    return header + question + option
