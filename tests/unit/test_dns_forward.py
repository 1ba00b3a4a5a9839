"""Names of others, asked of real servers on loopback: dead, slow, lying and broken ones too."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from netd.model.directory import RegistrySettings
from netd.registry.dns import forward_admission, forward_ask, forward_race
from netd.registry.dns.forward import Forwarder
from netd.registry.dns.forward_admission import WAITING_EACH_MAX, WAITING_MAX
from netd.registry.dns.upstreams import Upstreams
from netd.registry.dns.wire import TCP_MAX_BYTES, Query
from tests.unit.dns_servers import (
    Answers,
    Asked,
    Behaviour,
    Server,
    question,
    reply,
    serving,
    truncated,
)


def silent(asked: Asked, tcp: bool) -> Answers:
    return []


def ten(asked: Asked, tcp: bool) -> Answers:
    return [reply(asked, "192.0.2.10")]


def twenty(asked: Asked, tcp: bool) -> Answers:
    return [reply(asked, "192.0.2.20")]


def failing(asked: Asked, tcp: bool) -> Answers:
    return [reply(asked, rcode=dns.rcode.SERVFAIL)]


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@asynccontextmanager
async def forwarding(*servers: Server | str) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(Upstreams(lambda host, port: False, "/dev/null", "/dev/null"))
    upstreams = tuple(each if isinstance(each, str) else each.address for each in servers)
    forwarder.configure(RegistrySettings(upstreams=upstreams))
    try:
        yield forwarder
    finally:
        await forwarder.close()


@asynccontextmanager
async def between(*behaviours: Behaviour) -> AsyncIterator[tuple[Forwarder, list[Server]]]:
    """A forwarder, and servers that it asks in this order."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(each)) for each in behaviours]
        yield await stack.enter_async_context(forwarding(*servers)), servers


async def answer(forwarder: Forwarder, query: Query, limit: int = TCP_MAX_BYTES) -> Asked:
    data = await forwarder.answer(query, limit)
    assert len(data) <= limit
    assert data[:2] == query.id.to_bytes(2, "big")
    assert data[12 : 12 + len(query.question)] == query.question
    return dns.message.from_wire(data, one_rr_per_rrset=True)


async def text(forwarder: Forwarder, name: str = "www.example") -> str:
    """The records of the answer, or its code."""
    found = await answer(forwarder, question(name))
    if found.rcode() != dns.rcode.NOERROR:
        return dns.rcode.to_text(found.rcode())
    return " ".join(item.to_text() for rrset in found.answer for item in rrset)


def counted(forwarder: Forwarder, name: str, **labels: str) -> float:
    return sum(
        count.value
        for count in forwarder.counts()
        if count.name == name and labels.items() <= count.labels.items()
    )


async def test_an_answer_is_passed_on_with_the_question_as_it_was_asked() -> None:
    async with serving(ten) as server, forwarding(server) as forwarder:
        query = question("WwW.eXample", use_edns=0, payload=1232)
        found = await answer(forwarder, query)
        assert found.answer[0].to_text() == "WwW.eXample. 60 IN A 192.0.2.10"
        assert found.flags & dns.flags.RA
        assert not found.flags & dns.flags.AA
        assert found.edns == 0
        assert server.asked[0].question[0].name.to_text() == "www.example."
        assert server.asked[0].flags & dns.flags.RD
        assert (await answer(forwarder, question("www.example"))).edns == -1


async def test_it_is_kept_and_asked_for_once() -> None:
    async with serving(ten) as server, forwarding(server) as forwarder:
        assert forwarder.cached(question("www.example"), 512) is None
        assert await text(forwarder) == "192.0.2.10"
        assert await text(forwarder, "WWW.EXAMPLE") == "192.0.2.10"
        assert forwarder.cached(question("www.example"), 512) is not None
        assert len(server.asked) == 1
        assert await text(forwarder, "other.example") == "192.0.2.10"
        assert len(server.asked) == 2
        assert counted(forwarder, "dns_cache_entries") == 2
        assert counted(forwarder, "dns_cache_total", result="miss") == 2


async def test_equal_questions_wait_for_one_answer() -> None:
    async with serving(ten) as server, forwarding(server) as forwarder:
        found = await asyncio.gather(*[text(forwarder) for _ in range(50)])
        assert found == ["192.0.2.10"] * 50
        assert len(server.asked) == 1


async def test_signatures_are_asked_for_by_those_who_want_them() -> None:
    async with serving(ten) as server, forwarding(server) as forwarder:
        await answer(forwarder, question("www.example"))
        await answer(forwarder, question("www.example", want_dnssec=True))
        assert [bool(each.ednsflags & dns.flags.DO) for each in server.asked] == [False, True]


async def test_options_of_clients_stay_here() -> None:
    async with serving(ten) as server, forwarding(server) as forwarder:
        subnet = dns.edns.ECSOption("203.0.113.0", 24)
        await answer(forwarder, question("www.example", use_edns=0, options=[subnet]))
        assert server.asked[0].options == ()


async def test_ports_and_ids_are_new_each_time() -> None:
    async with serving(ten) as server, forwarding(server) as forwarder:
        for number in range(60):
            await text(forwarder, f"{number}.example")
        assert len({asked.id for asked in server.asked}) > 55
        assert len(set(server.ports)) > 50
        steps = {b - a for a, b in zip(server.ports, server.ports[1:], strict=False)}
        assert len(steps) > 40  # not one after the other


async def test_a_dead_first_server_costs_little_and_is_asked_last_then() -> None:
    async with serving(silent) as dead, serving(ten) as alive, forwarding(dead, alive) as forwarder:
        begun_s = time.monotonic()
        assert await text(forwarder) == "192.0.2.10"
        assert time.monotonic() - begun_s < 1.2
        assert len(dead.asked) == 1
        begun_s = time.monotonic()
        assert await text(forwarder, "other.example") == "192.0.2.10"
        assert time.monotonic() - begun_s < forward_race.NEXT_S
        assert len(dead.asked) == 1
        assert counted(forwarder, "dns_forwarded_total", result="silent") == 1
        assert counted(forwarder, "dns_forwarded_total", result="answer") == 2


async def test_a_server_that_is_not_there_costs_nothing() -> None:
    async with serving(ten) as gone:
        nobody = gone.address
    async with serving(twenty) as alive, forwarding(nobody, alive) as forwarder:
        begun_s = time.monotonic()
        assert await text(forwarder) == "192.0.2.20"
        assert time.monotonic() - begun_s < forward_race.NEXT_S
        assert counted(forwarder, "dns_forwarded_total", result="unreachable") == 1


async def test_a_server_that_comes_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_race, "SLOW_S", 0.3)
    async with between(silent, twenty) as (forwarder, [first, _]):
        assert await text(forwarder) == "192.0.2.20"
        first.behave = ten
        async with asyncio.timeout(5):
            number = 0
            while await text(forwarder, f"{number}.example") != "192.0.2.10":
                number += 1
                await asyncio.sleep(0.05)


async def test_a_late_answer_still_counts() -> None:
    async with between(silent, silent) as (forwarder, [slow, dead]):
        waiting = asyncio.create_task(text(forwarder))
        async with asyncio.timeout(5):
            while not dead.asked:
                await asyncio.sleep(0.01)
        slow.send(reply(slow.asked[0], "192.0.2.10"), slow.ports[0])
        assert await waiting == "192.0.2.10"


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_race, "TOTAL_S", 0.6)
    monkeypatch.setattr(forward_race, "AGAIN_S", (0.1, 0.1))
    async with between(silent, silent) as (forwarder, [first, second]):
        begun_s = time.monotonic()
        assert await text(forwarder) == "SERVFAIL"
        assert 0.5 < time.monotonic() - begun_s < 1.5
        assert len(first.asked) + len(second.asked) >= 3  # asked again
        assert await text(forwarder) == "SERVFAIL"
        assert time.monotonic() - begun_s < 1.5  # for a second nobody is asked


async def test_there_is_nobody_to_ask() -> None:
    async with forwarding() as forwarder:
        assert await text(forwarder) == "SERVFAIL"


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTIMP", "FORMERR", "BADVERS"])
async def test_another_server_may_know(rcode: str) -> None:
    def fail(asked: Asked, tcp: bool) -> Answers:
        if asked.edns < 0:
            asked.use_edns(0)
        return [reply(asked, rcode=dns.rcode.from_text(rcode))]

    async with between(fail, ten) as (forwarder, _):
        begun_s = time.monotonic()
        assert await text(forwarder) == "192.0.2.10"
        assert time.monotonic() - begun_s < forward_race.NEXT_S


async def test_all_servers_fail() -> None:
    async with between(failing, failing) as (forwarder, [first, second]):
        assert await text(forwarder) == "SERVFAIL"
        assert await text(forwarder) == "SERVFAIL"
        assert len(first.asked) == 1
        assert len(second.asked) == 1


async def test_a_server_without_edns_is_asked_without() -> None:
    def old(asked: Asked, tcp: bool) -> Answers:
        if asked.edns >= 0:
            return [asked.id.to_bytes(2, "big") + b"\x80\x01" + bytes(8)]
        return [reply(asked, "192.0.2.10")]

    async with serving(old) as server, forwarding(server) as forwarder:
        assert await text(forwarder) == "192.0.2.10"
        assert [asked.edns for asked in server.asked] == [0, -1]


async def test_answers_to_something_else_are_ignored() -> None:
    def guess(asked: Asked, tcp: bool) -> Answers:
        right = reply(asked, "192.0.2.10").to_wire()
        wrong = reply(asked, "203.0.113.66").to_wire()
        other_id = bytes([wrong[0] ^ 1]) + wrong[1:]
        other_name = wrong.replace(b"\x03www", b"\x03wwx")
        other_type = wrong.replace(b"\x07example\0\0\x01", b"\x07example\0\0\x1c")
        no_response = wrong[:2] + bytes([wrong[2] & 0x7F]) + wrong[3:]
        return [other_id, other_name, other_type, no_response, wrong[:11], b"", right]

    async with serving(guess) as server, forwarding(server) as forwarder:
        assert await text(forwarder) == "192.0.2.10"
        assert counted(forwarder, "dns_forward_ignored_total") == 6


async def test_an_answer_from_elsewhere_does_not_arrive() -> None:
    async with serving(silent) as server, serving(silent) as liar, forwarding(server) as forwarder:
        waiting = asyncio.create_task(text(forwarder))
        async with asyncio.timeout(5):
            while not server.ports:
                await asyncio.sleep(0.01)
        liar.send(reply(server.asked[0], "203.0.113.66"), server.ports[0])
        await asyncio.sleep(0.05)
        assert not waiting.done()
        server.send(reply(server.asked[0], "192.0.2.10"), server.ports[0])
        assert await waiting == "192.0.2.10"
        assert counted(forwarder, "dns_forward_ignored_total") == 0


async def test_who_floods_with_guesses_is_left_for_another() -> None:
    def flood(asked: Asked, tcp: bool) -> Answers:
        wrong = reply(asked, "203.0.113.66").to_wire()
        return [bytes([wrong[0] ^ 1]) + wrong[1:]] * (forward_ask.IGNORED_MAX + 5)

    async with between(flood, ten) as (forwarder, _):
        assert await text(forwarder) == "192.0.2.10"
        assert counted(forwarder, "dns_forwarded_total", result="flooded") == 1


async def test_what_is_malformed_is_not_passed_on() -> None:
    def broken(asked: Asked, tcp: bool) -> Answers:
        return [reply(asked, "203.0.113.66").to_wire()[:-1]]

    async with between(broken, ten) as (forwarder, _):
        assert await text(forwarder) == "192.0.2.10"
        assert counted(forwarder, "dns_forwarded_total", result="malformed") == 1


async def test_what_is_too_long_is_asked_for_by_tcp() -> None:
    many = [f"192.0.2.{number}" for number in range(200)]

    def long(asked: Asked, tcp: bool) -> Answers:
        return [reply(asked, *many) if tcp else truncated(asked)]

    async with serving(long) as server, forwarding(server) as forwarder:
        found = await answer(forwarder, question("www.example"))
        assert len(found.answer) == 200
        assert not found.flags & dns.flags.TC
        assert len(server.asked) == 2
        short = await answer(forwarder, question("www.example"), 512)
        assert short.flags & dns.flags.TC
        assert len(short.answer) > 20
        assert len(server.asked) == 2


async def test_without_tcp_what_there_is_is_passed_on() -> None:
    async def ask(server: Server) -> None:
        async with forwarding(server) as forwarder:
            found = await answer(forwarder, question("www.example"))
            assert found.flags & dns.flags.TC
            assert found.rcode() == dns.rcode.NOERROR
            assert forwarder.cached(question("www.example"), 512) is None

    async with serving(lambda asked, tcp: [truncated(asked)], tcp=False) as server:
        await ask(server)
    async with serving(lambda asked, tcp: [] if tcp else [truncated(asked)]) as server:
        await ask(server)
    async with serving(lambda asked, tcp: [truncated(asked)]) as server:
        await ask(server)


async def test_tcp_that_hangs_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_ask, "TCP_S", 0.2)
    hanging = asyncio.Event()

    async with serving(lambda asked, tcp: [truncated(asked)], tcp=False) as server:
        host, _, port = server.address.partition(":")

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hanging.wait()
            writer.close()

        stream = await asyncio.start_server(hang, host, int(port))
        async with forwarding(server) as forwarder:
            begun_s = time.monotonic()
            found = await answer(forwarder, question("www.example"))
            assert found.flags & dns.flags.TC
            assert time.monotonic() - begun_s < 1.5
        hanging.set()
        stream.close()
        await stream.wait_closed()


async def test_a_name_that_there_is_not_is_kept_too() -> None:
    def none(asked: Asked, tcp: bool) -> Answers:
        return [reply(asked, rcode=dns.rcode.NXDOMAIN, minimum_s=30)]

    async with serving(none) as server, forwarding(server) as forwarder:
        found = await answer(forwarder, question("no.example"))
        assert found.rcode() == dns.rcode.NXDOMAIN
        assert found.authority[0].to_text().startswith("example. 30 IN SOA")
        assert await text(forwarder, "no.example") == "NXDOMAIN"
        assert len(server.asked) == 1


async def test_a_name_without_that_type_is_kept_too() -> None:
    async with between(lambda asked, tcp: [reply(asked, minimum_s=30)]) as (forwarder, [server]):
        assert await text(forwarder) == ""
        assert await text(forwarder) == ""
        assert len(server.asked) == 1


@pytest.mark.parametrize("rcode", [dns.rcode.NXDOMAIN, dns.rcode.NOERROR])
async def test_nothing_is_kept_that_says_not_how_long(rcode: dns.rcode.Rcode) -> None:
    async with between(lambda asked, tcp: [reply(asked, rcode=rcode)]) as (forwarder, [server]):
        await text(forwarder)
        await text(forwarder)
        assert len(server.asked) == 2
    async with between(lambda asked, tcp: [reply(asked, "192.0.2.1", ttl_s=0)]) as (
        forwarder,
        [server],
    ):
        await text(forwarder)
        await text(forwarder)
        assert len(server.asked) == 2


async def test_other_servers_may_say_something_else(tmp_path: Path) -> None:
    async with serving(ten) as first, serving(twenty) as second, forwarding(first) as forwarder:
        assert await text(forwarder) == "192.0.2.10"
        forwarder.configure(RegistrySettings(upstreams=(second.address,)))
        assert await text(forwarder) == "192.0.2.20"


async def test_an_answer_of_servers_that_were_is_not_kept() -> None:
    async with serving(silent) as first, serving(twenty) as second, forwarding(first) as forwarder:
        waiting = asyncio.create_task(text(forwarder))
        async with asyncio.timeout(5):
            while not first.ports:
                await asyncio.sleep(0.01)
        forwarder.configure(RegistrySettings(upstreams=(second.address,)))
        assert await text(forwarder, "other.example") == "192.0.2.20"
        first.send(reply(first.asked[0], "192.0.2.10"), first.ports[0])
        assert await waiting == "192.0.2.10"
        assert await text(forwarder) == "192.0.2.20"


async def test_those_that_come_meanwhile_are_asked_too() -> None:
    async with between(silent) as (forwarder, [gone]), serving(twenty) as server:
        waiting = asyncio.create_task(text(forwarder))
        async with asyncio.timeout(5):
            while not gone.asked:
                await asyncio.sleep(0.01)
        forwarder.configure(RegistrySettings(upstreams=(server.address,)))
        begun_s = time.monotonic()
        assert await waiting == "192.0.2.20"
        assert time.monotonic() - begun_s < 1.5


@pytest.mark.parametrize(("kind", "klass"), [("AXFR", "IN"), ("IXFR", "IN"), ("TXT", "CH")])
async def test_what_is_not_for_others_is_refused(kind: str, klass: str) -> None:
    async with serving(ten) as server, forwarding(server) as forwarder:
        found = await answer(forwarder, question("version.bind", kind, rdclass=klass))
        assert found.rcode() == dns.rcode.REFUSED
        assert not server.asked


async def test_a_flood_of_questions_has_a_bound() -> None:
    before = _descriptors()
    async with serving(silent) as server, forwarding(server) as forwarder:
        tasks = [
            asyncio.create_task(
                forwarder.answer(question(f"{number}.example"), 512, f"10.0.0.{number % 8}")
            )
            for number in range(WAITING_MAX + 500)
        ]
        done, waiting = await asyncio.wait(tasks, timeout=3.0)
        assert counted(forwarder, "dns_forward_waiting") == len(waiting)
        assert len(waiting) <= WAITING_MAX
        assert len(done) >= 500
        assert {dns.message.from_wire(task.result()).rcode() for task in done} == {
            dns.rcode.SERVFAIL
        }
        assert counted(forwarder, "dns_forward_overload_total") >= 500
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert counted(forwarder, "dns_forward_waiting") == 0
    assert _descriptors() <= before


async def test_a_client_that_floods_leaves_room_for_others() -> None:
    async with serving(silent) as server, forwarding(server) as forwarder:
        tasks = [
            asyncio.create_task(forwarder.answer(question(f"{n}.example"), 512, "10.0.0.1"))
            for n in range(WAITING_EACH_MAX + 100)
        ]
        await asyncio.wait(tasks, timeout=0.1)
        assert counted(forwarder, "dns_forward_waiting") == WAITING_EACH_MAX
        server.behave = ten
        data = await forwarder.answer(question("www.example"), 512, "10.0.0.2")
        assert dns.message.from_wire(data).rcode() == dns.rcode.NOERROR


async def test_a_client_that_asks_without_end_takes_no_more_than_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forward_admission, "RATE_EACH", 10)
    async with between(ten) as (forwarder, [server]):
        begun_s = time.monotonic()
        names = [f"{number}.example" for number in range(200)]
        await asyncio.gather(*[forwarder.answer(question(n), 512, "10.0.0.1") for n in names])
        most = 10 * (1 + time.monotonic() - begun_s)
        assert 10 <= len(server.asked) <= most
        assert counted(forwarder, "dns_forward_overload_total") == 200 - len(server.asked)
        data = await forwarder.answer(question("www.example"), 512, "10.0.0.2")
        assert dns.message.from_wire(data).rcode() == dns.rcode.NOERROR
        data = await forwarder.answer(question("0.example"), 512, "10.0.0.1")
        assert dns.message.from_wire(data).rcode() == dns.rcode.NOERROR  # it is known


async def test_one_that_asks_us_what_we_ask_it_gets_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forward_race, "TOTAL_S", 0.5)
    async with serving(silent) as mirror, forwarding(mirror) as forwarder:
        asking: list[asyncio.Task[str]] = []

        def ask_back(asked: Asked, tcp: bool) -> Answers:
            name = asked.question[0].name.to_text(omit_final_dot=True)
            asking.append(asyncio.create_task(text(forwarder, name)))
            return []

        mirror.behave = ask_back
        assert await text(forwarder) == "SERVFAIL"
        assert len(asking) < 4
        assert set(await asyncio.gather(*asking)) == {"SERVFAIL"}
