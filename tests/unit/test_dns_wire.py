"""DNS queries as bytes: what dnspython makes is read as it was meant, nothing breaks the reader."""

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.registry.dns.wire import (
    HEADER,
    OUR_UDP_BYTES,
    RD,
    UDP_BYTES,
    UDP_MAX_BYTES,
    NoQuery,
    Query,
    parse_query,
)
from netd.registry.dns.wire_names import Malformed, name_text, skip_name

labels = st.binary(min_size=1, max_size=63)
names = (
    st.lists(labels, max_size=5)
    .filter(lambda parts: sum(len(part) + 1 for part in parts) < 255)
    .map(lambda parts: dns.name.Name([*parts, b""]))
)
types = st.integers(0, 65535)
DEMO = "Web.Demo.netd.internal"


def query_of(name: str = DEMO, kind: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, kind, **options).to_wire()  # type: ignore[arg-type]


def error_of(data: bytes) -> dns.message.Message:
    """What is sent back for something that is no query."""
    with pytest.raises(NoQuery) as caught:
        parse_query(data)
    assert caught.value.reply is not None
    return dns.message.from_wire(caught.value.reply)


def option(body: bytes = b"", version: int = 0, owner: bytes = b"\0") -> bytes:
    ttl = bytes([0, version, 0, 0])
    return owner + b"\0\x29\x04\xd0" + ttl + len(body).to_bytes(2, "big") + body


def with_additional(data: bytes, *additional: bytes) -> bytes:
    return data[:10] + len(additional).to_bytes(2, "big") + data[12:] + b"".join(additional)


@settings(deadline=None)
@given(
    names,
    types,
    types,
    st.integers(0, 65535),
    st.none() | st.integers(0, 65535),
    st.booleans(),
    st.lists(st.tuples(st.integers(65001, 65534), st.binary(max_size=40)), max_size=3),
)
def test_what_dnspython_asks_is_read_as_it_was_meant(
    name: dns.name.Name,
    kind: int,
    klass: int,
    query_id: int,
    size: int | None,
    dnssec_ok: bool,
    options: list[tuple[int, bytes]],
) -> None:
    asked = dns.message.QueryMessage(id=query_id)
    asked.flags = dns.flags.RD
    asked.find_rrset(
        asked.question,
        name,
        dns.rdataclass.RdataClass.make(klass),
        dns.rdatatype.RdataType.make(kind),
        create=True,
        force_unique=True,
    )
    if size is not None:
        generic: list[dns.edns.Option] = [
            dns.edns.GenericOption(dns.edns.OptionType.make(code), body) for code, body in options
        ]
        asked.use_edns(0, dns.flags.DO if dnssec_ok else 0, size, options=generic)
    data = asked.to_wire()
    query = parse_query(data)
    wire = name.to_wire()
    assert wire is not None
    assert query == Query(
        id=query_id,
        flags=RD,
        question=wire + kind.to_bytes(2, "big") + klass.to_bytes(2, "big"),
        name=name.to_text(omit_final_dot=True).lower() if len(name) > 1 else "",
        type=kind,
        klass=klass,
        edns=size is not None,
        dnssec_ok=size is not None and dnssec_ok,
        udp_limit=UDP_BYTES if size is None else min(max(size, UDP_BYTES), UDP_MAX_BYTES),
    )


def test_the_key_folds_the_name_and_not_the_type() -> None:
    query = parse_query(query_of("AAAA.example", "HTTPS"))
    assert query.type == 65  # which is "A"
    assert query.key == b"\x04aaaa\x07example\0\0\x41\0\x01"
    assert query.question == b"\x04AAAA\x07example\0\0\x41\0\x01"


def test_names_that_differ_never_look_the_same() -> None:
    assert name_text(b"\x01a\x01b\0") == "a.b"
    assert name_text(b"\x03a.b\0") == "a\\.b"
    assert name_text(b"\x03a\\b\0") == "a\\\\b"
    assert name_text(b"\x02\xc4\x20\0") == "\\196\\032"
    assert name_text(b"\0") == ""


@pytest.mark.parametrize("length", range(HEADER.size))
def test_what_is_shorter_than_a_header_gets_no_answer(length: int) -> None:
    with pytest.raises(NoQuery) as caught:
        parse_query(query_of()[:length])
    assert caught.value.reply is None


def test_a_response_gets_no_answer() -> None:
    data = dns.message.make_response(dns.message.make_query(DEMO, "A")).to_wire()
    with pytest.raises(NoQuery) as caught:
        parse_query(data)
    assert caught.value.reply is None


@pytest.mark.parametrize("opcode", [1, 2, 3, 4, 5, 6, 15])
def test_another_opcode_is_not_implemented(opcode: int) -> None:
    data = bytearray(query_of())
    data[2] |= opcode << 3
    reply = error_of(bytes(data))
    assert reply.rcode() == dns.rcode.NOTIMP
    assert reply.opcode() == opcode
    assert reply.id == int.from_bytes(data[:2], "big")


def test_an_unknown_version_of_edns_is_told() -> None:
    reply = error_of(with_additional(query_of(), option(version=1)))
    assert reply.rcode() == dns.rcode.BADVERS
    assert reply.edns == 0
    assert reply.payload == OUR_UDP_BYTES
    assert reply.question[0].to_text() == f"{DEMO}. IN A"


@pytest.mark.parametrize(
    "data",
    [
        query_of()[:4] + b"\0\0" + query_of()[6:12],
        query_of()[:4] + b"\0\2" + query_of()[6:] + query_of()[12:],
        query_of()[:6] + b"\0\1" + query_of()[8:] + option(),
        query_of()[:8] + b"\0\1" + query_of()[10:] + option(),
        with_additional(query_of(), *[option(owner=b"\1a\0")] * 9),
    ],
    ids=["none", "two", "an answer", "an authority", "nine additional"],
)
def test_what_is_not_one_question_is_an_error(data: bytes) -> None:
    reply = error_of(data)
    assert reply.rcode() == dns.rcode.FORMERR
    assert reply.id == int.from_bytes(data[:2], "big")
    assert not reply.question


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\x0c",
        b"\1a\xc0\x0c",
        b"\x41" + b"a" * 65 + b"\0",
        b"\x80a\0",
        b"\x3f" + b"a" * 10,
        b"\1a" * 127 + b"\1b\0",
        b"",
    ],
    ids=["itself", "a pointer", "a long label", "a reserved label", "cut", "256 bytes", "nothing"],
)
def test_a_question_that_cannot_be_read_is_an_error(name: bytes) -> None:
    reply = error_of(query_of()[:12] + name + b"\0\1\0\1")
    assert reply.rcode() == dns.rcode.FORMERR
    assert not reply.question


def test_a_name_of_255_bytes_is_one() -> None:
    data = query_of()[:12] + b"\1a" * 127 + b"\0" + b"\0\1\0\1"
    assert parse_query(data).name == ".".join("a" * 127)


@pytest.mark.parametrize(
    "data",
    [
        with_additional(query_of(), option(), option()),
        with_additional(query_of(), option(owner=b"\1a\0")),
        with_additional(query_of(), option(b"\0\3\0\5four")),
        with_additional(query_of(), option(b"\0\3\0")),
        with_additional(query_of(), option()[:-1]),
        with_additional(query_of(), option()[:5]),
        with_additional(query_of(), b"\1a\xc0\xff" + option()),
        with_additional(query_of(), option()) + b"\0",
        query_of() + b"\0",
    ],
    ids=["two", "owner", "option", "half", "cut", "short", "pointer", "junk", "bare junk"],
)
def test_opt_that_is_wrong_is_an_error_that_shows_the_question(data: bytes) -> None:
    reply = error_of(data)
    assert reply.rcode() == dns.rcode.FORMERR
    assert reply.question[0].to_text() == f"{DEMO}. IN A"


def test_other_additional_records_are_passed_over() -> None:
    signature = b"\0\0\xfa\0\xff\0\0\0\0\0\x03abc"  # TSIG of no key of ours
    query = parse_query(with_additional(query_of(), option(), signature))
    assert query.edns
    assert query.udp_limit == 1232


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    judge(data)


@settings(deadline=None)
@given(st.data())
def test_damaged_queries_are_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(
        query_of(use_edns=0, payload=4096) if data.draw(st.booleans()) else query_of()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        if not whole:
            break
        at = data.draw(st.integers(0, len(whole) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                whole[at] = data.draw(st.integers(0, 255))
            case "cut":
                del whole[at:]
            case _:
                whole[at:at] = data.draw(st.binary(max_size=20))
    judge(bytes(whole))


def judge(data: bytes) -> None:
    """We take what dnspython takes, with the same meaning, and refuse the rest properly."""
    try:
        query = parse_query(data)
    except NoQuery as refusal:
        if refusal.reply is None:
            assert len(data) < HEADER.size or data[2] & 0x80
            return
        reply = dns.message.from_wire(refusal.reply)
        assert reply.id == int.from_bytes(data[:2], "big")
        assert reply.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS)
        assert reply.rcode() != dns.rcode.FORMERR or not is_query(data)
        return
    # What is in options is theirs to read; ours are passed over.
    seen = dns.message.from_wire(data, continue_on_error=True)
    assert seen.id == query.id
    assert seen.question[0].rdtype == query.type
    assert seen.question[0].rdclass == query.klass
    assert seen.question[0].name.to_wire() == query.question[:-4]


def is_query(data: bytes) -> bool:
    """Whether dnspython reads it as one question and nothing that we do not take."""
    try:
        seen = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError):
        return False
    counts = HEADER.unpack_from(data)[2:]
    if counts[:3] != (1, 0, 0) or counts[3] > 8:
        return False
    name = seen.question[0].name.to_wire()
    assert name is not None
    return data[HEADER.size :].startswith(name)  # not compressed into the header


@settings(deadline=None)
@given(st.binary(max_size=120), st.integers(0, 130))
def test_any_name_ends_where_dnspython_says(data: bytes, at: int) -> None:
    try:
        name, used = dns.name.from_wire(data, at)
    except (dns.exception.DNSException, IndexError):
        with pytest.raises(Malformed):
            skip_name(data, at)
        return
    assert skip_name(data, at) == at + used
    assert name.is_absolute()


def test_a_query_of_another_class_is_read() -> None:
    assert parse_query(query_of("version.bind", "TXT", rdclass="CH")).klass == 3
