"""An endless answer of lines, out of the bytes that come: HTTP/1.1 (RFC 9112), without I/O."""

from typing import Final

from netd.registry.http_answer import NotHttp, head_of

LINE_BYTES_MAX: Final = 4 * 1024 * 1024  # an entry has a few hundred bytes, a huge service 1 MB
_SIZE_BYTES_MAX: Final = 64  # of a chunk's first line: 16 hexadecimal digits and what may follow


class BrokenStream(Exception):
    """What comes is no such answer; the text says what it is instead."""


class LineStream:
    """Takes bytes as they come and gives back whole lines, without their ends.

    `ended` is set by the last chunk. Raises `BrokenStream` for anything but an answer 200 in
    chunks, and for lines or heads too long to be the daemon's.
    """

    def __init__(self) -> None:
        self.ended = False
        self._raw = bytearray()  # not yet taken apart
        self._line = bytearray()  # of the body, a line that has no end yet
        self._left = -1  # bytes until the chunk's end; -1: its size comes first
        self._in_head = True

    def take(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes; empty ones, which are signs of life, left out."""
        raw = self._raw
        raw += data
        if self._in_head and not self._read_head():
            return []
        at = 0
        body = self._line
        while not self.ended:
            if self._left < 0:
                end = raw.find(b"\r\n", at, at + _SIZE_BYTES_MAX)
                if end < 0:
                    if len(raw) - at >= _SIZE_BYTES_MAX:
                        raise BrokenStream("a chunk without a size")
                    break
                self._left = _size(bytes(raw[at:end]))
                at = end + 2
                if self._left == 0:
                    self.ended = True
                    break
            # The chunk and the CR LF after it are taken at once, or as much as there is.
            part = raw[at : at + self._left]
            body += part
            self._left -= len(part)
            at += len(part)
            if self._left:
                break
            if len(raw) - at < 2:
                break
            if raw[at : at + 2] != b"\r\n":
                raise BrokenStream("a chunk longer than its size")
            at += 2
            self._left = -1
        del raw[:at]
        return self._split()

    def _split(self) -> list[bytes]:
        *lines, rest = bytes(self._line).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise BrokenStream(f"a line of more than {LINE_BYTES_MAX} bytes")
        self._line[:] = rest
        return [line for line in lines if line]

    def _read_head(self) -> bool:
        try:
            head = head_of(self._raw)
        except NotHttp as error:
            raise BrokenStream(str(error)) from None
        if head is None:
            return False
        if head.status != 200:
            raise BrokenStream(f"answer {head.status} {head.reason[:60]}")
        if head.fields.get("transfer-encoding") != "chunked":
            raise BrokenStream("an answer that is not in chunks")
        del self._raw[: head.size]
        self._in_head = False
        return True


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    try:
        size = int(digits, 16)
    except ValueError:
        size = -1
    if size < 0:
        raise BrokenStream("a chunk whose size is no number")
    return size
