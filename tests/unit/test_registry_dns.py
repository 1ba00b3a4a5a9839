"""The registry answers on real sockets what a daemon has told it."""

import asyncio
import collections
import random
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from netd.model.directory import NetworkEntry
from netd.model.service import Service, Weights
from netd.registry import listening
from netd.registry.dns import listeners, tcp
from netd.registry.feed import RETRY_MAX_S
from tests.unit.registry_lab import DEADLINE_S, GATEWAY, HOST, Lab, free_port, registry


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with registry(tmp_path) as made:
        yield made


def instance(number: int, **more: object) -> Service:
    fields = {"id": f"api-{number}", "name": "api", "node": "host-1", "port": 80, **more}
    return Service(**{"address": f"10.1.{number // 250}.{number % 250 + 1}", **fields})  # type: ignore[arg-type]


# What is answered, and to whom


@pytest.mark.parametrize("over_tcp", [False, True])
async def test_a_container_asks_its_gateway(lab: Lab, over_tcp: bool) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    for name in ("web.blue.netd.internal", "WEB"):
        answer = await lab.ask(name, at=GATEWAY, source="127.0.1.5", tcp=over_tcp)
        assert [str(item) for rrset in answer.answer for item in rrset] == ["127.0.1.5"]
        assert answer.flags & dns.flags.AA


@pytest.mark.parametrize("over_tcp", [False, True])
async def test_the_answer_knows_what_the_daemon_has_written_before(
    lab: Lab, over_tcp: bool
) -> None:
    for number in range(1, 100):
        lab.daemon.endpoint("web", f"127.0.1.{number}")
        assert await lab.addresses("web.blue.netd.internal", tcp=over_tcp) == [f"127.0.1.{number}"]
    lab.daemon.put("endpoint", "blue-web")
    answer = await lab.ask("web.blue.netd.internal", tcp=over_tcp)
    assert answer.rcode() == dns.rcode.NXDOMAIN
    lab.daemon.endpoint("web", "127.0.1.5")
    assert await lab.addresses("web.blue.netd.internal", tcp=over_tcp) == ["127.0.1.5"]


async def test_a_change_makes_only_its_own_answers_anew(lab: Lab) -> None:
    for number in range(1, 11):
        lab.daemon.endpoint(f"n{number}", f"127.0.1.{number}")
        await lab.addresses(f"n{number}.blue.netd.internal")
    packets = lab.service.packets
    assert len(packets) == 10
    lab.daemon.endpoint("n3", "127.0.1.33")
    assert await lab.addresses("n3.blue.netd.internal") == ["127.0.1.33"]
    assert packets.dropped == 1
    assert len(packets) == 10


async def test_the_question_comes_back_as_it_was_sent(lab: Lab) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    for _ in range(20):
        name = "".join(random.choice((c.lower(), c.upper())) for c in "web.blue.netd.internal")
        query = dns.message.make_query(name, "A").to_wire()
        reply = await lab.exchange(query)
        assert reply[:2] == query[:2]
        assert reply[12 : len(query)] == query[12:]
        assert reply.endswith(bytes((127, 0, 1, 5)))


async def test_every_instance_comes_first_as_often(lab: Lab) -> None:
    for number in range(4):
        lab.daemon.put("service", f"api-{number}", instance(number))
    firsts = collections.Counter(
        [(await lab.addresses("api.service.netd.internal"))[0] for _ in range(200)]
    )
    assert sorted(firsts.values()) == [50, 50, 50, 50]


async def test_by_tcp_they_come_in_any_order_too(lab: Lab) -> None:
    for number in range(4):
        weights = Weights(passing=min(number, 1))
        lab.daemon.put("service", f"api-{number}", instance(number, weights=weights))
    name = "_api._tcp.netd.internal"
    answers = [await lab.ask(name, "SRV", tcp=True) for _ in range(100)]
    firsts = {answer.answer[0][0].target.to_text() for answer in answers}
    assert len(firsts) == 3  # by chance fewer in one of 10^17 runs; weight 0 is never first


async def test_zones_are_not_transferred(lab: Lab) -> None:
    for kind in ("AXFR", "IXFR"):
        answer = await lab.ask("netd.internal", kind, tcp=True)
        assert (answer.rcode(), answer.answer) == (dns.rcode.REFUSED, [])


async def test_an_instance_comes_first_as_often_as_its_weight_says(lab: Lab) -> None:
    for number, weight in enumerate((6, 2, 0)):
        weights = Weights(passing=weight)
        lab.daemon.put("service", f"api-{number}", instance(number, weights=weights))
    firsts = collections.Counter(
        [(await lab.addresses("api.service.netd.internal"))[0] for _ in range(256)]
    )
    assert firsts == {"10.1.0.1": 192, "10.1.0.2": 64}


async def test_what_does_not_fit_is_asked_for_again_by_tcp(lab: Lab) -> None:
    for number in range(300):
        lab.daemon.put("service", f"api-{number}", instance(number))
    name = "api.service.netd.internal"
    short = await lab.ask(name)
    assert short.flags & dns.flags.TC
    assert len(short.to_wire()) <= 512
    longer = await lab.ask(name, use_edns=0, payload=4096)
    assert len(longer.to_wire()) <= 4096
    assert len(longer.answer[0]) > 200
    huge = await lab.ask(name, use_edns=0, payload=65_000)
    assert not huge.flags & dns.flags.TC
    assert len(huge.answer[0]) == 300
    for kind in ("A", "SRV"):
        whole = await lab.ask(name, kind, tcp=True)
        assert not whole.flags & dns.flags.TC
        assert len(whole.answer[0]) == 300


async def test_edns_is_answered_where_it_was_used(lab: Lab) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    plain = await lab.ask("web.blue.netd.internal")
    assert plain.edns == -1
    for _ in range(2):
        assert (await lab.ask("web.blue.netd.internal", use_edns=0)).edns == 0
    unknown = await lab.ask("web.blue.netd.internal", use_edns=7)
    assert unknown.rcode() == dns.rcode.BADVERS


async def test_queries_with_options_of_their_own_are_not_kept(lab: Lab) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    for number in range(20):
        cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, struct.pack("!Q", number))
        answer = await lab.ask("web.blue.netd.internal", use_edns=0, options=[cookie])
        assert len(answer.answer) == 1
    assert len(lab.service.packets) == 0


MALFORMED = [
    b"",
    b"\0" * 11,
    b"\0" * 12,
    struct.pack("!6H", 1, 0, 1, 0, 0, 0),
    struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\x3fweb",
    struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
    struct.pack("!6H", 1, 0, 9, 9, 9, 9) + b"\0\0\1\0\1",
    struct.pack("!6H", 1, 0x8000, 1, 0, 0, 0) + b"\0\0\1\0\1",
    struct.pack("!6H", 1, 0x7800, 1, 0, 0, 0) + b"\0\0\1\0\1",
    struct.pack("!6H", 1, 0, 1, 0, 0, 1) + b"\3web\0\0\1\0\1" + b"\0\0\x29\x10\0\0\0\0\0\xff\xff",
    struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\1a" * 200 + b"\0\0\1\0\1",
    b"\xff" * 4096,
    random.Random(7).randbytes(9000),
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
async def test_malformed_queries_hurt_nobody(lab: Lab, data: bytes) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(data, (HOST, lab.port))
    assert await lab.addresses("web.blue.netd.internal") == ["127.0.1.5"]
    reader, writer = await asyncio.open_connection(HOST, lab.port)
    writer.write(struct.pack("!H", len(data)) + data)
    writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        await reader.read()
    writer.close()
    await writer.wait_closed()
    assert await lab.addresses("web.blue.netd.internal", tcp=True) == ["127.0.1.5"]


async def test_random_bytes_hurt_nobody(lab: Lab) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    good = dns.message.make_query("web.blue.netd.internal", "A", use_edns=0).to_wire()
    dice = random.Random(1)
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        for number in range(3000):
            data = bytearray(good)
            for _ in range(dice.randint(1, 4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            sender.sendto(data[: dice.randint(0, 2 * len(data))], (HOST, lab.port))
            if number % 50 == 0:
                assert await lab.addresses("web.blue.netd.internal") == ["127.0.1.5"]


async def test_other_classes_are_refused(lab: Lab) -> None:
    answer = await lab.ask("version.bind", "TXT", rdclass="CH")
    assert answer.rcode() == dns.rcode.REFUSED


# While things change


async def test_changes_under_load_lose_no_query(lab: Lab) -> None:
    """100 changes and 1,000 queries a second, for two seconds."""
    for number in range(1, 101):
        lab.daemon.endpoint(f"n{number}", f"127.0.1.{number}")
    queries = [
        dns.message.make_query(f"n{number}.blue.netd.internal", "A").to_wire()
        for number in range(1, 101)
    ]
    loop = asyncio.get_running_loop()
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect((HOST, lab.port))
    began_s = loop.time()
    with sock:
        for number in range(2000):
            if number % 10 == 0:
                changed = number // 10 % 100 + 1
                lab.daemon.endpoint(f"n{changed}", f"127.0.2.{number // 10 % 250 + 1}")
                expected = bytes((127, 0, 2, number // 10 % 250 + 1))
                asked = queries[changed - 1]
            else:
                asked = random.choice(queries)
                expected = b""
            await loop.sock_sendall(sock, asked)
            async with asyncio.timeout(DEADLINE_S):
                reply = await loop.sock_recv(sock, 4096)
            assert reply.endswith(expected)
            assert reply[:2] == asked[:2]
            assert reply[7] == 1  # one answer
            await asyncio.sleep(max(0, began_s + number / 1000 - loop.time()))


async def test_answers_go_on_while_the_daemon_is_away(lab: Lab) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    assert await lab.addresses("web.blue.netd.internal") == ["127.0.1.5"]
    await lab.daemon.stop()
    assert await lab.addresses("web.blue.netd.internal") == ["127.0.1.5"]

    # The next daemon knows something else, but has not said all of it yet.
    lab.daemon.table.pop(("endpoint", "blue-web"))
    lab.daemon.holds_sync = True
    lab.daemon.endpoint("db", "127.0.1.6")
    await lab.daemon.start()
    async with asyncio.timeout(RETRY_MAX_S + DEADLINE_S):
        while not lab.daemon.readers:
            await asyncio.sleep(0.01)
    assert await lab.addresses("web.blue.netd.internal") == ["127.0.1.5"]
    assert await lab.addresses("db.blue.netd.internal") == []

    lab.daemon.reports.clear()
    lab.daemon.sync()
    await lab.daemon.until(lambda report: report.revision == lab.daemon.revision)
    assert await lab.addresses("web.blue.netd.internal") == []
    assert await lab.addresses("db.blue.netd.internal") == ["127.0.1.6"]


async def test_a_stream_that_breaks_off_before_it_is_complete_changes_nothing(lab: Lab) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    assert await lab.addresses("web.blue.netd.internal") == ["127.0.1.5"]
    await lab.daemon.stop()
    lab.daemon.holds_sync = True
    lab.daemon.table.clear()
    await lab.daemon.start()
    async with asyncio.timeout(RETRY_MAX_S + DEADLINE_S):
        while not lab.daemon.readers:
            await asyncio.sleep(0.01)
    await lab.daemon.stop()
    assert await lab.addresses("web.blue.netd.internal") == ["127.0.1.5"]


# Where it listens


async def test_sockets_come_and_go_with_networks_and_others_stay(lab: Lab) -> None:
    red = NetworkEntry(subnets=("127.0.2.0/24",), resolvers=("127.0.2.1",))
    added = lab.daemon.put("network", "red", red)
    report = await lab.daemon.until(lambda report: report.revision >= added.revision)
    places = {f"{address}:{lab.port}" for address in (HOST, GATEWAY, "127.0.2.1")}
    assert set(report.listening) == places
    lab.daemon.endpoint("db", "127.0.2.5", "red")
    assert await lab.addresses("db", at="127.0.2.1", source="127.0.2.5") == ["127.0.2.5"]

    # What has come before a socket goes is lost, but at this socket only.
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect((HOST, lab.port))
        gone = lab.daemon.put("network", "red", NetworkEntry(subnets=("127.0.2.0/24",)))
        sock.send(dns.message.make_query("db.red.netd.internal", "A").to_wire())
        report = await lab.daemon.until(lambda report: report.revision >= gone.revision)
        assert set(report.listening) == places - {f"127.0.2.1:{lab.port}"}
        assert sock.recv(4096).endswith(bytes((127, 0, 2, 5)))
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(type=kind) as sock:
            sock.bind(("127.0.2.1", lab.port))


async def test_a_place_that_others_have_is_told_and_taken_when_it_is_free(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "RETRY_S", 0.05)
    place = f"127.0.2.1:{lab.port}"
    with socket.socket() as other:
        other.bind(("127.0.2.1", lab.port))
        other.listen()
        lab.daemon.put("network", "red", NetworkEntry(resolvers=("127.0.2.1",)))
        report = await lab.daemon.until(lambda report: report.problems)
        assert report.problems == {place: "Address already in use"}
        assert place not in report.listening
    report = await lab.daemon.until(lambda report: not report.problems)
    assert place in report.listening


async def test_systemd_resolved_keeps_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "RETRY_S", 0.05)
    monkeypatch.setattr(listeners, "RESOLVED", tmp_path / "resolve")
    async with registry(tmp_path, host_address="127.0.0.54") as lab:
        assert f"127.0.0.54:{lab.port}" in lab.daemon.reports[-1].listening
        listeners.RESOLVED.mkdir()  # it is started
        place = f"{listeners.INSTEAD_OF_STUB}:{lab.port}"
        report = await lab.daemon.until(lambda report: place in report.listening)
        assert set(report.listening) == {place, f"{GATEWAY}:{lab.port}"}
        assert report.problems == {}


async def test_both_ports_of_each_address(tmp_path: Path) -> None:
    consul = free_port()
    async with registry(tmp_path, consul_port=consul) as lab:
        lab.daemon.put("service", "api-1", instance(1))
        report = await lab.daemon.until(lambda report: len(report.listening) == 4)
        assert f"{GATEWAY}:{consul}" in report.listening
        for port in (lab.port, consul):
            lab.port = port
            assert await lab.addresses("api.service.consul") == ["10.1.0.2"]


# Limits


async def test_who_asks_too_much_gets_no_answer_and_others_do(tmp_path: Path) -> None:
    async with registry(tmp_path, queries_per_s=50) as lab:
        lab.daemon.endpoint("web", "127.0.1.5")
        lab.daemon.endpoint("db", "127.0.1.6")
        query = dns.message.make_query("web", "A").to_wire()
        with socket.socket(type=socket.SOCK_DGRAM) as flooder:
            flooder.bind(("127.0.1.5", 0))
            for _ in range(300):
                flooder.sendto(query, (GATEWAY, lab.port))
            assert await lab.addresses("web", at=GATEWAY, source="127.0.1.6") == ["127.0.1.5"]
            flooder.setblocking(False)
            answered = 0
            while True:
                try:
                    flooder.recv(4096)
                except BlockingIOError:
                    break
                answered += 1
        assert 50 <= answered <= 110
        lab.daemon.reports.clear()
        lab.service.report_soon()
        report = await lab.daemon.until(lambda report: lab.count(report, "limited"))
        assert lab.count(report, "limited") == 300 - answered


async def test_what_is_counted(lab: Lab) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    for _ in range(3):
        await lab.ask("web.blue.netd.internal")
    await lab.ask("web.blue.netd.internal", "AAAA", tcp=True)
    await lab.ask("nobody.blue.netd.internal", "TYPE999")
    lab.daemon.reports.clear()
    lab.service.report_soon()
    report = await lab.daemon.until(lambda report: len(lab.answers(report)) == 3)
    assert lab.answers(report) == {
        ("udp", "NOERROR", "A", "zone"): 3,
        ("tcp", "NOERROR", "AAAA", "zone"): 1,
        ("udp", "NXDOMAIN", "other", "zone"): 1,
    }


# TCP


def framed(*names: str) -> bytes:
    wires = [dns.message.make_query(name, "A", id=at).to_wire() for at, name in enumerate(names)]
    return b"".join(struct.pack("!H", len(wire)) + wire for wire in wires)


async def read_one(reader: asyncio.StreamReader) -> dns.message.Message:
    async with asyncio.timeout(DEADLINE_S):
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return dns.message.from_wire(await reader.readexactly(length))


async def test_several_queries_on_one_connection(lab: Lab) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    reader, writer = await asyncio.open_connection(HOST, lab.port)
    data = framed(*["web.blue.netd.internal"] * 50)
    for at in range(0, len(data), 7):  # in pieces that end anywhere
        writer.write(data[at : at + 7])
        if at % 70 == 0:
            await asyncio.sleep(0)
    assert sorted([(await read_one(reader)).id for _ in range(50)]) == list(range(50))
    writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_connections_that_do_nothing_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "IDLE_S", 0.2)
    for data in (b"", b"\0", framed("web")[:-1]):
        reader, writer = await asyncio.open_connection(HOST, lab.port)
        writer.write(data)
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()


async def test_a_client_that_takes_no_answers_is_cut_off(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "IDLE_S", 0.3)
    for number in range(300):
        lab.daemon.put("service", f"api-{number}", instance(number))
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, (HOST, lab.port))
        queries = framed(*["api.service.netd.internal"] * 20)

        async def never_read() -> None:
            while True:
                await loop.sock_sendall(client, queries)

        async with asyncio.timeout(20):
            with pytest.raises(ConnectionError):
                await never_read()
    assert await lab.addresses("api.service.netd.internal", tcp=True)


async def test_one_client_has_so_many_connections_and_others_theirs(lab: Lab) -> None:
    lab.daemon.endpoint("web", "127.0.1.5")
    streams = []
    refused = 0
    for _ in range(70):
        streams.append(
            await asyncio.open_connection(GATEWAY, lab.port, local_addr=("127.0.1.5", 0))
        )
    for reader, writer in streams:
        try:
            writer.write(framed("web"))
            await read_one(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            refused += 1
    assert refused == 6
    assert await lab.addresses("web", at=GATEWAY, source="127.0.1.6", tcp=True) == ["127.0.1.5"]
    for _, writer in streams:
        writer.close()
    for _, writer in streams:
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    lab.daemon.reports.clear()
    lab.service.report_soon()
    report = await lab.daemon.until(lambda report: lab.value(report, "dns_tcp_connections") == 0)
    assert lab.value(report, "dns_tcp_refused_total") == 6
