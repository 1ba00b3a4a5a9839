"""Lines out of an answer in chunks, however it is cut up on the way."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.registry.http_answer import HEAD_MAX
from netd.registry.stream import LINE_BYTES_MAX, BrokenStream, LineStream

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


LINE = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" "))


@given(
    lines=st.lists(LINE, max_size=20),
    chunks=st.lists(st.integers(0, 2000), max_size=10),
    cuts=st.lists(st.integers(0, 5000), max_size=30),
    ends=st.booleans(),
)
def test_lines_come_out_as_they_went_in(
    lines: list[bytes], chunks: list[int], cuts: list[int], ends: bool
) -> None:
    body = b"".join(line + b"\n" for line in lines)
    wire = HEAD + b"".join(chunk(part) for part in pieces(body, chunks) if part)
    if ends:
        wire += b"0\r\n\r\n"
    stream = LineStream()
    found = [line for piece in pieces(wire, cuts) for line in stream.take(piece)]
    assert found == [line for line in lines if line]
    assert stream.ended == ends


def test_a_line_is_given_as_soon_as_it_is_whole() -> None:
    stream = LineStream()
    assert stream.take(HEAD + b'5\r\n{"a":') == []
    assert stream.take(b"\r\n3\r\n1}\n") == [b'{"a":1}']
    assert stream.take(b"\r\n") == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not begin with HTTP"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403 Forbidden"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}\n", "not in chunks"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * HEAD_MAX, "a head of more than"),
        (HEAD + b"zz\r\n", "no number"),
        (HEAD + b"-5\r\n", "no number"),
        (HEAD + b"1" * 64, "without a size"),
        (HEAD + b"2\r\nabcd\r\n", "longer than its size"),
    ],
)
def test_what_is_no_such_answer_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(BrokenStream, match=said):
        LineStream().take(data)


def test_a_line_without_an_end_is_refused() -> None:
    stream = LineStream()
    stream.take(HEAD)
    part = chunk(b"x" * 65536)
    for _ in range(LINE_BYTES_MAX // 65536):
        assert stream.take(part) == []
    with pytest.raises(BrokenStream, match="a line of more than"):
        stream.take(part)


@given(st.binary(max_size=300))
def test_nothing_but_a_broken_stream_is_raised(data: bytes) -> None:
    for start in (b"", HEAD):
        try:
            LineStream().take(start + data)
        except BrokenStream:
            continue
