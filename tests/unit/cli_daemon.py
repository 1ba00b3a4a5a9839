"""A daemon with prepared answers on a real Unix socket, for the tests of netctl."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner, Result

from netd.cli.main import cli


class Call(NamedTuple):
    method: str
    target: str
    body: Any


class Answer(NamedTuple):
    status: int
    body: Any = None
    media_type: str = "application/json"


class Daemon:
    """Answers by method and path; what has no answer is a 404 problem. Remembers all calls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[tuple[str, str], Answer] = {}
        self.calls: list[Call] = []
        self.held = threading.Event()  # streams stay open until this is set

    def on(self, method: str, path: str, body: Any = None, status: int = 200) -> None:
        self.answers[method, path] = Answer(status, body)

    def refuse(self, method: str, path: str, status: int, code: str, **problem: Any) -> None:
        body = {"type": f"urn:netd:problem:{code}", "title": "No", "status": status, "code": code}
        self.answers[method, path] = Answer(status, body | problem, "application/problem+json")

    def stream(self, path: str, lines: list[dict[str, Any]]) -> None:
        self.answers["GET", path] = Answer(200, lines, "application/x-ndjson")

    def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        path = call.target.partition("?")[0]
        missing = {
            "type": "urn:netd:problem:not-found", "title": "No such object", "status": 404,
            "code": "not-found", "detail": f"nothing is known of {path.rpartition('/')[2]}",
        }  # fmt: skip
        return self.answers.get(
            (call.method, path), Answer(404, missing, "application/problem+json")
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        answer = self.server.daemon.answer(Call(self.command, self.path, body))
        self.send_response(answer.status)
        if answer.media_type == "application/x-ndjson":
            self.send_header("Content-Type", answer.media_type)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in answer.body:
                data = json.dumps(line).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.server.daemon.held.wait()
            self.wfile.write(b"0\r\n\r\n")
            return
        data = b"" if answer.body is None else json.dumps(answer.body).encode()
        if answer.body is not None:
            self.send_header("Content-Type", answer.media_type)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Tests have no use for an access log, and a Unix peer has no address to log."""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    daemon: Daemon

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is what some tests are about."""


@contextmanager
def serving(path: Path) -> Iterator[Daemon]:
    """A daemon on the socket `path` for the time of the block."""
    daemon = Daemon(path)
    with _Server(str(path), _Handler) as server:
        server.daemon = daemon
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield daemon
        finally:
            daemon.held.set()
            server.shutdown()
            thread.join()


class Netctl:
    """Runs netctl in this process, against the daemon on `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        environment: dict[str, str | None] = {
            "NETD_SOCKET": str(self.path),
            "NO_COLOR": None,
            **(env or {}),
        }
        return CliRunner().invoke(cli, arguments, prog_name="netctl", env=environment)


NETWORK = {
    "id": "9f86d081884c7d65",
    "name": "blue",
    "driver": "bridge",
    "subnets": ["10.20.0.0/24", "fd20::/64"],
    "gateways": ["10.20.0.1", "fd20::1"],
    "internal": False,
    "isolated": True,
    "mtu": 1500,
    "encrypted": False,
    "vni": None,
    "parent": None,
    "labels": {"team": "red"},
    "options": {"stp": False},
    "created_at": "2026-01-02T03:04:05Z",
    "conditions": [],
}

ENDPOINT = {
    "id": "3f9a1c0de5b72468",
    "network": "blue",
    "network_id": NETWORK["id"],
    "container_id": "c" * 64,
    "name": "web",
    "node": "host1",
    "ifname": "eth0",
    "host_ifname": "nv3f9a1c0de5b7",
    "mac": "02:00:0a:14:00:02",
    "mtu": 1500,
    "addresses": ["10.20.0.2/24"],
    "gateways": ["10.20.0.1"],
    "dns": {"nameservers": ["10.20.0.1"], "search": ["blue.netd.internal"]},
    "ports": [
        {"host_port": 8080, "container_port": 80, "protocol": "tcp", "host_ip": "", "count": 1},
        {"host_port": 53, "container_port": 53, "protocol": "udp", "host_ip": "::1", "count": 2},
    ],
    "aliases": ["www"],
    "labels": {},
    "bandwidth": {"ingress_bps": 10000000, "egress_bps": None},
    "default_route": True,
    "netns": "/run/netns/web",
    "state": "ready",
    "created_at": "2026-01-02T03:04:05Z",
    "conditions": [],
}

CONDITION = {
    "code": "foreign-drop",
    "severity": "warning",
    "detail": "chain FORWARD drops",
    "remedy": "iptables -P FORWARD ACCEPT",
    "since": "2026-01-02T03:04:05Z",
}
