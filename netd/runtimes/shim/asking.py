"""The short way: the daemon, which has an interpreter that runs already, does all of a call.

By this a plugin needs none of its own modules, whose import takes longer than the attach. What is
out of the ordinary goes the long way, the plugin's own, which asks for the same once more if need
be and has the runtime's words for what is wrong. Plugins take this file as a module by itself, not
of a package (the packages around it are more files to read), so it imports none of netd's.
"""

import posix
import sys

try:
    import _socket as socket
except ImportError:
    import socket  # type: ignore[no-redef]

DEFAULT_SOCKET = b"/run/netd/netd.sock"
TIMEOUT_S = 25  # longer than the daemon takes for any call
INPUT_BYTES_MAX = 65536  # more goes the long way
ANSWER_BYTES_MAX = 1024 * 1024

_KEY = b"socket"
_NAMES = (
    b"CNI_COMMAND",
    b"CNI_CONTAINERID",
    b"CNI_NETNS",
    b"CNI_IFNAME",
    b"CNI_ARGS",
)


def read() -> bytes:
    """Standard input, or its beginning where there is more than the short way takes."""
    data = b""
    try:
        while len(data) <= INPUT_BYTES_MAX and (part := posix.read(0, 65536)):
            data += part
    except OSError:
        return data  # the long way finds it unreadable, too
    return data


class ShortWay:
    """`silent`: the daemon has taken a connection and said nothing for `TIMEOUT_S`."""

    silent = False

    def add(self, environment: "dict[bytes, bytes]", config: bytes) -> "bytes | None":
        """The result of CNI's ADD, as JSON; None for what has to go the long way."""
        path = socket_of(config)
        given = {name: environment[name] for name in _NAMES if name in environment}
        if given.get(b"CNI_COMMAND") != b"ADD" or len(config) > INPUT_BYTES_MAX:
            return None
        if path is None or not all(is_plain(text) for text in given.values()):
            return None
        pairs = b",".join([b'"%s":"%s"' % pair for pair in given.items()])
        body = b'{"socket":"%s","environment":{%s},"config":%s}' % (path, pairs, config)
        return self._asked(path, b"/v1/cni", body)

    def set_up(
        self, environment: "dict[bytes, bytes]", netns: str, execution: bytes
    ) -> "bytes | None":
        """The status block of netavark's set-up, as JSON; None for what has to go the long way."""
        path = environment.get(b"NETD_SOCKET") or DEFAULT_SOCKET
        place = netns.encode(errors="surrogateescape")
        if not is_plain(path) or not is_plain(place) or len(execution) > INPUT_BYTES_MAX:
            return None
        body = b'{"socket":"%s","netns":"%s","execution":%s}' % (path, place, execution)
        return self._asked(path, b"/v1/netavark", body)

    def _asked(self, path: bytes, target: bytes, body: bytes) -> "bytes | None":
        """The body of the daemon's answer; None for one that is no result, and without any."""
        head = (
            b"POST %s HTTP/1.1\r\nHost: netd\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % (target, len(body))
        )
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # struct timeval. Not a timeout of Python's: see `daemon.py`.
            deadline = TIMEOUT_S.to_bytes(8, sys.byteorder) + bytes(8)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, deadline)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, deadline)
            sock.connect(path)
            sock.sendall(head + body)
            data = b""
            while len(data) < ANSWER_BYTES_MAX and (part := sock.recv(65536)):
                data += part
                head, blank, answer = data.partition(b"\r\n\r\n")
                if blank and not head.startswith(b"HTTP/1.1 200 "):
                    return None
                if blank and len(answer) == _length(head):
                    return answer
        except OSError as error:
            self.silent = isinstance(error, BlockingIOError)
            return None
        finally:
            sock.close()
        return None


def socket_of(config: bytes) -> "bytes | None":
    """The daemon's socket by CNI's configuration; None where that is not seen at once.

    One deeper within is not netd's: it may be a container's, such as a pod's annotation, and
    whoever listens there would make the result.
    """
    if b'"%s"' % _KEY not in config:
        return DEFAULT_SOCKET
    parts = config.split(b'"')  # those with odd numbers are in quotes, where none is escaped
    at = parts.index(_KEY)
    before = b"".join(parts[:at:2])
    plain = b"\\" not in config and at % 2 == 1 and parts.count(_KEY) == 1
    if not plain or len(parts) < at + 3 or parts[at + 1].strip() != b":":
        return None
    deep = before.count(b"{") - before.count(b"}") != 1
    return None if deep or not is_plain(parts[at + 2]) else parts[at + 2]


def is_plain(text: bytes) -> bool:
    """Whether it is the same as JSON, in quotes."""
    return text.isascii() and text.decode().isprintable() and not (b'"' in text or b"\\" in text)


def _length(head: bytes) -> int:
    """An answer's Content-Length, -1 where there is none."""
    value = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0].strip()
    return int(value) if value.isdigit() else -1
