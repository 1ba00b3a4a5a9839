"""DNS replies as bytes, read with dnspython: nothing is lost, nothing is longer than allowed."""

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.naming import wire as naming
from netd.naming.values import Answer, Record
from netd.registry.dns import records
from netd.registry.dns.wire import OUR_UDP_BYTES, TCP_MAX_BYTES, Query, parse_query
from netd.registry.dns.wire_reply import encode_error, encode_reply

ZONE = "netd.internal"
DEMO = f"web.demo.{ZONE}"

# Few labels, so that names have ends in common.
names = st.lists(st.sampled_from(["a", "b", "web", "demo", "-_09", "x" * 63]), max_size=3).map(
    lambda parts: ".".join([*parts, "netd", "internal"])
)
ports = st.integers(0, 65535)
datas = st.one_of(
    st.binary(min_size=4, max_size=4).map(lambda data: ("A", data)),
    st.binary(min_size=16, max_size=16).map(lambda data: ("AAAA", data)),
    st.builds(naming.srv_wire, ports, ports, ports, names).map(lambda data: ("SRV", data)),
    st.integers(0, 600).map(lambda size: ("TXT", naming.txt_wire("x" * size))),
    st.tuples(st.sampled_from(["PTR", "NS", "CNAME"]), names.map(naming.name_wire)),
    st.builds(naming.soa_wire, names, names, st.tuples(*[st.integers(0, (1 << 32) - 1)] * 5)).map(
        lambda data: ("SOA", data)
    ),
)


def record(name: str, kind: str, rdata: bytes, ttl_s: int = 2) -> Record:
    return Record(name, kind, ttl_s, "", rdata)


sections = st.lists(
    st.tuples(names, datas, st.integers(0, 3600)), max_size=6, unique_by=lambda each: each[:2]
).map(lambda rows: tuple(record(name, kind, data, ttl_s) for name, (kind, data), ttl_s in rows))


def query_of(name: str = DEMO, kind: str = "A", size: int | None = None) -> Query:
    edns = {} if size is None else {"use_edns": 0, "payload": size}
    return parse_query(dns.message.make_query(name, kind, **edns).to_wire())  # type: ignore[arg-type]


def addresses(count: int, name: str = DEMO) -> tuple[Record, ...]:
    return tuple(
        record(name, "A", (0x0A000000 + number).to_bytes(4, "big")) for number in range(count)
    )


def rows(section: list[dns.rrset.RRset]) -> list[tuple[bytes | None, str, int, bytes | None]]:
    """The records of a section, in the order of the message."""
    return [
        (each.name.canonicalize().to_wire(), dns.rdatatype.to_text(each.rdtype), each.ttl, data)
        for each in section
        for data in (item.to_digestable() for item in each)
    ]


def expected(
    section: tuple[Record, ...], name: str = ""
) -> list[tuple[bytes | None, str, int, bytes | None]]:
    return [
        (naming.name_wire(name or each.name), each.type, each.ttl_s, each.rdata) for each in section
    ]


def read(data: bytes) -> dns.message.Message:
    return dns.message.from_wire(data, one_rr_per_rrset=True)


@settings(deadline=None)
@given(sections, sections, sections, st.none() | st.integers(0, 65535), st.sampled_from("aA"))
def test_dnspython_reads_what_was_written(
    answers: tuple[Record, ...],
    authority: tuple[Record, ...],
    additional: tuple[Record, ...],
    size: int | None,
    letter: str,
) -> None:
    query = query_of(f"{letter}.Demo.{ZONE}", "ANY", size)
    answer = Answer("NOERROR", answers, additional, authority, aa=bool(answers))
    seen = read(encode_reply(query, answer, TCP_MAX_BYTES))
    assert rows(seen.answer) == expected(answers, f"a.demo.{ZONE}")
    assert rows(seen.authority) == expected(authority)
    assert rows(seen.additional) == expected(additional)
    assert seen.question[0].name.to_text() == f"{letter}.Demo.{ZONE}."
    assert seen.id == query.id
    assert bool(seen.flags & dns.flags.AA) == bool(answers)
    assert seen.flags & (dns.flags.QR | dns.flags.RD | dns.flags.RA)
    assert not seen.flags & dns.flags.TC
    assert seen.edns == (-1 if size is None else 0)


@settings(deadline=None)
@given(sections, sections, sections, st.none() | st.integers(0, 1200))
def test_what_does_not_fit_is_told(
    answers: tuple[Record, ...],
    authority: tuple[Record, ...],
    additional: tuple[Record, ...],
    size: int | None,
) -> None:
    query = query_of(DEMO, "ANY", size)
    answer = Answer("NOERROR", answers, additional, authority)
    data = encode_reply(query, answer, query.udp_limit)
    assert len(data) <= query.udp_limit
    seen = read(data)
    found = rows(seen.answer), rows(seen.authority), rows(seen.additional)
    wanted = expected(answers, DEMO), expected(authority), expected(additional)
    for got, want in zip(found, wanted, strict=True):
        assert got == want[: len(got)]
    whole = found[:2] == wanted[:2]
    assert bool(seen.flags & dns.flags.TC) == (not whole)
    if not whole:
        assert not found[2]
    if found[0] != wanted[0]:
        assert not found[1]
    assert seen.edns == (-1 if size is None else 0)


def test_a_client_without_edns_gets_512_bytes_and_is_told() -> None:
    query = query_of()
    data = encode_reply(query, Answer("NOERROR", addresses(100)), query.udp_limit)
    assert 512 - 16 < len(data) <= 512
    seen = read(data)
    assert seen.flags & dns.flags.TC
    assert len(seen.answer) == (512 - 12 - len(query.question)) // 16


def test_a_client_gets_as_much_as_it_takes() -> None:
    query = query_of(size=8192)
    data = encode_reply(query, Answer("NOERROR", addresses(400)), query.udp_limit)
    seen = read(data)
    assert not seen.flags & dns.flags.TC
    assert len(seen.answer) == 400
    assert seen.payload == OUR_UDP_BYTES


def test_thousands_of_instances_go_over_tcp_and_no_further() -> None:
    answer = Answer("NOERROR", addresses(5000))
    data = encode_reply(query_of(), answer, TCP_MAX_BYTES)
    assert len(data) <= TCP_MAX_BYTES
    seen = read(data)
    assert seen.flags & dns.flags.TC
    assert len(seen.answer) > 4000


def test_addresses_of_targets_go_before_any_target_does() -> None:
    targets = [f"{number}.demo.{ZONE}" for number in range(9)]
    services = tuple(record(DEMO, "SRV", naming.srv_wire(1, 1, 80, target)) for target in targets)
    extra = tuple(addresses(1, target)[0] for target in targets)
    query = query_of(kind="SRV")
    data = encode_reply(query, Answer("NOERROR", services, extra), query.udp_limit)
    seen = read(data)
    assert len(seen.answer) == 9
    assert 0 < len(seen.additional) < 9
    assert not seen.flags & dns.flags.TC


def test_names_are_compressed() -> None:
    one = encode_reply(query_of(), Answer("NOERROR", addresses(1)), TCP_MAX_BYTES)
    two = encode_reply(query_of(), Answer("NOERROR", addresses(2)), TCP_MAX_BYTES)
    assert len(two) - len(one) == 2 + 10 + 4
    soa = record(ZONE, "SOA", naming.soa_wire(f"ns.{ZONE}", f"mail.{ZONE}", (1, 2, 3, 4, 5)))
    nothing = encode_error(query_of(), records.NXDOMAIN)
    with_soa = encode_reply(query_of(), Answer("NXDOMAIN", authority=(soa,)), TCP_MAX_BYTES)
    assert len(with_soa) - len(nothing) == 2 + 10 + 5 + 7 + 20


def test_no_pointer_leads_further_than_it_can() -> None:
    extra = tuple(
        record(f"n{number % 3000}.{number % 7}.{ZONE}", "PTR", naming.name_wire(f"{number % 11}.x"))
        for number in range(3500)
    )
    data = encode_reply(query_of(), Answer("NOERROR", additional=extra), TCP_MAX_BYTES)
    assert len(data) > 0x4000
    assert rows(read(data).additional) == expected(extra)[: len(read(data).additional)]


def test_a_truncated_reply_refers_to_nothing_that_was_cut_off() -> None:
    long = record(f"long.{ZONE}", "TXT", naming.txt_wire("x" * 460))
    short = record(f"long.{ZONE}", "A", bytes(4))
    query = query_of()
    data = encode_reply(query, Answer("NOERROR", additional=(short, long, short)), 512)
    assert rows(read(data).additional) == expected((short,))
    data = encode_reply(query, Answer("NOERROR", additional=(long, short)), 512)
    assert rows(read(data).additional) == []


@pytest.mark.parametrize("edns", [None, 1232])
@pytest.mark.parametrize("rcode", [records.SERVFAIL, records.REFUSED, records.BADVERS])
def test_an_error_has_the_question_and_no_records(rcode: int, edns: int | None) -> None:
    if rcode == records.BADVERS and edns is None:
        return
    query = query_of("X.Example", "MX", edns)
    seen = read(encode_error(query, rcode))
    assert seen.rcode() == rcode
    assert seen.question[0].to_text() == "X.Example. IN MX"
    assert not seen.answer
    assert not seen.authority
    assert not seen.additional
    assert not seen.flags & dns.flags.AA


def test_do_is_sent_back_and_cd_kept() -> None:
    asked = dns.message.make_query(DEMO, "A", use_edns=0, want_dnssec=True)
    asked.flags |= dns.flags.CD
    query = parse_query(asked.to_wire())
    assert query.dnssec_ok
    seen = read(encode_reply(query, Answer("NOERROR", addresses(1)), query.udp_limit))
    assert seen.ednsflags & dns.flags.DO
    assert seen.flags & dns.flags.CD
