"""Answers of other servers: checked, kept as they came, and passed on.

What is kept are the bytes of the records. They refer to each other and to the question by their
place in the message, and the question is of the same length in each reply, so they are good for
all of them; only the TTLs in them count down (RFC 1035, 4.1.4).
"""

import struct
from typing import Final

import msgspec

from netd.registry.dns import records
from netd.registry.dns.wire import (
    CD,
    HEADER,
    OPCODE,
    QR,
    RA,
    RD,
    RECORD,
    TC,
    Query,
    opt,
)
from netd.registry.dns.wire_names import Malformed, skip_name

KEPT_MAX_S: Final = 86_400  # whatever a TTL says
NEGATIVE_MAX_S: Final = 3600  # RFC 2308, 5
FAILURE_S: Final = 1  # RFC 9520, 3.2: at least that

_TTL: Final = struct.Struct("!I")
_TTL_SIGN: Final = 0x8000_0000
_SOA_NUMBERS_BYTES: Final = 20
_ADDRESS_BYTES: Final = {records.A: 4, records.AAAA: 16}
# What stands before the one name that the data of these is, in bytes.
_NAME_AFTER: Final = {
    records.NS: 0,
    records.CNAME: 0,
    records.PTR: 0,
    records.DNAME: 0,
    records.MX: 2,
    records.SRV: 6,
}


class NotOurs(ValueError):
    """A message that answers something else, or nothing: from whoever guesses at ids."""


class Foreign(msgspec.Struct, frozen=True, gc=False):
    """An answer of another server.

    `body` has the records from the end of the question up to OPT, `counts` of them are in each
    section. `ttls` are where their TTLs stand in a message and what they were, `ends` where each
    record ends. `keep_s` is how long it may be kept: 0 is not at all.
    """

    rcode: int
    truncated: bool = False
    body: bytes = b""
    counts: tuple[int, int, int] = (0, 0, 0)
    ttls: tuple[tuple[int, int], ...] = ()
    ends: tuple[int, ...] = ()
    keep_s: int = 0


FAILURE: Final = Foreign(rcode=records.SERVFAIL, keep_s=FAILURE_S)


def read_answer(data: bytes, query_id: int, question: bytes) -> Foreign:
    """Read what came for a query with this id and question (its name in lower case).

    Raises `NotOurs`, which is to be ignored, and `Malformed` if it is the answer but wrong.
    """
    end = HEADER.size + len(question)
    if len(data) < HEADER.size:
        raise NotOurs("shorter than a header")
    found_id, flags, questions, *counts = HEADER.unpack_from(data)
    if found_id != query_id or not flags & QR or flags & OPCODE:
        raise NotOurs("another id, or no response")
    if not questions and not any(counts) and flags & 0xF and len(data) == HEADER.size:
        return Foreign(rcode=flags & 0xF)  # FORMERR of servers that cannot read a question
    found = data[HEADER.size : end]
    if questions != 1 or found[:-4].lower() != question[:-4] or found[-4:] != question[-4:]:
        raise NotOurs("another question")
    try:
        return _Reader(data, end).read(flags, (counts[0], counts[1], counts[2]))
    except Malformed:
        if not flags & TC:
            raise
        return Foreign(rcode=flags & 0xF, truncated=True)  # cut off anywhere


def relay(foreign: Foreign, query: Query, age_s: int, limit: int) -> bytes:
    """The reply to `query` that passes on an answer which came `age_s` ago.

    If it is longer than `limit`, records are left out from its end; TC is set if any of those
    that answer are among them.
    """
    head = HEADER.size + len(query.question)
    option = opt(query, foreign.rcode) if query.edns else b""
    flags = QR | RA | query.flags & (RD | CD) | foreign.rcode & 0xF
    counts, body, ttls = foreign.counts, foreign.body, foreign.ttls
    if foreign.truncated:
        flags |= TC
    if head + len(body) + len(option) > limit:
        count = sum(end <= limit - len(option) for end in foreign.ends)
        counts = _first(counts, count)
        body = body[: foreign.ends[count - 1] - head] if count else b""
        ttls = ttls[:count]
        if counts[0] < foreign.counts[0] or (not counts[0] and counts[1] < foreign.counts[1]):
            flags |= TC
    answers, authority, additional = counts
    header = HEADER.pack(query.id, flags, 1, answers, authority, additional + bool(option))
    out = bytearray(header + query.question + body + option)
    for at, ttl_s in ttls:
        _TTL.pack_into(out, at, max(ttl_s - age_s, 0))
    return bytes(out)


def _first(counts: tuple[int, int, int], count: int) -> tuple[int, int, int]:
    """How many of the first `count` records are in each section."""
    answers = min(counts[0], count)
    authority = min(counts[1], count - answers)
    return answers, authority, count - answers - authority


class _Reader:
    """Reads the records of a message from `at` on."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._start = at
        self._at = at
        self._ttls: list[tuple[int, int]] = []
        self._ends: list[int] = []
        self._negative_s: int | None = None  # from SOA

    def read(self, flags: int, counts: tuple[int, int, int]) -> Foreign:
        """Raises `Malformed`."""
        answers, authority, additional = counts
        for number in range(answers + authority):
            if self._record(number >= answers) is not None:
                raise Malformed("OPT that is not an additional record")
        extended: int | None = None
        kept = 0
        for _ in range(additional):
            option = self._record(False)
            if option is None:
                kept += extended is None  # pointers lead backwards: what is after OPT may go
            elif extended is not None:
                raise Malformed("more than one OPT")
            else:
                extended = option >> 24
        if self._at != len(self._data):
            raise Malformed("bytes after the last record")
        count = answers + authority + kept
        ends = self._ends[:count]
        rcode = flags & 0xF | (extended or 0) << 4
        truncated = bool(flags & TC)
        return Foreign(
            rcode=rcode,
            truncated=truncated,
            body=self._data[self._start : ends[-1]] if ends else b"",
            counts=(answers, authority, kept),
            ttls=tuple(self._ttls[:count]),
            ends=tuple(ends),
            keep_s=0 if truncated else self._keep_s(rcode, answers),
        )

    def _keep_s(self, rcode: int, answers: int) -> int:
        """RFC 2308: what there is not is kept only as long as SOA says."""
        ttls = [ttl_s for _, ttl_s in self._ttls[:answers]]
        if rcode == records.NOERROR and ttls and self._negative_s is None:
            return min(KEPT_MAX_S, *ttls)
        if rcode in (records.NOERROR, records.NXDOMAIN) and self._negative_s is not None:
            return min(NEGATIVE_MAX_S, self._negative_s, *ttls)
        return 0

    def _record(self, in_authority: bool) -> int | None:
        """Read one. Returns the TTL field if it is OPT. Raises `Malformed`."""
        data = self._data
        start = self._at
        at = skip_name(data, start)
        if len(data) < at + RECORD.size:
            raise Malformed("a record that goes past the end")
        kind, _, ttl_s, length = RECORD.unpack_from(data, at)
        end = at + RECORD.size + length
        if len(data) < end:
            raise Malformed("a record that goes past the end")
        self._at = end
        if kind == records.OPT:
            if data[start]:
                raise Malformed("OPT that is not of the root")
            return int(ttl_s)
        ttl_s = 0 if ttl_s & _TTL_SIGN else ttl_s  # RFC 2181, 8
        self._ttls.append((at + 4, ttl_s))
        self._ends.append(end)
        self._check_data(kind, at + RECORD.size, end)
        if kind == records.SOA and in_authority:
            minimum_s = _TTL.unpack_from(data, end - _TTL.size)[0]
            self._negative_s = min(ttl_s, minimum_s)
            # Whoever keeps what is passed on keeps it no longer than we may (RFC 2308, 3 and 5).
            self._ttls[-1] = at + 4, self._negative_s
        return None

    def _check_data(self, kind: int, at: int, end: int) -> None:
        """What clients look into must be what it should be. Raises `Malformed`."""
        if kind in _ADDRESS_BYTES:
            wrong = end - at != _ADDRESS_BYTES[kind]
        elif kind in _NAME_AFTER:
            wrong = skip_name(self._data, at + _NAME_AFTER[kind]) != end
        elif kind == records.SOA:
            names_end = skip_name(self._data, skip_name(self._data, at))
            wrong = names_end + _SOA_NUMBERS_BYTES != end
        else:
            return
        if wrong:
            raise Malformed(f"data of type {kind} that is not as long as it says")
