"""The request of an http check: where it goes, what is sent, and where a redirect leads."""

from base64 import b64encode
from typing import Final
from urllib.parse import SplitResult, quote, unquote_to_bytes, urljoin, urlsplit

import msgspec

from netd import __version__
from netd.model.service import CheckSpec
from netd.registry.checks.probe import Failed
from netd.registry.checks.targets import Target, join

_PORTS: Final = {"http": 80, "https": 443}
_PATH_SAFE: Final = "/%:@!$&'()*+,;=~-._"
# What is for one server and none that it names.
_CONFIDENTIAL: Final = frozenset({"authorization", "cookie", "proxy-authorization", "host"})
_AS_GET: Final = {301: frozenset({"POST"}), 302: frozenset({"POST"})}  # RFC 9110, 15.4.2, 15.4.3

Fields = dict[str, tuple[str, ...]]


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `secure`: over TLS. `url` is as it was written, `given` are the fields that
    the check has asked for, `data` is all that is sent.
    `shown` is the URL as others may see it: outputs of checks go to all hosts.
    """

    url: str
    shown: str
    target: Target
    secure: bool
    method: str
    given: Fields
    body: bytes
    data: bytes


def first(spec: CheckSpec, url: str) -> HttpRequest:
    """The request that a check begins with. Raises `Failed`."""
    return _request(url, spec.method, dict(spec.headers), spec.body.encode("utf-8", "replace"))


def redirected(request: HttpRequest, status: int, location: str) -> HttpRequest:
    """The request that follows `request` (RFC 9110, 15.4). Raises `Failed`."""
    url = urljoin(request.url, location)
    method, body = request.method, request.body
    if method != "HEAD" and (status == 303 or method in _AS_GET.get(status, ())):
        method, body = "GET", b""
    given = request.given
    following = _request(url, method, given, body)
    if (following.target, following.secure) == (request.target, request.secure):
        return following
    kept = {name: value for name, value in given.items() if name.lower() not in _CONFIDENTIAL}
    return _request(url, method, kept, body)


def _request(url: str, method: str, given: Fields, body: bytes) -> HttpRequest:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode("ascii"), parts.port
    except ValueError as error:  # UnicodeError is one
        raise Failed(f"{_shown(url)!r} is not a URL: {error}") from None
    if parts.scheme not in _PORTS or not host:
        raise Failed(f"{_shown(url)!r} is not a URL of http or https")
    target = Target(host, _PORTS[parts.scheme] if port is None else port)
    path = quote(parts.path or "/", safe=_PATH_SAFE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_PATH_SAFE + "?")
    usual = {
        "Host": (_host_field(target, parts.scheme),),
        "Connection": ("close",),
        "User-Agent": (f"netd-registry/{__version__}",),
        "Accept": ("*/*",),
        "Accept-Encoding": ("identity",),
        **_authorization(parts),
        **({"Content-Length": (str(len(body)),)} if body or method in {"POST", "PUT"} else {}),
    }
    names = {name.lower() for name in given}
    made = {name: value for name, value in usual.items() if name.lower() not in names}
    return HttpRequest(
        url=url,
        shown=_shown(url),
        target=target,
        secure=parts.scheme == "https",
        method=method,
        given=given,
        body=body,
        data=_encoded(f"{method} {path} HTTP/1.1", made | given) + body,
    )


def _shown(url: str) -> str:
    """Without what may be secret: user, password and query."""
    scheme, slashes, rest = url.partition("://")
    rest = rest.partition("?")[0].partition("#")[0].rpartition("@")[2]
    return (scheme + slashes + rest if slashes else url.partition("?")[0])[:200]


def _encoded(first_line: str, fields: Fields) -> bytes:
    lines = [first_line]
    for name, values in fields.items():
        lines += [f"{name}: {value}" for value in values]
    head = "\r\n".join(lines)
    if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1 or "\0" in head:
        raise Failed("a line break in the request's method or headers")
    try:
        return head.encode("utf-8") + b"\r\n\r\n"
    except UnicodeEncodeError as error:
        raise Failed(f"the request cannot be written: {error.reason}") from None


def _host_field(target: Target, scheme: str) -> str:
    if target.port == _PORTS[scheme]:
        return join(target.host, target.port).removesuffix(f":{target.port}")
    return str(target)


def _authorization(parts: SplitResult) -> Fields:
    """RFC 7617, of `http://user:password@host`."""
    if parts.username is None:
        return {}
    pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
    return {"Authorization": (f"Basic {b64encode(pair).decode('ascii')}",)}
