"""Traffic that goes on while something happens, and tells what it lost."""

import re
import sys
from contextlib import ExitStack

from tests.e2e.lab import Namespace

PINGS_PER_S = 100
_TOTAL_RETRANS_OFFSET = 100  # of tcpi_total_retrans in struct tcp_info, linux/tcp.h

_ECHO = """
import socket, sys
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
connection, _ = server.accept()
while data := connection.recv(65536):
    connection.sendall(data)
"""
# Sends a line each 10 ms and awaits its echo, until it reads something; then once more.
_STREAM = f"""
import select, socket, struct, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
connection.settimeout(5)
print("ready", flush=True)
lines, told = 0, False
while not told:
    told = bool(select.select([sys.stdin], [], [], 0.01)[0])
    line = b"%07d" % lines
    connection.sendall(line)
    assert connection.recv(100) == line
    lines += 1
information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
print(struct.unpack_from("I", information, {_TOTAL_RETRANS_OFFSET})[0])
"""


class Stream:
    """A TCP connection with a dialogue of some 100 lines per second."""

    def __init__(
        self,
        stack: ExitStack,
        client: Namespace,
        server: Namespace,
        address: str,
        port: int,
        *,
        listen: int,
    ) -> None:
        echo = server.start(stack, sys.executable, "-c", _ECHO, str(listen))
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        self._client = client.start(
            stack, sys.executable, "-c", _STREAM, address, str(port), talk=True
        )
        assert self._client.stdout is not None
        assert self._client.stdout.readline() == "ready\n"

    def assert_nothing_was_lost(self) -> None:
        """One line more, and the end of the dialogue."""
        told, _ = self._client.communicate("\n", timeout=10)
        assert self._client.returncode == 0, "the connection broke"
        assert int(told) == 0, "retransmitted"


class Pings:
    """Echo requests, 100 in each second."""

    def __init__(
        self, stack: ExitStack, client: Namespace, address: str, *, seconds: float
    ) -> None:
        self._count = int(seconds * PINGS_PER_S)
        self._address = address
        self._process = client.start(
            stack, "ping", "-q", "-i", str(1 / PINGS_PER_S), "-c", str(self._count), address
        )

    def assert_nothing_was_lost(self) -> None:
        """Wait for the last one."""
        told, _ = self._process.communicate(timeout=20)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", told)
        assert found is not None, told
        assert (int(found[1]), int(found[2])) == (self._count, self._count), self._address
