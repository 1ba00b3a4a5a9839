"""HTTP over the daemon's socket as raw bytes: also what no client would ever send."""

import json
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

PROBLEM = "application/problem+json"
DEADLINE_S = 15.0


class Answer(NamedTuple):
    """One answer. `status` is 0 when the daemon closed the connection without any."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Refusal(NamedTuple):
    """A refusal as it must be: status, code, field, and words of its detail."""

    status: int
    code: str
    field: str | None
    says: str

    def check(self, answer: Answer) -> None:
        """Fail unless `answer` is this refusal, in the form that RFC 9457 gives it."""
        assert answer.headers.get("content-type") == PROBLEM, answer
        problem = answer.json
        assert self.says in problem["detail"], problem
        found = (answer.status, problem["code"], problem.get("field"))
        assert found == (self.status, self.code, self.field), problem
        assert problem["status"] == answer.status
        assert problem["type"] == f"urn:netd:problem:{self.code}"
        assert problem["title"]
        assert len(answer.body) < 2048, "a refusal repeats what it was sent"


def request(
    method: str, target: str, body: bytes | None = None, headers: bytes = b"", *, last: bool = True
) -> bytes:
    """A request's bytes; `headers` are whole lines."""
    head = f"{method} {target} HTTP/1.1\r\nHost: netd\r\n".encode("utf-8", "surrogateescape")
    if last:
        head += b"Connection: close\r\n"
    if body is not None:
        head += b"Content-Length: %d\r\n" % len(body)
    return head + headers + b"\r\n" + (body or b"")


def connect(path: str, timeout_s: float = DEADLINE_S) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    # A socket with Python's timeout does not wait for room in the daemon's queue.
    connection.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout_s), 0)
    )
    connection.connect(path)
    connection.settimeout(timeout_s)
    return connection


def exchange(path: str, sent: bytes) -> list[Answer]:
    """Send bytes and read answers until the daemon closes the connection."""
    with connect(path) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before it was all read
            connection.sendall(sent)
        received = b""
        while part := _receive(connection):
            received += part
    return list(_answers(received))


def ask(path: str, sent: bytes) -> Answer:
    """Send bytes; the only answer to them."""
    answers = exchange(path, sent)
    assert len(answers) <= 1, answers
    return answers[0] if answers else Answer(0, {}, b"")


def call(path: str, method: str, target: str, value: object = None) -> Answer:
    """One call with a JSON body, none for None."""
    body = None if value is None else json.dumps(value).encode()
    return ask(path, request(method, target, body))


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def _answers(received: bytes) -> list[Answer]:
    answers = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        pairs = (line.partition(":") for line in lines[1:])
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", "0"))
        body, received = received[:length], received[length:]
        answers.append(Answer(status, headers, body))
    return answers
