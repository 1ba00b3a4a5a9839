"""Calls of netd's API, each on a connection of its own.

As much of HTTP/1.1 as that takes, over the interpreter's own sockets: the module `socket` takes as
long to import as the daemon to answer.
"""

from __future__ import annotations

# Not `os`, which takes long to import: see cni/plugin.py.
import posix

from netd.runtimes.shim import jsontext

try:
    import _socket as socket
    from _struct import pack
except ImportError:
    import socket  # type: ignore[no-redef]
    from struct import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_SOCKET = "/run/netd/netd.sock"

# Labels by which a runtime's own words find what it had attached, whatever its configuration has
# become: which kind of runtime it is, the network's name there, and the interface it asked for.
RUNTIME_LABEL = "netd.runtime"
NETWORK_LABEL = "netd.runtime.network"
IFNAME_LABEL = "netd.runtime.ifname"

HEAD_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 64 * 1024 * 1024

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


class Unreachable(Exception):
    """There is no daemon, or it went away before it had answered: nobody knows what it did."""


class Silent(Unreachable):
    """It takes connections and does not answer: as long as systemd only holds its socket."""

    def __init__(self, timeout_s: int) -> None:
        super().__init__(f"netd has not answered for {timeout_s} s")


class Refused(Exception):
    """The daemon's answer is a problem; `problem` is its code, `field` the input at fault."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or f"netd has answered with status {status}"))
        self.status = status
        self.problem = str(problem.get("code", ""))
        self.field = str(problem.get("field", ""))


class Daemon:
    """The daemon at a socket. `timeout_s` bounds each wait for it."""

    def __init__(self, path: str, timeout_s: int) -> None:
        self.path = path
        self.timeout_s = timeout_s

    @property
    def tombstones(self) -> str:
        """The folder for what it is to be told when it is back: see `tombstones.py`."""
        return tombstones_of(self.path)

    def call(self, method: str, target: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's value, None where it has none. Raises `Unreachable` or `Refused`."""
        text = b"" if body is None else jsontext.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: netd\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        try:
            status, answer = self._exchange(head.encode() + b"\r\n" + text)
        except BlockingIOError:
            raise Silent(self.timeout_s) from None
        except PermissionError:
            detail = f"not allowed to connect to {self.path}: root is, and the group netd"
            raise Refused(403, {"code": "forbidden", "detail": detail}) from None
        except OSError as error:
            why = error.strerror or error  # the path may be too long for an address
            raise Unreachable(f"netd cannot be reached at {self.path}: {why}") from None
        try:
            value = jsontext.loads(answer) if answer else None
        except ValueError:
            raise Unreachable("netd's answer cannot be read") from None
        if status >= 400:
            raise Refused(status, value if isinstance(value, dict) else {})
        return value

    def endpoints(self, container: str) -> list[dict[str, Any]]:
        """The endpoints of a container."""
        target = f"/v1/endpoints?container_id={quoted(container)}"
        found: list[dict[str, Any]] = self.call("GET", target)
        return found

    def detach(self, endpoint: str) -> None:
        self.call("DELETE", f"/v1/endpoints/{quoted(endpoint)}")

    def work_off(self, container: str = "") -> None:
        """Work tombstones off, if there are any. Raises `Unreachable`, and `Refused` when one of
        `container` stays: what that is attached to now would go by it later.
        """
        try:
            waiting = posix.listdir(self.tombstones)
        except OSError:
            return
        if waiting:
            from netd.runtimes.shim.tombstones import work_off

            for other, refusal in work_off(self):
                if other == container:
                    raise refusal

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Not a timeout of Python's: with that, a connect does not wait for room in the queue.
            deadline = pack("ll", self.timeout_s, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, deadline)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, deadline)
            sock.connect(self.path)
            sock.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data:
                data += _received(sock, HEAD_BYTES_MAX - len(data))
            head, _, body = data.partition(b"\r\n\r\n")
            status, length = _understood(head)
            parts = [body]
            missing = length - len(body)
            while missing > 0:
                parts.append(_received(sock, min(missing, 65536)))
                missing -= len(parts[-1])
        finally:
            sock.close()
        return status, b"".join(parts)


def default_socket() -> str:
    """Where the environment says that the daemon is, or else its usual place."""
    return posix.environ.get(b"NETD_SOCKET", b"").decode(errors="surrogateescape") or DEFAULT_SOCKET


def tombstones_of(socket: str) -> str:
    """The folder of tombstones for the daemon at `socket`."""
    return f"{socket.rpartition('/')[0]}/deleted"


def quoted(text: str) -> str:
    """Percent-encode all but RFC 3986's unreserved characters."""
    return "".join([chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode()])


def _received(sock: socket.socket, most: int) -> bytes:
    part = sock.recv(most) if most > 0 else b""
    if not part:
        raise Unreachable("netd went away before it had answered")
    return part


def _understood(head: bytes) -> tuple[int, int]:
    """An answer's status and the length of its body."""
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise Unreachable("what answers there is not netd")
    length = 0
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            length = int(value)
    if length > ANSWER_BYTES_MAX:
        raise Unreachable(f"netd's answer has more than {ANSWER_BYTES_MAX} bytes")
    return int(words[1]), length
