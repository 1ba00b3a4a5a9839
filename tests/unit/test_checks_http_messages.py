"""Requests of http checks as they are written, and answers however they are cut up on the way."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netd.model.service import CheckSpec
from netd.registry.checks.http_request import first, redirected
from netd.registry.checks.probe import Failed
from netd.registry.http_answer import HEAD_MAX, HttpAnswer, NotHttp


def read(data: bytes, *, method: str = "GET", body_max: int = 4096) -> HttpAnswer:
    """The answer in `data`, after which the connection ends."""
    answer = HttpAnswer(method, body_max)
    answer.feed(data)
    if not answer.complete:
        answer.end()
    return answer


# Answers


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell", (200, "OK", b"well")),
        (b"HTTP/1.0 200 OK\r\n\r\nwell", (200, "OK", b"well")),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", (200, "", b"")),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", (204, "No Content", b"")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx", (200, "OK", b"x")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
            b"3\r\nwel\r\n1;a=b\r\nl\r\n0\r\nTrailer: x\r\n\r\n",
            (200, "OK", b"well"),
        ),
    ],
)
def test_answers(data: bytes, expected: tuple[int, str, bytes]) -> None:
    answer = read(data)
    assert (answer.status, answer.reason, answer.body) == expected


def test_an_answer_to_head_has_no_body() -> None:
    answer = read(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", method="HEAD")
    assert answer.complete
    assert answer.body == b""


def test_fields_have_names_in_lower_case_and_values_without_blanks() -> None:
    data = b"HTTP/1.1 302 Found\r\nLOCATION: \t/x y \r\nX:\r\nX: 2\r\n\r\n"
    assert read(data).fields == {"location": "/x y", "x": "2"}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ended before an answer"),
        (b"HTT", "ended before an answer"),
        (b"HTTP/1.1 200 OK\r\nX: y", "ended before an answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "ended before an answer"),
        (b"SSH-2.0-x\r\n", "does not begin with HTTP/1"),
        (b"HTTP/2 200\r\n\r\n", "does not begin with HTTP/1"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "first line"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "first line"),
        (b"HTTP/1.1 099 OK\r\n\r\n", "first line"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "has a line"),
        (b"HTTP/1.1 200 OK\r\n X: folded\r\n\r\n", "has a line"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * HEAD_MAX, "a head of more"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * HEAD_MAX + b"\r\n\r\n", "a head of more"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwel", "within its body"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nwell", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4,4\r\n\r\nwell", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwe", "within its body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "without a size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 300, "without a size"),
    ],
)
def test_what_is_no_whole_answer(data: bytes, why: str) -> None:
    with pytest.raises(NotHttp, match=why):
        read(data)


def test_of_a_body_no_more_is_taken_than_wanted() -> None:
    answer = HttpAnswer("GET", 10)
    answer.feed(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 9)
    assert not answer.complete
    answer.feed(b"x" * 100_000)
    assert (answer.complete, answer.body) == (True, b"x" * 10)


bodies = st.binary(max_size=60)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, int, bytes]:
    """An answer, its status and its body."""
    status = draw(st.sampled_from((200, 301, 404, 503)))
    body = draw(bodies)
    head = b"HTTP/1.1 %d What\r\nX: y\r\n" % status
    how = draw(st.sampled_from(("length", "chunks", "end")))
    if how == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, status, body
    if how == "end":
        return head + b"\r\n" + body, status, body
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(body) - 1)), max_size=5)) | {0, len(body)})
    pieces = [body[a:b] for a, b in pairwise(cuts) if b > a]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n", status, body


@given(messages(), st.sets(st.integers(0, 300), max_size=20))
def test_an_answer_is_the_same_however_it_is_cut(
    message: tuple[bytes, int, bytes], cuts: set[int]
) -> None:
    data, status, body = message
    places = sorted({cut for cut in cuts if cut < len(data)} | {0, len(data)})
    answer = HttpAnswer("GET", 4096)
    for begin, end in pairwise(places):
        answer.feed(data[begin:end])
    if not answer.complete:
        answer.end()
    assert (answer.status, answer.body) == (status, body)


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 300))
@example(b"HTTP/1.1 200 OK\r\n\r\n", False, 3)
def test_any_bytes_are_an_answer_or_not_http(data: bytes, begins_well: bool, cut: int) -> None:
    whole = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if begins_well else b""
    ) + data
    answer = HttpAnswer("GET", 100)
    with suppress(NotHttp):
        answer.feed(whole[:cut])
        answer.feed(whole[cut:])
        answer.end()
    assert len(answer.body) <= 100


# Requests


def spec(**more: object) -> CheckSpec:
    return CheckSpec(kind="http", **more)  # type: ignore[arg-type]


def lines(data: bytes) -> list[str]:
    return data.partition(b"\r\n\r\n")[0].decode().split("\r\n")


@pytest.mark.parametrize(
    ("url", "line", "host", "target"),
    [
        ("http://a.test", "GET / HTTP/1.1", "a.test", "a.test:80"),
        ("http://a.test:80/x", "GET /x HTTP/1.1", "a.test", "a.test:80"),
        ("https://a.test:80/x", "GET /x HTTP/1.1", "a.test:80", "a.test:80"),
        ("http://[fd00::1]/", "GET / HTTP/1.1", "[fd00::1]", "[fd00::1]:80"),
        ("http://[fd00::1]:81?q=a b#c", "GET /?q=a%20b HTTP/1.1", "[fd00::1]:81", "[fd00::1]:81"),
        ("http://a.test/é/%41 b", "GET /%C3%A9/%41%20b HTTP/1.1", "a.test", "a.test:80"),
        ("http://bücher.test/", "GET / HTTP/1.1", "xn--bcher-kva.test", "xn--bcher-kva.test:80"),
    ],
)
def test_where_a_request_goes(url: str, line: str, host: str, target: str) -> None:
    request = first(spec(), url)
    written = lines(request.data)
    assert (written[0], str(request.target)) == (line, target)
    assert f"Host: {host}" in written
    assert "Connection: close" in written


@pytest.mark.parametrize(
    "url",
    ["", "a.test", "http://", "ftp://a.test/", "http://a:b/", "http://[::1/", "http://" + "x" * 64],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(Failed, match="not a URL"):
        first(spec(), url)


def test_a_user_in_the_url_is_who_asks() -> None:
    written = lines(first(spec(), "http://me:p%40ss@a.test/").data)
    assert "Authorization: Basic bWU6cEBzcw==" in written
    assert "Host: a.test" in written


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:p@ss@a.test/x?token=secret#y", "http://a.test/x"),
        ("http://me:p/ss@a.test/x@y?token=secret", "http://y"),
        ("https://a.test", "https://a.test"),
    ],
)
def test_what_may_be_secret_in_a_url_is_not_shown(url: str, shown: str) -> None:
    with suppress(Failed):
        assert first(spec(), url).shown == shown


@pytest.mark.parametrize(
    "url", ["http://me:secret@a:b/", "ftp://me:secret@a/", "http://me:secret@"]
)
def test_nor_is_it_where_that_is_no_url(url: str) -> None:
    with pytest.raises(Failed) as failed:
        first(spec(), url)
    assert "secret" not in str(failed.value)


def test_headers_that_are_given_take_the_place_of_the_usual_ones() -> None:
    given_ = {"user-agent": ("mine",), "Host": ("b.test",), "X": ("1", "2")}
    written = lines(first(spec(headers=given_), "http://a.test/").data)
    assert [line for line in written if line.lower().startswith(("user-agent", "host", "x"))] == [
        *("user-agent: mine", "Host: b.test", "X: 1", "X: 2")
    ]


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb", "a\0b", "\udcff"])
def test_what_would_be_another_header_is_not_written(value: str) -> None:
    with pytest.raises(Failed):
        first(spec(headers={"X": (value,)}), "http://a.test/")


@given(st.text(max_size=60), st.text(max_size=20))
def test_no_url_or_location_becomes_a_header(path: str, location: str) -> None:
    with suppress(Failed):
        request = first(spec(), f"http://a.test/{path}")
        assert len(lines(request.data)) == 6
        assert len(lines(redirected(request, 302, location).data)) <= 7


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        *((301, "POST", "GET", b""), (302, "POST", "GET", b""), (303, "PUT", "GET", b"")),
        *((301, "PUT", "PUT", b"x"), (307, "POST", "POST", b"x"), (308, "POST", "POST", b"x")),
        (303, "HEAD", "HEAD", b"x"),
    ],
)
def test_what_a_redirect_makes_of_the_method(
    status: int, method: str, then: str, body: bytes
) -> None:
    request = first(spec(method=method, body="x"), "http://a.test/a/b")
    following = redirected(request, status, "../c?d")
    assert (following.url, following.method, following.body) == ("http://a.test/c?d", then, body)
    assert (b"Content-Length" in following.data) == bool(body)


def test_what_is_for_one_server_is_not_sent_to_another() -> None:
    secrets = {"Authorization": ("s",), "cookie": ("s",), "Host": ("a.test",), "X": ("kept",)}
    request = first(spec(headers=secrets), "https://a.test/")
    same = redirected(request, 302, "https://a.test:443/x")
    assert same.given == secrets
    for place in ("https://b.test/", "http://a.test/", "https://a.test:444/", "//b.test"):
        other = redirected(request, 302, place)
        assert other.given == {"X": ("kept",)}
        # Nor does it come back on the way home.
        assert b"Authorization" not in redirected(other, 302, "https://a.test/").data
