"""The client against servers that behave badly, and against none."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netd.client import DEFAULT_SOCKET, ApiError, Client, Unreachable
from netd.client.http import Connection

ROOT = Path(__file__).parents[2]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def server(
    path: Path, *connections: list[bytes], closed: threading.Semaphore | None = None
) -> Iterator[list[str]]:
    """Accept one connection for each list, answer requests with its items, then close.

    Yields the requests that came, as `METHOD target`. `closed` is released at each close.
    """
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(5)
        listener.settimeout(10)

        def serve() -> None:
            for answers in connections:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as source:
                    for answer in answers:
                        if not (head := source.readline()):
                            break
                        length = 0
                        while (line := source.readline()) != b"\r\n":
                            if line.startswith(b"Content-Length:"):
                                length = int(line.split(b":")[1])
                        source.read(length)
                        asked.append(head.decode().rpartition(" ")[0])
                        connection.sendall(answer)
                if closed is not None:
                    closed.release()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            thread.join(10)
        assert not thread.is_alive()


def test_no_daemon(tmp_path: Path) -> None:
    path = tmp_path / "netd.sock"
    with pytest.raises(Unreachable) as caught:
        Client(str(path)).status()
    assert str(path) in str(caught.value)
    assert "systemctl start netd" in str(caught.value)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(Unreachable, match="no netd answers"):
        Client(str(path)).status()


def test_the_sockets_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETD_SOCKET", raising=False)
    assert Client().socket_path == DEFAULT_SOCKET
    monkeypatch.setenv("NETD_SOCKET", "/x/netd.sock")
    assert Client().socket_path == "/x/netd.sock"
    assert Client("/y").socket_path == "/y"


def test_a_connection_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with server(path, [OK, OK]) as asked, Client(str(path)) as client:
        client.status()
        client.reconcile()
        assert asked == ["GET /v1/status", "POST /v1/reconcile"]


def test_a_connection_that_was_closed_meanwhile_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    closed = threading.Semaphore(0)
    with server(path, [OK], [OK], closed=closed) as asked, Client(str(path)) as client:
        client.status()
        assert closed.acquire(timeout=10)
        client.reconcile()
        assert asked == ["GET /v1/status", "POST /v1/reconcile"]


def test_a_repeatable_call_is_sent_again_once(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with server(path, [OK, b""], [OK]) as asked, Client(str(path)) as client:
        client.status()
        client.detach("7")
        assert asked == ["GET /v1/status", *["DELETE /v1/endpoints/7"] * 2]


def test_a_call_that_may_not_be_repeated_is_sent_once(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with server(path, [OK, b""]) as asked, Client(str(path)) as client:
        client.status()
        with pytest.raises(Unreachable, match="ended too early"):
            client.reconcile()
        assert asked == ["GET /v1/status", "POST /v1/reconcile"]


def test_a_new_connection_that_fails_is_not_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with server(path, [b""]) as asked, Client(str(path)) as client:
        with pytest.raises(Unreachable):
            client.status()
        assert asked == ["GET /v1/status"]


def test_silence_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(5)
        with pytest.raises(Unreachable, match="did not answer in time"):
            Client(str(path), timeout_s=0.05).status()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 twohundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"5\r\n{}",
        CHUNKED + b"2\r\n{}\r\n",
    ],
)
def test_answers_that_are_not_http(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "s"
    with (
        server(path, [answer]),
        Client(str(path), timeout_s=5) as client,
        pytest.raises(Unreachable, match="is not netd, or it stopped"),
    ):
        client.status()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"code":"x"}', b"\xff"])
def test_a_refusal_that_is_not_netds(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "s"
    answer = b"HTTP/1.1 502 Bad\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with server(path, [answer]), Client(str(path)) as client:
        with pytest.raises(ApiError) as caught:
            client.status()
        assert (caught.value.status, caught.value.code) == (502, "internal")


def test_chunks_of_any_size_and_interim_answers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    body = b'1;ext=1\r\n{\r\nA\r\n"node":"a"\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n'
    with server(path, [interim + CHUNKED + body, OK]), Client(str(path)) as client:
        assert client.status() == {"node": "a"}
        assert client.status() == {}


def test_lines_that_are_cut_across_chunks(tmp_path: Path) -> None:
    path = tmp_path / "s"
    body = b'5\r\n{"a":\r\n8\r\n1}\n\n{"a"\r\n4\r\n:2}\n\r\n0\r\n\r\n'
    with server(path, [CHUNKED + body]), Client(str(path)) as client:
        assert list(client.events()) == [{"a": 1}, {"a": 2}]


def test_an_answer_that_closes_is_followed_by_a_new_connection(tmp_path: Path) -> None:
    path = tmp_path / "s"
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with server(path, [closing], [OK]) as asked, Client(str(path)) as client:
        client.status()
        client.reconcile()
        assert len(asked) == 2


def test_an_early_refusal_is_heard_though_the_body_was_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def refuse() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n")
                accepted.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=refuse)
        thread.start()
        connection = Connection(str(path), 5)
        assert connection.request("POST", "/", b"x" * 5_000_000).status == 413
        connection.close()
        thread.join()


def test_names_are_percent_encoded(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with server(path, [OK, OK]) as asked, Client(str(path)) as client:
        client.network("a/b é%")
        client.endpoints(network="x&y=z", node=None)
    assert asked == ["GET /v1/networks/a%2Fb%20%C3%A9%25", "GET /v1/endpoints?network=x%26y%3Dz"]


def test_a_stream_of_a_daemon_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        Client(str(tmp_path / "s")).events()


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys; import netd.client; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "netd.client.http" in loaded
    heavy = {"http.client", "asyncio", "email", "ssl", "typing", "dataclasses", "urllib.parse"}
    assert heavy.isdisjoint(loaded)
