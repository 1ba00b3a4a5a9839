"""Answers of others as bytes: what is wrong is refused, what is right is passed on as it was."""

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.registry.dns import records
from netd.registry.dns.forward_answer import (
    KEPT_MAX_S,
    NEGATIVE_MAX_S,
    Foreign,
    NotOurs,
    read_answer,
    relay,
)
from netd.registry.dns.wire import TCP_MAX_BYTES, Query
from netd.registry.dns.wire_names import Malformed
from tests.unit.dns_servers import question, reply

WWW = question("WWW.Example", use_edns=0, payload=65507)

names = st.lists(st.sampled_from(["a", "bb", "x" * 63, "\\000", "A"]), max_size=3).map(
    lambda parts: ".".join([*parts, "example."])
)
addresses = st.integers(0, 255).map(lambda number: f"192.0.2.{number}")
datas = st.one_of(
    addresses.map(lambda text: ("A", text)),
    st.integers(0, 0xFFFF).map(lambda number: ("AAAA", f"2001:db8::{number:x}")),
    names.map(lambda name: ("CNAME", name)),
    names.map(lambda name: ("NS", name)),
    names.map(lambda name: ("PTR", name)),
    names.map(lambda name: ("DNAME", name)),
    names.map(lambda name: ("MX", f"10 {name}")),
    names.map(lambda name: ("SRV", f"1 2 80 {name}")),
    names.map(lambda name: ("SOA", f"{name} root.{name} 1 2 3 4 5")),
    st.just(("TXT", '"one" "two"')),
    st.just(("CAA", '0 issue "ca.example"')),
    st.just(("HTTPS", "1 . alpn=h2")),
    st.just(("TYPE65400", "\\# 3 010203")),
)
sections = st.lists(
    st.builds(
        lambda name, ttl_s, data: dns.rrset.from_text(name, ttl_s, "IN", *data),
        names,
        st.integers(0, (1 << 31) - 1),
        datas,
    ),
    max_size=5,
    unique_by=lambda rrset: (rrset.name, rrset.rdtype),
)


def asked(query: Query) -> dns.message.Message:
    """The query as the server sees it."""
    name, _ = dns.name.from_wire(query.key, 0)
    found = dns.message.make_query(name, dns.rdatatype.RdataType.make(query.type), id=query.id)
    found.use_edns(0)
    return found


def read(data: bytes, query: Query = WWW) -> Foreign:
    return read_answer(data, query.id, query.key)


def shown(section: list[dns.rrset.RRset]) -> list[str]:
    return sorted(line.lower() for rrset in section for line in rrset.to_text().splitlines())


def aged(section: list[dns.rrset.RRset], age_s: int, *, negative: bool = False) -> list[str]:
    """The same in so many seconds; where it says that there is nothing, by SOA's minimum too."""
    lines = []
    for rrset in section:
        ttl_s = rrset.ttl
        if negative and rrset.rdtype == dns.rdatatype.SOA:
            ttl_s = min(ttl_s, *(item.minimum for item in rrset))
        ttl_s = max(ttl_s - age_s, 0)
        texts = [item.to_text() for item in rrset]
        lines += shown([dns.rrset.from_text(rrset.name, ttl_s, "IN", rrset.rdtype, *texts)])
    return sorted(lines)


@settings(deadline=None)
@given(sections, sections, sections, st.integers(0, 1 << 31), st.booleans())
def test_records_are_passed_on_with_their_times_counted_down(
    answers: list[dns.rrset.RRset],
    authority: list[dns.rrset.RRset],
    additional: list[dns.rrset.RRset],
    age_s: int,
    edns: bool,
) -> None:
    message = dns.message.make_response(asked(WWW))
    message.answer, message.authority, message.additional = answers, authority, additional
    foreign = read(message.to_wire(max_size=65535))
    client = question("wWw.example", use_edns=0 if edns else False)
    data = relay(foreign, client, age_s, TCP_MAX_BYTES)
    assert data[12 : 12 + len(client.question)] == client.question
    seen = dns.message.from_wire(data)
    assert seen.id == client.id
    assert shown(seen.answer) == aged(answers, age_s)
    assert shown(seen.authority) == aged(authority, age_s, negative=True)
    assert shown(seen.additional) == aged(additional, age_s)
    assert seen.edns == (0 if edns else -1)
    assert not seen.flags & (dns.flags.TC | dns.flags.AA | dns.flags.AD)


@settings(deadline=None)
@given(sections, sections, sections, st.integers(0, 1200))
def test_what_is_too_long_is_cut_at_a_record_and_told(
    answers: list[dns.rrset.RRset],
    authority: list[dns.rrset.RRset],
    additional: list[dns.rrset.RRset],
    size: int,
) -> None:
    message = dns.message.make_response(asked(WWW))
    message.answer, message.authority, message.additional = answers, authority, additional
    foreign = read(message.to_wire(max_size=65535))
    client = question("www.example", use_edns=0, payload=size)
    data = relay(foreign, client, 0, client.udp_limit)
    assert len(data) <= client.udp_limit
    seen = dns.message.from_wire(data, one_rr_per_rrset=True)
    counts = len(seen.answer), len(seen.authority), len(seen.additional)
    assert seen.edns == 0
    assert all(got <= had for got, had in zip(counts, foreign.counts, strict=True))
    whole = counts[0] == foreign.counts[0] and (bool(counts[0]) or counts[1] == foreign.counts[1])
    assert bool(seen.flags & dns.flags.TC) == (not whole)
    if counts[0] < foreign.counts[0]:
        assert counts[1:] == (0, 0)
    if len(data) < client.udp_limit - 700:  # there was room for any record
        assert counts == foreign.counts


def test_opt_before_other_records_is_taken_out() -> None:
    message = reply(asked(WWW), "192.0.2.1")
    message.additional.append(dns.rrset.from_text("a.example.", 60, "IN", "A", "192.0.2.2"))
    whole = message.to_wire(max_size=65535)
    option = whole[-11:]
    assert option[:3] == b"\0\0\x29"
    extra = b"\1b\xc0\x10\0\1\0\1\0\0\0\5\0\4\1\2\3\4"
    data = whole[:11] + bytes([whole[11] + 1]) + whole[12:] + extra
    foreign = read(data)
    assert foreign.counts == (1, 0, 1)
    seen = dns.message.from_wire(relay(foreign, WWW, 0, TCP_MAX_BYTES))
    assert shown(seen.additional) == ["a.example. 60 in a 192.0.2.2"]
    with pytest.raises(Malformed, match="more than one OPT"):
        read(data[:11] + bytes([data[11] + 1]) + data[12:] + option)


def test_the_high_bits_of_a_code_are_read() -> None:
    message = reply(asked(WWW), rcode=dns.rcode.BADVERS)
    assert read(message.to_wire()).rcode == records.BADVERS


@pytest.mark.parametrize(
    "data",
    [
        b"\1b\xc0\x0c\0\1\0\1\0\0\0\5\0\3\1\2\3",
        b"\1b\xc0\x0c\0\x1c\0\1\0\0\0\5\0\4\1\2\3\4",
        b"\1b\xc0\x0c\0\5\0\1\0\0\0\5\0\3\1a\0\0",
        b"\1b\xc0\x0c\0\5\0\1\0\0\0\5\0\2\xc0\x2b",
        b"\1b\xc0\x0c\0\2\0\1\0\0\0\5\0\4\1a\0\0",
        b"\1b\xc0\x0c\0\x0f\0\1\0\0\0\5\0\2\0\1",
        b"\1b\xc0\x0c\0\x21\0\1\0\0\0\5\0\7\0\1\0\1\0\x50\1",
        b"\1b\xc0\x0c\0\6\0\1\0\0\0\5\0\x15\0\0" + bytes(19),
        b"\1b\xc0\x0c\0\1\0\1\0\0\0\5\0\5\1\2\3\4",
        b"\1b\xc0\x0c\0\1\0\1\0\0",
        b"\1b\xc0\xff\0\1\0\1\0\0\0\5\0\4\1\2\3\4",
        b"\1b\xc0\x0c\0\1\0\1\0\0\0\5\0\4\1\2\3\4x",
        b"\0\0\x29\4\xd0\0\0\0\0\0\0",
    ],
    ids=["short A", "short AAAA", "name and more", "name ahead", "NS", "MX", "SRV", "SOA", "cut",
         "head", "pointer", "junk", "OPT"],
)  # fmt: skip
def test_a_record_that_is_wrong_is_refused(data: bytes) -> None:
    head = WWW.id.to_bytes(2, "big") + b"\x81\x80\0\1\0\1\0\0\0\0" + WWW.key
    with pytest.raises(Malformed):
        read(head + data)
    cut = head[:2] + b"\x83\x80" + head[4:] + data
    assert read(cut) == Foreign(rcode=0, truncated=True)


def test_what_answers_something_else_is_not_ours() -> None:
    right = reply(asked(WWW), "192.0.2.1").to_wire()
    assert read(right).counts == (1, 0, 0)
    wrong = [
        b"",
        right[:11],
        bytes([right[0] ^ 0x80]) + right[1:],
        right[:2] + bytes([right[2] & 0x7F]) + right[3:],
        right[:2] + bytes([right[2] | 0x08]) + right[3:],
        right[:5] + b"\0" + right[6:],
        right[:5] + b"\2" + right[6:],
        right.replace(b"\3www", b"\3wwx"),
        right[:20],
    ]
    for data in wrong:
        with pytest.raises(NotOurs):
            read(data)


def test_a_bare_error_is_an_answer() -> None:
    head = WWW.id.to_bytes(2, "big")
    assert read(head + b"\x80\1" + bytes(8)) == Foreign(rcode=records.FORMERR)
    with pytest.raises(NotOurs):
        read(head + b"\x80\0" + bytes(8))


@pytest.mark.parametrize(
    ("ttl_s", "minimum_s", "rcode", "texts", "keep_s"),
    [
        (60, None, dns.rcode.NOERROR, ["192.0.2.1"], 60),
        (0, None, dns.rcode.NOERROR, ["192.0.2.1"], 0),
        ((1 << 31) - 1, None, dns.rcode.NOERROR, ["192.0.2.1"], KEPT_MAX_S),
        (60, 30, dns.rcode.NXDOMAIN, [], 30),
        (60, 90, dns.rcode.NXDOMAIN, [], 60),
        (60, 30, dns.rcode.NOERROR, [], 30),
        (100_000, 100_000, dns.rcode.NXDOMAIN, [], NEGATIVE_MAX_S),
        (60, None, dns.rcode.NXDOMAIN, [], 0),
        (60, None, dns.rcode.NOERROR, [], 0),
        (60, 30, dns.rcode.SERVFAIL, [], 0),
        (60, None, dns.rcode.REFUSED, ["192.0.2.1"], 0),
    ],
)
def test_how_long_it_may_be_kept(
    ttl_s: int, minimum_s: int | None, rcode: dns.rcode.Rcode, texts: list[str], keep_s: int
) -> None:
    message = reply(asked(WWW), *texts, ttl_s=ttl_s, rcode=rcode, minimum_s=minimum_s)
    assert read(message.to_wire()).keep_s == keep_s
    message.flags |= dns.flags.TC
    assert read(message.to_wire()).keep_s == 0


def test_the_smallest_time_counts_and_a_negative_one_is_none() -> None:
    message = reply(asked(WWW), ttl_s=60)
    alias = dns.rrset.from_text("www.example.", 60, "IN", "CNAME", "a.example.")
    target = dns.rrset.from_text("a.example.", 20, "IN", "A", "192.0.2.1")
    message.answer = [alias, target]
    data = message.to_wire()
    assert read(data).keep_s == 20
    data = data.replace(b"\0\0\0\x14", b"\xff\xff\xff\xff")
    foreign = read(data)
    assert foreign.keep_s == 0
    seen = dns.message.from_wire(relay(foreign, WWW, 0, TCP_MAX_BYTES))
    assert [rrset.ttl for rrset in seen.answer] == [60, 0]


def test_that_there_is_nothing_is_passed_on_for_as_long_as_it_is_kept() -> None:
    foreign = read(reply(asked(WWW), ttl_s=3600, minimum_s=60).to_wire())
    assert foreign.keep_s == 60
    seen = dns.message.from_wire(relay(foreign, WWW, 50, TCP_MAX_BYTES))
    assert [rrset.ttl for rrset in seen.authority] == [10]


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_refused_or_passed_on(tail: bytes) -> None:
    judge(WWW.id.to_bytes(2, "big") + tail)


@settings(deadline=None)
@given(sections, st.data())
def test_damaged_answers_are_refused_or_passed_on(
    answers: list[dns.rrset.RRset], data: st.DataObject
) -> None:
    message = dns.message.make_response(asked(WWW))
    message.answer = answers
    whole = bytearray(message.to_wire(max_size=65535))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(12, len(whole) - 1))
        if data.draw(st.booleans()):
            whole[at] = data.draw(st.integers(0, 255))
        else:
            whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    judge(bytes(whole))


def judge(data: bytes) -> None:
    """What is taken can be passed on, whole and cut, and be read up to the data of rare types."""
    try:
        foreign = read(data)
    except (NotOurs, Malformed):
        return
    for limit in (TCP_MAX_BYTES, 512, 100):
        sent = relay(foreign, WWW, 5, limit)
        assert len(sent) <= limit
        seen = dns.message.from_wire(sent, continue_on_error=True)
        assert seen.question[0].name.to_text() == "WWW.Example."
