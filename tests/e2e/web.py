"""Small servers and clients for tests, run inside namespaces."""

import subprocess
import sys
from contextlib import ExitStack

from tests.e2e.lab import Namespace

# Answers each TCP connection with the address it comes from.
_SERVE = """
import socket, sys
family = socket.AF_INET6 if sys.argv[2] == "6" else socket.AF_INET
server = socket.socket(family)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if family == socket.AF_INET6:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind(("", int(sys.argv[1])))
server.listen(64)
print("ready", flush=True)
while True:
    connection, peer = server.accept()
    connection.sendall(peer[0].removeprefix("::ffff:").encode())
    connection.close()
"""
_GET = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])) as connection:
    print(connection.recv(1000).decode())
"""
UDP_SERVE = """
import socket, sys
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("", int(sys.argv[1])))
print("ready", flush=True)
while True:
    _, peer = server.recvfrom(1000)
    server.sendto(sys.argv[2].encode(), peer)
"""
UDP_ASK = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind(("", int(sys.argv[3])))
client.settimeout(2)
client.connect((sys.argv[1], int(sys.argv[2])))  # to be told at once that a port is closed
client.send(b"?")
print(client.recv(1000).decode())
"""


class Server:
    """A listening server; `get` is the command of its client."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process = process
        self._port = port

    def get(self, address: str, port: int | None = None, *, timeout_s: float = 5) -> list[str]:
        """A command that prints the address which the server saw the connection come from."""
        return [sys.executable, "-c", _GET, address, str(port or self._port), str(timeout_s)]

    def knock(self, address: str, port: int | None = None) -> list[str]:
        """A command that succeeds when the server answers; it begins sooner than `get`."""
        script = 'exec 3<>"/dev/tcp/$0/$1"; read -r -u 3 answer; [ -n "$answer" ]'
        return ["timeout", "2", "bash", "-c", script, address, str(port or self._port)]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def serve(space: Namespace, stack: ExitStack, port: int, *, family: int = 6) -> Server:
    """Start a TCP server; returns when it listens. Family 6 takes IPv4 too."""
    process = space.start(stack, sys.executable, "-c", _SERVE, str(port), str(family))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return Server(process, port)
