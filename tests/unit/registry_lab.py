"""A registry in this process, and a daemon that says what a test wants it to."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import dns.rdatatype
import msgspec

from netd.model.directory import (
    EndpointEntry,
    Entry,
    NetworkEntry,
    RegistryReport,
    RegistrySettings,
    ZoneEntry,
)
from netd.registry.service import Service
from netd.systemd import ServiceManager

DEADLINE_S = 5.0
HOST = "127.0.0.52"  # not one that the machine's systemd-resolved may have
GATEWAY = "127.0.1.1"  # of the network blue, 127.0.1.0/24


class Daemon:
    """Answers `GET /v1/directory` with `table`, and takes reports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table: dict[tuple[str, str], Entry] = {}
        self.reports: list[RegistryReport] = []
        self.readers: list[asyncio.StreamWriter] = []
        self.revision = 0
        self.holds_sync = False  # whether a stream never becomes complete
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._news = asyncio.Event()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        """As when it is killed: streams break off."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        for writer in self._writers:
            with suppress(ConnectionError):
                await writer.wait_closed()
        self.readers.clear()
        self._writers.clear()
        self.path.unlink(missing_ok=True)

    def put(self, kind: str, name: str, value: Any = None) -> Entry:
        """Change the table, and tell those who read it. Without a value the entry goes."""
        self.revision += 1
        fields = {"revision": self.revision, "kind": kind, "id": name}
        entry = msgspec.convert(fields, Entry)
        if value is not None:
            entry = msgspec.structs.replace(entry, **{kind: value})
        if value is None:
            self.table.pop((kind, name), None)
        else:
            self.table[kind, name] = entry
        for writer in self.readers:
            _send(writer, entry)
        return entry

    def sync(self) -> None:
        """Say that it was all, to those who wait for it."""
        self.holds_sync = False
        for writer in self.readers:
            _send(writer, Entry(revision=self.revision, kind="sync"))

    def endpoint(
        self, name: str, address: str, network: str = "blue", **more: Any
    ) -> EndpointEntry:
        entry = EndpointEntry(
            **{"container_id": f"c-{name}", "node": "host-1", "aliases": (), **more},
            network=network,
            name=name,
            addresses=(address,),
        )
        self.put("endpoint", f"{network}-{name}", entry)
        return entry

    async def until(self, condition: Callable[[RegistryReport], object]) -> RegistryReport:
        """The first report from now on, or the last one, for which it holds."""
        async with asyncio.timeout(DEADLINE_S):
            while not (self.reports and condition(self.reports[-1])):
                self._news.clear()
                await self._news.wait()
        return self.reports[-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if head.startswith("GET /v1/directory?watch=1 "):
                    self._stream(writer)
                    continue
                length = next(
                    int(line.split(":")[1])
                    for line in head.lower().split("\r\n")
                    if line.startswith("content-length")
                )
                body = await reader.readexactly(length)
                assert head.startswith("PUT /v1/registry "), head
                self.reports.append(msgspec.json.decode(body, type=RegistryReport))
                self._news.set()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for entry in self.table.values():
            _send(writer, entry)
        if not self.holds_sync:
            _send(writer, Entry(revision=self.revision, kind="sync"))
        self.readers.append(writer)


def _send(writer: asyncio.StreamWriter, entry: Entry) -> None:
    line = msgspec.json.encode(entry) + b"\n"
    writer.write(b"%x\r\n%s\r\n" % (len(line), line))


class Lab:
    """A daemon and its registry, which listens at `port` of HOST and GATEWAY."""

    def __init__(
        self, daemon: Daemon, service: Service, running: "asyncio.Task[None]", port: int
    ) -> None:
        self.daemon = daemon
        self.service = service
        self.running = running
        self.port = port

    async def ask(
        self,
        name: str,
        kind: str = "A",
        *,
        source: str | None = None,
        at: str = HOST,
        tcp: bool = False,
        **more: Any,
    ) -> dns.message.Message:
        """One question, as somebody at `source` would ask it."""
        query = dns.message.make_query(name, kind, **more)
        ask = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await ask(query, at, DEADLINE_S, self.port, source=source)

    async def addresses(self, name: str, **more: Any) -> list[str]:
        answer = await self.ask(name, **more)
        return [str(item) for rrset in answer.answer for item in rrset]

    async def exchange(self, query: bytes) -> bytes:
        """Send bytes to HOST; the bytes that come back."""
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((HOST, self.port))
            await loop.sock_sendall(sock, query)
            async with asyncio.timeout(DEADLINE_S):
                return await loop.sock_recv(sock, 65_535)

    @staticmethod
    def count(report: RegistryReport, reason: str) -> float:
        """How many queries got no answer for this reason."""
        return sum(
            count.value
            for count in report.counts
            if count.name == "dns_dropped_total" and count.labels["reason"] == reason
        )

    @staticmethod
    def value(report: RegistryReport, name: str) -> float:
        return sum(count.value for count in report.counts if count.name == name)

    @staticmethod
    def answers(report: RegistryReport) -> dict[tuple[str, ...], float]:
        """By transport, response code, type and source."""
        return {
            tuple(count.labels[label] for label in ("transport", "rcode", "type", "source")): (
                count.value
            )
            for count in report.counts
            if count.name == "dns_answers_total"
        }


def free_port() -> int:
    """A port that nobody has at HOST, for UDP and TCP."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((HOST, 0))
        udp.bind(tcp.getsockname())
        port: int = tcp.getsockname()[1]
        return port


@asynccontextmanager
async def registry(folder: Path, **settings: Any) -> AsyncIterator[Lab]:
    daemon = Daemon(folder / "netd.sock")
    port = free_port()
    given = {"host_address": HOST, "port": port, "consul_port": 0, **settings}
    zone = ZoneEntry(
        zone="netd.internal",
        node="host-1",
        node_id="0123456789abcdef",
        settings=RegistrySettings(**given),
    )
    daemon.put("zone", "", zone)
    blue = NetworkEntry(subnets=("127.0.1.0/24",), resolvers=(GATEWAY,))
    daemon.put("network", "blue", blue)
    await daemon.start()
    service = Service(str(daemon.path), ServiceManager({}))
    running = asyncio.get_running_loop().create_task(service.run())
    try:
        await daemon.until(lambda report: len(report.listening) >= 2)
        yield Lab(daemon, service, running, port)
    finally:
        running.cancel()
        await asyncio.wait((running,))
        await daemon.stop()
