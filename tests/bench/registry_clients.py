"""Clients of Consul's and Eureka's APIs that cost as little as may be, as a program on a host.

    python registry_clients.py register PORT
    python registry_clients.py answers PORT PATH CODING CONNECTIONS
    python registry_clients.py watch PORT
    python registry_clients.py views DNS
    python registry_clients.py renew consul|eureka PORT COUNT CONNECTIONS

It takes orders line by line, says `ready` when it is, and answers each order with one line of
JSON. Times are monotonic seconds, which all processes of a machine share. All by the standard
library: it may run where nothing else is. It keeps to the last processor.
"""

import asyncio
import json
import os
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final

HOST: Final = "127.0.0.1"
WITHIN_S: Final = 60.0
EVERY_S: Final = 10.0  # a renewal of each instance
TTL_S: Final = 60  # who registers many is at it for longer than a renewal takes
WAIT: Final = "600s"
ASKED_S: Final = 0.005  # between two questions
_MAX: Final = 1 << 20  # bytes of an answer


class Connection(asyncio.Protocol):
    """One connection with one call at a time; the others wait."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._waiting: deque[asyncio.Future[tuple[int, bytes, bytes]]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_exception(exc or EOFError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        while self._waiting and (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._data[:end])
            total = end + 4 + _length(head)
            if len(self._data) < total:
                return
            body = bytes(self._data[end + 4 : total])
            del self._data[:total]
            self._waiting.popleft().set_result((int(head[9:12]), head, body))

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer."""
        assert self._transport is not None
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[int, bytes, bytes]] = loop.create_future()
        self._waiting.append(future)
        self._transport.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return await future


async def connect(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, HOST, port)
    return connection


# Answers: as many as there are


def answers(port: int, path: str, coding: str, count: int) -> None:
    """Orders are seconds to ask for: by `count` connections, each again with its answer."""
    head = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept-Encoding: {coding}\r\n\r\n"
    request = head.encode()
    selector = selectors.DefaultSelector()
    buffer = bytearray(_MAX)
    sockets = [socket.create_connection((HOST, port)) for _ in range(count)]
    size = _size_of_answer(sockets[0], request, buffer)
    for sock in sockets:
        selector.register(sock, selectors.EVENT_READ, [0])
    print("ready", flush=True)
    for line in sys.stdin:
        began_s, used_s = time.monotonic(), time.process_time()
        ends_s = began_s + float(line)
        for sock in sockets:
            sock.sendall(request)
        done, open_ = 0, count
        while open_:
            for key, _ in selector.select(WITHIN_S):
                sock = key.fileobj  # type: ignore[assignment]
                got = sock.recv_into(buffer)
                if not got or (key.data[0] == 0 and buffer[9:12] != b"200"):
                    raise EOFError(bytes(buffer[:got]))
                key.data[0] += got
                if key.data[0] < size:
                    continue
                assert key.data[0] == size, "answers of one size"
                key.data[0] = 0
                done += 1
                if time.monotonic() < ends_s:
                    sock.sendall(request)
                else:
                    open_ -= 1
        took_s, cpu_s = time.monotonic() - began_s, time.process_time() - used_s
        say({"answers": done, "bytes": size, "took_s": took_s, "cpu_s": cpu_s})


def _size_of_answer(sock: socket.socket, request: bytes, buffer: bytearray) -> int:
    sock.sendall(request)
    got = sock.recv_into(buffer)
    end = buffer.find(b"\r\n\r\n", 0, got)
    size = end + 4 + _length(bytes(buffer[:end]))
    while got < size:
        got += sock.recv_into(buffer)
    return size


# Instances, one by one


async def register(port: int) -> None:
    """Orders are id, name and port of what is to be registered."""
    connection = await connect(port)
    async for ident, name, number in orders():
        service = {
            "ID": ident,
            "Name": name,
            "Port": int(number),
            "Tags": ["v1", "of-a-bench"],
            "Meta": {"version": "1.2.3"},
            "Check": {"TTL": "86400s", "Status": "passing"},
        }
        await _demand(connection.call("PUT", "/v1/agent/service/register", service))
        say(ident)


# Watchers


class Watcher:
    """One that waits for a change of a service, again and again, as a client that follows it."""

    def __init__(self, port: int, path: str) -> None:
        self.woken_s: list[float] = []
        self._port = port
        self._path = path
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        connection = await connect(self._port)
        index = await self._ask(connection, 0)
        self._task = asyncio.get_running_loop().create_task(self._follow(connection, index))

    async def _follow(self, connection: Connection, index: int) -> None:
        while True:
            index = await self._ask(connection, index)
            self.woken_s.append(time.monotonic())

    async def _ask(self, connection: Connection, index: int) -> int:
        asked = f"{self._path}?index={index}&wait={WAIT}" if index else self._path
        status, head, body = await connection.call("GET", asked)
        if status != 200:
            raise ValueError(body.decode())
        return int(_field(head, b"x-consul-index"))


async def watch(port: int) -> None:
    """Orders: `begin COUNT SERVICE`, many at once; `woken SERVICE COUNT`: when each of them was
    told, once so many have been or the time is over, and how many others were meanwhile.
    """
    watchers: dict[str, list[Watcher]] = {}
    async for word, *rest in orders():
        if word == "begin":
            path = f"/v1/health/service/{rest[1]}"
            some = [Watcher(port, path) for _ in range(int(rest[0]))]
            room = asyncio.Semaphore(64)
            await asyncio.gather(*(_within(room, watcher.begin) for watcher in some))
            watchers.setdefault(rest[1], []).extend(some)
            say({"watching": sum(map(len, watchers.values()))})
        else:
            own, count = watchers[rest[0]], int(rest[1])
            deadline_s = time.monotonic() + WITHIN_S
            while (
                sum(bool(watcher.woken_s) for watcher in own) < count
                and time.monotonic() < deadline_s
            ):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)  # those who are not to be woken would have been by then
            all_ = [watcher for some in watchers.values() for watcher in some]
            told = [watcher.woken_s[0] for watcher in own if watcher.woken_s]
            others = sum(len(watcher.woken_s) for watcher in all_)
            others -= sum(len(watcher.woken_s) for watcher in own)
            twice = sum(len(watcher.woken_s) > 1 for watcher in own)
            for watcher in all_:
                watcher.woken_s.clear()
            say({"woken_s": told, "others": others, "twice": twice})


# Renewals


class Renewals:
    """Instances whose clients say each `EVERY_S` that they live. Of `api` the calls are."""

    def __init__(self, api: str, count: int, connections: list[Connection]) -> None:
        self._count = count
        self._connections = connections
        self._calls: Consul | Eureka = Consul() if api == "consul" else Eureka()

    async def register(self) -> dict[str, Any]:
        """As soon as may be, on all connections."""
        began_s = time.monotonic()
        room = len(self._connections)
        await asyncio.gather(*(self._register(each, room) for each in range(room)))
        return {"took_s": time.monotonic() - began_s}

    async def _register(self, first: int, step: int) -> None:
        for number in range(first, self._count, step):
            await _demand(self._calls.register(self._connections[first], number))

    async def renew(self, seconds: float) -> dict[str, Any]:
        """Each when it is due, for so long."""
        loop = asyncio.get_running_loop()
        took_ms: list[float] = []
        tasks: set[asyncio.Task[None]] = set()
        began_s = time.monotonic()
        sent = 0
        while (now_s := time.monotonic()) < began_s + seconds:
            while sent < (now_s - began_s) * self._count / EVERY_S:
                task = loop.create_task(self._renew(sent % self._count, took_ms))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
            await asyncio.sleep(0.005)
        if tasks:
            await asyncio.wait_for(asyncio.gather(*tasks), WITHIN_S)
        return {"renewals": sent, "took_ms": took_ms}

    async def _renew(self, number: int, took_ms: list[float]) -> None:
        began_s = time.monotonic()
        connection = self._connections[number % len(self._connections)]
        await _demand(self._calls.renew(connection, number))
        took_ms.append((time.monotonic() - began_s) * 1000)


class Consul:
    def register(self, connection: Connection, number: int) -> Awaitable[tuple[int, bytes, bytes]]:
        service = {
            "ID": f"web-{number}",
            "Name": f"web-{number % 100}",
            "Port": 80,
            "Tags": ["v1"],
            "Check": {"TTL": f"{TTL_S}s", "Status": "passing"},
        }
        return connection.call("PUT", "/v1/agent/service/register", service)

    def renew(self, connection: Connection, number: int) -> Awaitable[tuple[int, bytes, bytes]]:
        return connection.call("PUT", f"/v1/agent/check/pass/service:web-{number}")


class Eureka:
    def register(self, connection: Connection, number: int) -> Awaitable[tuple[int, bytes, bytes]]:
        instance = {
            "instanceId": f"host:web:{number}",
            "hostName": f"web-{number}",
            "app": f"WEB-{number % 100}",
            "ipAddr": "192.0.2.10",
            "status": "UP",
            "port": {"$": 8080, "@enabled": "true"},
            "securePort": {"$": 443, "@enabled": "false"},
            "vipAddress": f"web-{number % 100}",
            "leaseInfo": {"renewalIntervalInSecs": int(EVERY_S), "durationInSecs": TTL_S},
            "dataCenterInfo": {
                "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
                "name": "MyOwn",
            },
            "metadata": {"zone": "one"},
        }
        return connection.call("POST", f"/eureka/apps/{instance['app']}", {"instance": instance})

    def renew(self, connection: Connection, number: int) -> Awaitable[tuple[int, bytes, bytes]]:
        return connection.call("PUT", f"/eureka/apps/WEB-{number % 100}/host:web:{number}")


async def renew(api: str, port: int, count: int, connections: int) -> None:
    """Orders: `register`, and `renew SECONDS`."""
    renewals = Renewals(api, count, [await connect(port) for _ in range(connections)])
    async for word, *rest in orders():
        say(await (renewals.register() if word == "register" else renewals.renew(float(rest[0]))))


async def _demand(call: Awaitable[tuple[int, bytes, bytes]]) -> None:
    status, _, body = await asyncio.wait_for(call, WITHIN_S)
    if not 200 <= status < 300:
        raise ValueError(f"{status}: {body.decode()}")


# Views: when each of three shows a service, and when not


async def views(dns: str) -> None:
    """Orders: `present NAME`, `absent NAME`: when the host's DNS at that address, its Consul and
    its Eureka said so. Before that, of `absent`, a line when it begins to watch.
    """
    consul, eureka = await connect(8500), await connect(8761)
    resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    resolver.setblocking(False)
    resolver.connect((dns, 53))
    async for state, name in orders():
        present = state == "present"
        if not present:
            say("watching")
        found = await asyncio.gather(
            _until(partial(_dns_has, resolver, name), present),
            _consul_says(consul, name, present),
            _until(partial(_eureka_has, eureka, name), present),
        )
        say(dict(zip(("DNS", "Consul", "Eureka"), found, strict=True)))


async def _until(has: Callable[[], Awaitable[bool]], present: bool) -> float:
    """Asks each `ASKED_S` until it is so; when that was."""
    async with asyncio.timeout(WITHIN_S):
        while await has() is not present:
            await asyncio.sleep(ASKED_S)
    return time.monotonic()


async def _consul_says(consul: Connection, name: str, present: bool) -> float:
    path, index = f"/v1/health/service/{name}?passing", 0
    async with asyncio.timeout(WITHIN_S):
        while True:
            _, head, body = await consul.call("GET", f"{path}&index={index}&wait={WAIT}")
            if (json.loads(body) != []) is present:
                return time.monotonic()
            index = int(_field(head, b"x-consul-index"))


async def _eureka_has(eureka: Connection, name: str) -> bool:
    status, _, _ = await eureka.call("GET", f"/eureka/apps/{name.upper()}")
    return status == 200


async def _dns_has(resolver: socket.socket, name: str) -> bool:
    """Whether an answer has a record (RFC 1035, 4.1)."""
    labels = f"{name}.service.netd.internal".split(".")
    query = b"".join(bytes((len(label),)) + label.encode() for label in labels)
    ident = os.urandom(2)
    head = ident + b"\x01\x00" + b"\0\1" + b"\0\0" * 3
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(resolver, head + query + b"\0" + b"\0\1" * 2)
    while True:
        answer = await loop.sock_recv(resolver, 4096)
        if answer[:2] == ident:
            return answer[6:8] != b"\0\0"


# What they share


async def _within(room: asyncio.Semaphore, work: Callable[[], Awaitable[None]]) -> None:
    async with room:
        await work()


async def orders() -> AsyncIterator[list[str]]:
    """The words of each line that comes, until the input ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while line := await reader.readline():
        yield line.decode().split()


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


def _field(head: bytes, name: bytes) -> str:
    lowered = head.lower()
    at = lowered.index(b"\r\n" + name + b":") + len(name) + 3
    end = head.find(b"\r\n", at)
    return head[at : end if end >= 0 else None].decode().strip()


def _length(head: bytes) -> int:
    """An answer 204 has none."""
    return int(_field(head, b"content-length")) if b"ontent-Length" in head else 0


def main() -> None:
    what, *rest = sys.argv[1:]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if what == "answers":
        answers(int(rest[0]), rest[1], rest[2], int(rest[3]))
    elif what == "register":
        asyncio.run(register(int(rest[0])))
    elif what == "views":
        asyncio.run(views(rest[0]))
    elif what == "watch":
        asyncio.run(watch(int(rest[0])))
    else:
        asyncio.run(renew(rest[0], int(rest[1]), int(rest[2]), int(rest[3])))


if __name__ == "__main__":
    main()
