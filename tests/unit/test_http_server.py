"""The server that other registries' APIs share: limits, targets, routes, who asks."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from netd.model.directory import EndpointEntry, Entry, NetworkEntry, NodeEntry, ZoneEntry
from netd.naming.directory import Directory
from netd.naming.values import Scope
from netd.registry.dns.limits import Bucket
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import PROGRESS_MIN, Call, Failure, Target
from netd.registry.http.caller import Caller, Callers
from netd.registry.http.metering import SHARE, Metered
from netd.registry.http.routing import Route, Routes
from netd.registry.http.server import HttpServer

DEADLINE_S = 5.0
MANY = 20_000
HUGE = 16 * 1024 * 1024
BUSY_S = 0.05


async def echo(call: Call) -> web.StreamResponse:
    body = await call.body(100)
    found = {"rest": call.rest, "body": body.decode("latin-1"), "own": call.caller.own}
    return respond(json_body(found), {}, gzip_ok=call.takes_gzip)


async def wait(call: Call) -> web.StreamResponse:
    waiting.append(call)
    try:
        await asyncio.Event().wait()
    finally:
        waiting.remove(call)
    raise AssertionError


async def renew(call: Call) -> web.StreamResponse:
    waiting.append(call)
    await released.pop().wait()
    call.renew()
    networks = call.caller.scope.networks
    found = {"own": call.caller.own, "networks": None if networks is None else sorted(networks)}
    return respond(json_body(found), {})


async def fail(call: Call) -> web.StreamResponse:
    raise KeyError("secret")


async def be_busy(call: Call) -> web.StreamResponse:
    began_s = time.thread_time()
    while time.thread_time() - began_s < BUSY_S:
        pass
    return web.Response()


async def be_huge(call: Call) -> web.StreamResponse:
    return web.Response(body=b"x" * HUGE)


waiting: list[Call] = []
released: list[asyncio.Event] = []
ROUTES = [
    Route("/echo", {"GET": echo, "PUT": echo}),
    Route("/below/", {"PUT": echo}),
    Route("/below/this/", {"PUT": echo}, bare=True),
    Route("/below/one", {"PUT": echo}),
    Route("/wait", {"GET": wait}),
    Route("/renew", {"GET": renew}),
    Route("/fail", {"GET": fail}),
    Route("/busy", {"GET": be_busy}),
    Route("/huge", {"GET": be_huge}),
]


class Client:
    """Bytes there and back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(raw)
        async with asyncio.timeout(DEADLINE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            body = await self.reader.readexactly(int(fields["content-length"]))
        return int(first.split()[1]), fields, body

    async def get(self, target: str, *fields: str) -> tuple[int, dict[str, str], bytes]:
        lines = "".join(f"{field}\r\n" for field in fields)
        return await self.ask(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())

    async def ended(self) -> bool:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read() == b""


class Server:
    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port
        self.writers: list[asyncio.StreamWriter] = []

    async def client(self, source: str = "127.0.0.1") -> Client:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(source, 0)
        )
        self.writers.append(writer)
        return Client(reader, writer)


@asynccontextmanager
async def serving(
    scope_of: Callable[[str | None], Scope] = lambda _: Scope(None),
    party_of: Callable[[str], str] = lambda source: source,
    **limits: Any,
) -> AsyncIterator[Server]:
    callers = Callers(scope_of, party_of)
    server = HttpServer("test", Routes(ROUTES), callers, drain=lambda: None, **limits)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(server.factory, "127.0.0.1", 0)
    running = Server(server, listening.sockets[0].getsockname()[1])
    try:
        yield running
    finally:
        listening.close()
        for writer in running.writers:
            writer.close()
        await server.close()


async def test_one_connection_carries_many_calls() -> None:
    async with serving() as server:
        client = await server.client()
        for _ in range(3):
            status, fields, _ = await client.get("/echo?a=1")
            assert (status, fields["content-type"]) == (200, "application/json")
        status, _, body = await client.get("http://somewhere/echo")
        assert (status, b'"rest":""' in body) == (200, True)
        counts = {count.name: count.value for count in server.server.counts()}
        assert counts["http_answers_total"] == 4
        assert counts["http_connections"] == 1


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/nothing", 404),
        ("/below", 404),
        ("/below/", 404),
        ("/echo/more", 404),
        ("/below/x", 405),
        ("/%ff%00", 400),
        ("/echo?" + "&".join("a=1" for _ in range(300)), 400),
        ("/" + "/" * 8000, 404),
    ],
)
async def test_targets_that_lead_nowhere(target: str, status: int) -> None:
    async with serving() as server:
        client = await server.client()
        found, fields, _ = await client.get(target)
        assert found == status
        assert fields["content-type"] == "text/plain; charset=utf-8"
        assert (await client.get("/echo"))[0] == 200


def test_the_longest_route_has_a_path() -> None:
    routes = Routes(ROUTES)

    def rest(path: str) -> tuple[str, str] | None:
        found = routes.find(path)
        return None if found is None else (found[0].path, found[1])

    assert rest("/below/a/b") == ("/below/", "a/b")
    assert rest("/below/a/") == ("/below/", "a/")
    assert rest("/below/one") == ("/below/one", "")
    assert rest("/below/this/") == ("/below/this/", "")
    assert rest("/below/this/a") == ("/below/this/", "a")
    assert rest("/below/this") == ("/below/", "this")
    assert rest("/") is None
    with pytest.raises(ValueError, match="two routes"):
        Routes([*ROUTES, ROUTES[0]])


async def test_a_body_has_its_limit() -> None:
    async with serving() as server:
        client = await server.client()
        head = "PUT /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        status, _, body = await client.ask(f"{head}100\r\n\r\n".encode() + b"x" * 100)
        assert (status, body.count(b"x")) == (200, 100)
        status, _, body = await client.ask(f"{head}101\r\n\r\n".encode() + b"x" * 101)
        assert (status, b"too large" in body) == (413, True)
        chunked = b"PUT /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client = await server.client()
        status, _, _ = await client.ask(chunked + b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n")
        assert status == 413


async def test_a_body_that_waits_to_be_asked_for_is() -> None:
    async with serving() as server:
        client = await server.client()
        head = "PUT /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: "
        client.writer.write(f"{head}3\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE_S):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        status, fields, body = await client.ask(b"abc")
        assert (status, b"abc" in body, fields["server"]) == (200, True, "netd")
        status, _, _ = await client.ask(f"{head}101\r\n\r\n".encode())
        assert status == 413  # without having been asked for


async def test_what_is_not_http_is_refused() -> None:
    async with serving() as server:
        for raw in (
            b"\0\1\2\r\n\r\n",
            b"GET /echo HTTP/9\r\n\r\n",
            b"GET / HTTP/1.1\r\na b: c\r\n\r\n",
        ):
            client = await server.client()
            status, _, _ = await client.ask(raw)
            assert status == 400
            assert await client.ended()


async def test_what_fails_here_is_not_told() -> None:
    async with serving() as server:
        status, _, body = await (await server.client()).get("/fail")
        assert status == 500
        assert b"secret" not in body


async def test_who_leaves_ends_the_call() -> None:
    async with serving() as server:
        client = await server.client()
        client.writer.write(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(DEADLINE_S):
            while not waiting:
                await asyncio.sleep(0.001)
            client.writer.transport.abort()
            while waiting:
                await asyncio.sleep(0.001)


async def test_connections_are_bounded_in_all_and_of_each_guest() -> None:
    def scope_of(source: str | None) -> Scope:
        return Scope(None) if source == "127.0.0.1" else guests

    guests = Scope(frozenset(("blue",)))
    async with serving(scope_of, most=4, most_each=2) as server:
        inside = [await server.client("127.0.0.9") for _ in range(2)]
        for client in inside:
            assert (await client.get("/echo"))[0] == 200
        refused = await server.client("127.0.0.9")
        status, _, body = await refused.ask(b"")
        assert (status, body) == (429, b"Too many connections")
        assert await refused.ended()
        host = [await server.client() for _ in range(2)]
        for client in host:
            assert (await client.get("/echo"))[0] == 200
        assert (await (await server.client()).ask(b""))[0] == 429
        host[0].writer.close()
        async with asyncio.timeout(DEADLINE_S):
            while server.server.connections.open == 4:
                await asyncio.sleep(0.001)
        assert (await (await server.client()).get("/echo"))[0] == 200
        assert server.server.refused == 2


async def test_a_guest_that_asks_too_often_is_told_so_and_others_are_not() -> None:
    def scope_of(source: str | None) -> Scope:
        return Scope(None) if source == "127.0.0.1" else guests

    guests = Scope(frozenset(("blue",)))
    async with serving(scope_of, calls_per_s=5.0) as server:
        flood = await server.client("127.0.0.9")
        statuses = [(await flood.get("/echo"))[0] for _ in range(20)]
        assert statuses[:5] == [200] * 5
        assert 429 in statuses[5:]
        for source in ("127.0.0.1", "127.0.0.8"):
            assert (await (await server.client(source)).get("/echo"))[0] == 200


async def test_those_of_one_party_share_its_calls_and_connections() -> None:
    def scope_of(source: str | None) -> Scope:
        return Scope(None) if source == "127.0.0.1" else Scope(frozenset())

    def party_of(source: str) -> str:
        return source if source in ("127.0.0.1", "127.0.0.9") else "others"

    async with serving(scope_of, party_of, calls_per_s=5.0, most_each=2) as server:
        two = [await server.client(source) for source in ("127.0.0.7", "127.0.0.8")]
        statuses = [(await each.get("/echo"))[0] for _ in range(10) for each in two]
        assert statuses[:5] == [200] * 5
        assert 429 in statuses[5:]
        third = await server.client("127.0.0.6")
        assert (await third.ask(b""))[0] == 429  # two of them are connected already
        for source in ("127.0.0.1", "127.0.0.9"):
            assert (await (await server.client(source)).get("/echo"))[0] == 200


async def test_the_time_that_a_guest_takes_counts_and_that_it_waits_does_not() -> None:
    bucket = Bucket(100.0, 0.0)
    now_s = 0.0

    async def work() -> str:
        nonlocal now_s
        now_s += 0.0025  # what one call is worth
        await asyncio.sleep(0)
        now_s += 0.5
        return "done"

    def clock() -> float:
        return now_s

    async def wait_long() -> None:
        nonlocal now_s
        task = asyncio.ensure_future(asyncio.sleep(0))
        task.add_done_callback(later)
        await task

    def later(_: Any) -> None:
        nonlocal now_s
        now_s += 60.0

    assert await Metered(work(), bucket, clock) == "done"
    assert bucket.tokens == pytest.approx(100 - (0.5 * 100 / SHARE - 1))
    left = bucket.tokens
    await Metered(wait_long(), bucket, clock)
    assert bucket.tokens == left
    with pytest.raises(KeyError):
        await Metered(fail(None), bucket, clock)  # type: ignore[arg-type]


async def test_who_is_cancelled_ends_what_is_metered() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def run() -> None:
        await Metered(work(), Bucket(1.0, 0.0))

    task = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_a_guest_whose_calls_take_long_is_told_so_and_the_host_is_not() -> None:
    def scope_of(source: str | None) -> Scope:
        return Scope(None) if source == "127.0.0.1" else Scope(frozenset(("blue",)))

    async with serving(scope_of, calls_per_s=1000.0) as server:
        guest = await server.client("127.0.0.9")
        host = await server.client()
        for client in (host, guest):
            assert (await client.get("/busy"))[0] == 200
        (bucket,) = server.server._buckets.values()
        assert bucket.tokens <= 1000 - BUSY_S * 1000 / SHARE
        bucket.tokens = -1e6
        assert (await guest.get("/echo"))[0] == 429
        assert (await host.get("/echo"))[0] == 200
        assert (await (await server.client("127.0.0.8")).get("/echo"))[0] == 200


async def test_who_has_used_too_much_meanwhile_is_told_after_a_wait() -> None:
    loop = asyncio.get_running_loop()
    bucket = Bucket(10.0, loop.time())
    caller = Caller("10.0.0.1", Scope(frozenset()), ())
    call = Call(None, Target("/"), caller, bucket=bucket)  # type: ignore[arg-type]
    call.renew()
    bucket.tokens = -100
    with pytest.raises(Failure) as caught:
        call.renew()
    assert caught.value.status == 429


# Who does not go on


async def test_a_body_that_does_not_go_on_is_given_up() -> None:
    async with serving(stall_s=0.2) as server:
        client = await server.client()
        head = b"PUT /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\n"
        status, fields, _ = await client.ask(head + b"x" * 10)
        assert (status, fields["connection"]) == (408, "close")
        status, _, _ = await (await server.client()).ask(head + b"x" * 90)
        assert status == 200


async def test_who_does_not_ask_is_given_up_and_who_asks_again_later_is_not() -> None:
    async with serving(stall_s=0.2) as server:
        silent, slow, client = [await server.client() for _ in range(3)]
        slow.writer.write(b"GET /echo HTTP/1.1\r\nHost: ")
        assert (await client.get("/echo"))[0] == 200
        for each in (silent, slow):
            with suppress(ConnectionResetError):
                assert await each.ended()
        assert server.server.stalled == 2
        assert (await client.get("/echo"))[0] == 200


async def test_a_body_that_comes_by_bytes_is_given_up_and_a_slow_one_is_not() -> None:
    class Content:
        def __init__(self, size: int) -> None:
            self.size = size

        async def iter_any(self) -> AsyncIterator[bytes]:
            for _ in range(8):
                await asyncio.sleep(0.1)
                yield b"x" * self.size

    class Request:
        content_length = None
        headers: dict[str, str] = {}  # noqa: RUF012

        def __init__(self, size: int) -> None:
            self.content = Content(size)

    def call(size: int) -> Call:
        caller = Caller("10.0.0.1", Scope(None), None)
        request: Any = Request(size)
        return Call(request, Target("/"), caller, stall_s=0.5)

    assert len(await call(PROGRESS_MIN).body()) == 8 * PROGRESS_MIN
    with pytest.raises(Failure) as caught:
        await call(1).body()
    assert caught.value.status == 408


async def test_an_answer_that_nobody_reads_is_given_up() -> None:
    async with serving(stall_s=0.2) as server:
        client = await server.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(b"GET /huge HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(DEADLINE_S):
            while server.server.stalled == 0 or server.server.connections.open:
                await asyncio.sleep(0.005)
        counts = {count.name: count.value for count in server.server.counts()}
        assert counts["http_stalled_total"] == 1


async def test_a_long_answer_that_is_read_comes_whole() -> None:
    async with serving(stall_s=5.0) as server:
        client = await server.client()
        _, _, body = await client.get("/huge")
        assert len(body) == HUGE
        assert (await client.get("/echo"))[0] == 200
        assert server.server.stalled == 0


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("identity", False)],
)
async def test_long_answers_are_packed_for_those_who_take_it(accepted: str, packed: bool) -> None:
    async with serving() as server:
        client = await server.client()
        long = "/below/" + "a" * 2000
        head = f"PUT {long} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {accepted}\r\n\r\n"
        _, fields, body = await client.ask(head.encode())
        assert (fields.get("content-encoding") == "gzip") is packed
        assert (len(body) < 2000) is packed
        _, fields, _ = await client.get("/echo", f"Accept-Encoding: {accepted}")
        assert "content-encoding" not in fields  # short


@given(st.text(max_size=40).map(lambda text: "/" + text))
def test_any_text_is_a_target_or_refused(raw: str) -> None:
    try:
        target = Target(raw)
    except Failure as failure:
        assert failure.status == 400  # noqa: PT017
    else:
        assert target.path.startswith("/")


# Who asks


class Network:
    """Callers as the feed makes them."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.callers = Callers(self.directory.scope_of)
        zone = ZoneEntry(zone="netd.internal", node="host-1", node_id="1" * 16)
        self.tell(Entry(revision=1, kind="zone", zone=zone))
        blue = NetworkEntry(subnets=("10.1.0.0/24", "fd00::/64"), resolvers=("10.1.0.1",))
        self.tell(Entry(revision=1, kind="network", id="blue", network=blue))

    def tell(self, entry: Entry) -> None:
        self.directory.apply(entry)
        self.callers.change(None, entry)

    def endpoint(self, ident: str, *addresses: str, **more: Any) -> None:
        given: dict[str, Any] = {
            "network": "blue",
            "container_id": "c",
            "name": ident,
            "node": "host-1",
            **more,
        }
        endpoint = EndpointEntry(addresses=addresses, **given)
        self.tell(Entry(revision=1, kind="endpoint", id=ident, endpoint=endpoint))


def test_the_host_speaks_for_all() -> None:
    network = Network()
    for source in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.0.1"):
        caller = network.callers.of(source)
        assert caller.is_host
        assert caller.speaks_for("192.0.2.1")


def test_a_container_speaks_for_all_of_its_addresses() -> None:
    network = Network()
    network.endpoint("e1", "10.1.0.5", "fd00::5")
    network.endpoint("e2", "10.9.0.5", network="red")
    network.endpoint("e3", "10.1.0.6", container_id="other")
    caller = network.callers.of("10.1.0.5")
    assert caller.own == ("10.1.0.5", "fd00::5", "10.9.0.5")
    assert caller.speaks_for("fd00:0::0:5")
    assert not caller.speaks_for("10.1.0.6")
    assert not caller.speaks_for("not an address")
    assert caller.scope.networks == frozenset(("blue", "red"))


def test_the_endpoint_of_an_address() -> None:
    network = Network()
    callers = network.callers
    node = NodeEntry(node_id="1" * 16, addresses=("192.0.2.1",))
    network.tell(Entry(revision=1, kind="node", id="host-1", node=node))
    network.endpoint("one", "10.1.0.2")
    network.endpoint("six", "fd00::2", network="red")
    network.endpoint("afar", "10.1.0.3", node="host-2")
    network.endpoint("of-host", "192.0.2.1", network="host")
    network.endpoint("twin-1", "10.1.0.4")
    network.endpoint("twin-2", "10.1.0.4")
    assert callers.endpoint_at("10.1.0.2") == "one"
    assert callers.endpoint_at("::ffff:10.1.0.2") == "one"
    assert callers.endpoint_at("FD00::0:2") == "six"
    for address in ("10.1.0.3", "192.0.2.1", "10.1.0.4", "10.1.0.9", "nowhere"):
        assert callers.endpoint_at(address) == ""
    network.tell(Entry(revision=2, kind="endpoint", id="twin-1"))
    assert callers.endpoint_at("10.1.0.4") == "twin-2"
    network.endpoint("one", "10.1.0.5")
    assert (callers.endpoint_at("10.1.0.2"), callers.endpoint_at("10.1.0.5")) == ("", "one")
    network.tell(Entry(revision=2, kind="node", id="host-1"))
    assert callers.endpoint_at("192.0.2.1") == "of-host"
    assert [callers.network_of(each) for each in ("one", "six", "afar")] == ["blue", "red", ""]


def test_who_is_not_known_or_of_another_host_speaks_for_nothing() -> None:
    network = Network()
    network.endpoint("e1", "10.1.0.5", node="host-2")
    for source in ("10.1.0.5", "10.1.0.77", "192.0.2.1", "nonsense"):
        assert network.callers.of(source).own == ()
    assert network.callers.of("192.0.2.1").scope.networks == frozenset()


def test_what_is_known_of_a_caller_follows_the_feed() -> None:
    network = Network()
    network.endpoint("e1", "10.1.0.5")
    assert network.callers.of("10.1.0.5").own == ("10.1.0.5",)
    network.tell(Entry(revision=2, kind="endpoint", id="e1"))
    assert network.callers.of("10.1.0.5").own == ()
    network.endpoint("e1", "10.1.0.5", "10.1.0.8")
    network.endpoint("e1", "10.1.0.8")
    assert network.callers.of("10.1.0.8").own == ("10.1.0.8",)
    assert network.callers.of("10.1.0.5").own == ()
    entries = {("zone", ""): Entry(revision=3, kind="zone", zone=network.directory.zone)}
    network.callers.replace(entries)  # type: ignore[arg-type]
    assert network.callers.of("10.1.0.8").own == ()


async def test_who_has_waited_goes_on_as_who_it_is_then() -> None:
    seen = {"127.0.1.7": Scope(frozenset({"blue", "red"}))}
    async with serving(lambda source: seen.get(source or "", Scope(None))) as server:
        callers = server.server.callers
        zone = ZoneEntry(zone="netd.internal", node="host-1", node_id="1" * 16)
        callers.change(None, Entry(revision=1, kind="zone", zone=zone))
        at = {"network": "red", "container_id": "c", "name": "c", "node": "host-1"}
        endpoint = EndpointEntry(addresses=("127.0.1.7",), **at)  # type: ignore[arg-type]
        callers.change(None, Entry(revision=2, kind="endpoint", id="e", endpoint=endpoint))
        assert callers.of("127.0.1.7").own == ("127.0.1.7",)
        released.append(free := asyncio.Event())
        client = await server.client("127.0.1.7")
        asked = asyncio.ensure_future(client.get("/renew"))
        async with asyncio.timeout(DEADLINE_S):
            while not waiting:
                await asyncio.sleep(0.001)
        assert waiting.pop().caller.own == ("127.0.1.7",)
        seen["127.0.1.7"] = Scope(frozenset({"blue"}))
        callers.change(None, Entry(revision=3, kind="endpoint", id="e"))
        free.set()
        assert (await asked)[2] == b'{"own":[],"networks":["blue"]}'


@pytest.mark.parametrize(("descriptors", "most"), [(900, 300), (MANY * 6, MANY)])
async def test_connections_leave_descriptors_for_others(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    server = HttpServer("test", Routes(()), Callers(lambda _: Scope(None)), drain=lambda: None)
    assert sum(server.connections.enter("127.0.0.1") for _ in range(most + 5)) == most
    guests = sum(server.guests.enter(f"10.0.{n >> 8}.{n & 255}") for n in range(most))
    assert guests == most // 2, "the host has the other half"
    await server.close()
