"""tcp and udp checks of real sockets on loopback."""

import asyncio
import errno
import inspect
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from netd.model.service import CheckResult, CheckSpec
from netd.registry.checks import connecting, tcp, tls, udp
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Failed, Run, critical, passing
from tests.unit.checks_lab import Certificates, closed_port, outcome, probe, serving
from tests.unit.cluster_lab import has_ipv6

UNREACHABLE = "192.0.2.1"  # RFC 5737: of nobody


async def found(spec: CheckSpec, names: Names | None = None, **more: object) -> CheckResult:
    kind = tcp.run if spec.kind == "tcp" else udp.run
    run = Run(probe(spec, **more))  # type: ignore[arg-type]
    try:
        work = kind(run, names or Names())
    except Failed as failure:
        return critical(str(failure))
    return await outcome(work) if inspect.isawaitable(work) else work


async def _nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0)


# tcp


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="the host has no ::1")),
    ],
)
async def test_who_accepts_is_passing(host: str) -> None:
    async with serving(_nothing, host=host) as port:
        result = await found(CheckSpec(kind="tcp"), address=host, port=port)
    where = f"[{host}]" if ":" in host else host
    assert result == CheckResult(status="passing", output=f"{where}:{port}: connected")


async def test_a_connection_on_this_host_is_looked_at_without_waiting() -> None:
    async with serving(_nothing) as port:
        assert isinstance(
            tcp.run(Run(probe(CheckSpec(kind="tcp"), port=port)), Names()), CheckResult
        )


async def test_a_closed_port_is_critical() -> None:
    port = closed_port()
    result = await found(CheckSpec(kind="tcp"), port=port)
    assert result == critical(f"127.0.0.1:{port}: connection refused")


async def test_a_socket_that_connects_to_itself_is_nobody() -> None:
    # Whoever binds to the port before it connects to it is connected to himself.
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.connect(one.getsockname())
        assert connecting._own_echo(one) == errno.ECONNREFUSED


async def test_a_full_queue_is_waited_for() -> None:
    # With a queue of one that nobody takes from, the second connection hangs.
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        first.connect(("127.0.0.1", port))
        second.setblocking(False)
        second.connect_ex(("127.0.0.1", port))
        run = Run(probe(CheckSpec(kind="tcp"), port=port))
        work = tcp.run(run, Names())
        assert inspect.iscoroutine(work)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await work
        assert run.stage == f"connect to 127.0.0.1:{port}"


async def test_who_accepts_late_is_passing() -> None:
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        first.connect(("127.0.0.1", port))
        work = asyncio.ensure_future(found(CheckSpec(kind="tcp"), port=port))
        await asyncio.sleep(0)
        assert not work.done()
        full.accept()[0].close()
        # The kernel sends its SYN again after a second.
        assert (await work).status == "passing"


async def test_a_network_that_nothing_leads_to_is_critical(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: socket.socket, _where: object) -> int:
        return errno.ENETUNREACH

    monkeypatch.setattr(socket.socket, "connect_ex", refuse, raising=False)
    result = await found(CheckSpec(kind="tcp"), address=UNREACHABLE)
    assert result == critical(f"{UNREACHABLE}:80: {os.strerror(errno.ENETUNREACH).lower()}")


async def test_no_descriptor_stays_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with serving(_nothing) as port:
        for target in (f":{port}", f":{closed_port()}", f"localhost:{port}"):
            for _ in range(20):
                await found(CheckSpec(kind="tcp", target=target))
    await asyncio.sleep(0)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


async def test_an_address_of_somebody_else_is_not_connected_to() -> None:
    accepted = asyncio.Event()

    async def accept(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        accepted.set()

    async with serving(accept) as port:
        own = {"address": "10.0.0.1", "network": "blue"}
        names = Names(own=lambda _: ("127.0.0.1",))
        for target in (f"127.0.0.1:{port}", f"web.test:{port}"):
            result = await found(CheckSpec(kind="tcp", target=target), names, **own)
            assert result.status == "critical"
            assert "not an address of this instance" in result.output
    assert not accepted.is_set()


# Names


# tcp with TLS


async def test_over_tls_the_certificate_has_to_be_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls.forget()
    certificates = Certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    async with serving(_nothing, tls=certificates.server()) as port:

        async def outcome_of(**more: Any) -> CheckResult:
            return await found(CheckSpec(kind="tcp", id="c", tls=True, **more), port=port)

        named = await outcome_of(tls_server_name="web.test")
        assert named == passing(f"127.0.0.1:{port}: connected with TLS")
        assert "certificate: " in (await outcome_of()).output
        assert "TLS server name" in (await outcome_of(tls_server_name=".")).output
        assert (await outcome_of(tls_skip_verify=True)).status == "passing"
    tls.forget()


async def test_tls_with_who_does_not_speak_it() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n")
        await writer.drain()
        await _reader.read()

    spec = CheckSpec(kind="tcp", id="c", tls=True, tls_skip_verify=True)
    async with serving(greet) as port:
        assert (await found(spec, port=port)).output.startswith(f"127.0.0.1:{port}: TLS: ")
        assert (await found(CheckSpec(kind="tcp", id="c"), port=port)).status == "passing"
        assert "refused" in (await found(spec, port=closed_port())).output
        target = msgspec.structs.replace(spec, target=f"127.0.0.1:{port}")
        elsewhere = await found(target, port=1, address="10.0.0.9", network="blue")
        assert "is not an address of this instance" in elsewhere.output


async def test_a_name_of_netds_own_is_asked_for_first() -> None:
    async with serving(_nothing) as port:
        names = Names(own=lambda name: {"web.blue": ("127.0.0.1",), "db.blue": ()}.get(name))
        spec = CheckSpec(kind="tcp", target=f"web.blue:{port}")
        assert await found(spec, names) == CheckResult(
            status="passing", output=f"web.blue:{port}: connected"
        )
        nobody = CheckSpec(kind="tcp", target=f"db.blue:{port}")
        assert await found(nobody, names) == critical("name 'db.blue': netd knows no address of it")
        other = CheckSpec(kind="tcp", target=f"localhost:{port}")
        assert (await found(other, names)).status == "passing"


async def test_a_name_of_the_hosts_is_resolved_in_a_thread() -> None:
    async with serving(_nothing) as port:
        assert (await found(CheckSpec(kind="tcp", target=f"localhost:{port}"))).status == "passing"


@pytest.mark.parametrize("name", ["nobody.invalid", "a..b", "x" * 64, "\udcff"])
async def test_a_name_that_does_not_exist_is_critical(name: str) -> None:
    result = await found(CheckSpec(kind="tcp", target=f"{name}:80"))
    assert result.status == "critical"
    assert result.output.startswith(f"name {name!r}: ")


async def test_all_addresses_of_a_name_are_tried() -> None:
    async with serving(_nothing) as port:
        names = Names(own=lambda _: ("127.0.0.2", "127.0.0.1"))
        spec = CheckSpec(kind="tcp", target=f"web.test:{port}")
        assert (await found(spec, names)).status == "passing"
        nowhere = Names(own=lambda _: ("127.0.0.2", "127.0.0.3"))
        assert await found(spec, nowhere) == critical(f"web.test:{port}: connection refused")


async def test_an_address_that_hangs_does_not_keep_the_next_one_waiting() -> None:
    async with serving(_nothing) as port, _full("127.0.0.2", port):
        names = Names(own=lambda _: ("127.0.0.2", "127.0.0.1"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        result = await found(CheckSpec(kind="tcp", target=f"web.test:{port}"), names)
        assert result.status == "passing"
        assert loop.time() - began < 0.9  # before the kernel tries the first one again


@asynccontextmanager
async def _full(address: str, port: int) -> AsyncIterator[None]:
    with socket.socket() as full, socket.socket() as first:
        full.bind((address, port))
        full.listen(0)
        first.connect((address, port))
        yield


async def test_one_question_is_asked_for_many_and_its_answer_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def count(host: str, *rest: object, **more: object) -> object:
        asked.append(host)
        return real("127.0.0.1", *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", count)
    names = Names()
    answers = await asyncio.gather(*(names.addresses("many.test") for _ in range(50)))
    assert set(answers) == {("127.0.0.1",)}
    assert await names.addresses("many.test") == ("127.0.0.1",)
    assert asked == ["many.test"]


async def test_names_that_nobody_answers_take_a_bounded_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = threading.Event()
    running = 0
    most = 0
    lock = threading.Lock()

    def hang(*_: object, **__: object) -> object:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go.wait(10)
        with lock:
            running -= 1
        raise OSError("nobody answers")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    names = Names()

    async def ask(number: int) -> None:
        with pytest.raises((Failed, TimeoutError)):
            async with asyncio.timeout(0.05):
                await names.addresses(f"host-{number}.test")

    await asyncio.gather(*(ask(number) for number in range(30)))
    assert 1 <= most <= 8
    go.set()
    await names.stop()


# udp


class _Answers(asyncio.DatagramProtocol):
    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.asked: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.asked.append(data)
        if self.answer is not None:
            self.transport.sendto(self.answer, address)


@asynccontextmanager
async def _udp(answer: bytes | None) -> AsyncIterator[tuple[_Answers, int]]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Answers(answer), local_addr=("127.0.0.1", 0)
    )
    with closing(transport):
        yield protocol, transport.get_extra_info("sockname")[1]


async def test_an_answer_is_passing_at_once() -> None:
    async with _udp(b"pong\x07") as (server, port):
        result = await found(CheckSpec(kind="udp", body="ping", timeout_s=30), port=port)
    assert result.status == "passing"
    assert result.output == f"127.0.0.1:{port}: answer: pong\N{REPLACEMENT CHARACTER}"
    assert server.asked == [b"ping"]


async def test_silence_is_passing() -> None:
    async with _udp(None) as (server, port):
        result = await found(CheckSpec(kind="udp", timeout_s=0.1), port=port)
    assert result.status == "passing"
    assert "no answer" in result.output
    assert server.asked == [b"\0"]


async def test_a_closed_udp_port_is_critical_at_once() -> None:
    port = closed_port(socket.SOCK_DGRAM)
    result = await found(CheckSpec(kind="udp", timeout_s=30), port=port)
    assert result == critical(f"127.0.0.1:{port}: connection refused")


async def test_nothing_is_sent_to_an_address_of_somebody_else() -> None:
    async with _udp(b"here") as (server, port):
        spec = CheckSpec(kind="udp", target=f"127.0.0.1:{port}", timeout_s=0.1)
        result = await found(spec, address="10.0.0.1", network="blue")
        assert "not an address of this instance" in result.output
        assert server.asked == []


async def test_an_answer_of_any_size_is_cut() -> None:
    async with _udp(b"x" * 60_000) as (_, port):
        result = await found(CheckSpec(kind="udp", body="?", timeout_s=30), port=port)
    assert result.status == "passing"
    assert len(result.output) <= 4096
