"""The text of a policy's rules: Consul's HCL as policies use it, or the same as JSON.

service "web" { policy = "write" }
key_prefix "config/" { policy = "read" }
operator = "read"
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, get_args

import msgspec

from netd.registry.consul.acl_rules import RESOURCES, SCALARS, Rule
from netd.registry.http.rights import Access, Resource

TEXT_MAX: Final = 64 * 1024  # characters
RULES_MAX: Final = 1024
NAME_MAX: Final = 4096
_SHOWN: Final = 40
_ACCESS: Final[dict[str, Access]] = {each: each for each in get_args(Access)}
_KINDS: Final[dict[str, tuple[Resource, bool]]] = {
    **{each: (each, each in SCALARS) for each in RESOURCES},
    **{f"{each}_prefix": (each, True) for each in RESOURCES if each not in SCALARS},
}
_TOKEN: Final = re.compile(
    r"(?P<space>(?:\s|#[^\n]*|//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)+)"
    r'|"(?P<text>(?:[^"\\\n]|\\[^\n])*)"'
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|(?P<sign>[={},\[\]:])"
)
_ESCAPE: Final = re.compile(r'\\(?:([nrt"\\])|u([0-9A-Fa-f]{4})|(.))', re.DOTALL)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


class BadRules(Exception):
    """It is no text of rules."""


class _Token(NamedTuple):
    """`kind` is `text`, `word`, `sign`, or `end` after the last."""

    kind: str
    text: str
    line: int


def rules_of(text: str) -> tuple[Rule, ...]:
    """Raises `BadRules`."""
    if len(text) > TEXT_MAX:
        raise BadRules(f"the text has more than {TEXT_MAX} characters")
    rules = tuple(_of_json(text) if text.lstrip()[:1] == "{" else _Reader(text).rules())
    if len(rules) > RULES_MAX:
        raise BadRules(f"more than {RULES_MAX} rules")
    return rules


class _Reader:
    """Reads HCL, one token ahead."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = next(self._tokens)

    def rules(self) -> Iterator[Rule]:
        while self._next.kind != "end":
            if not self._skip(","):
                yield self._rule()

    def _rule(self) -> Rule:
        kind = self._take("word", "text").text
        if self._skip("="):
            return _scalar(kind, self._take("text").text)
        name = self._take("text").text
        self._skip("=")
        return _named(kind, name, self._body())

    def _body(self) -> dict[str, str]:
        found: dict[str, str] = {}
        self._expect("{")
        while not self._skip("}"):
            if self._skip(","):
                continue
            key = self._take("word", "text")
            if key.text in found:
                raise _wrong(key, f"one {key.text[:_SHOWN]!r} only")
            self._expect("=")
            found[key.text] = self._take("text").text
        return found

    def _take(self, *kinds: str) -> _Token:
        token = self._next
        if token.kind not in kinds:
            raise _wrong(token, "a name" if "word" in kinds else "a text in quotes")
        self._next = next(self._tokens)
        return token

    def _skip(self, sign: str) -> bool:
        if self._next.kind != "sign" or self._next.text != sign:
            return False
        self._next = next(self._tokens)
        return True

    def _expect(self, sign: str) -> None:
        if not self._skip(sign):
            raise _wrong(self._next, f"{sign!r}")


def _tokens(text: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadRules(f"line {line}: {text[at : at + _SHOWN].splitlines()[0]!r} is no rule")
        at = match.end()
        kind = match.lastgroup or "text"
        if kind != "space":
            found = match[kind]
            yield _Token(kind, _unescaped(found, line) if kind == "text" else found, line)
        line += match[0].count("\n")
    while True:
        yield _Token("end", "the end", line)


def _unescaped(text: str, line: int) -> str:
    def one(match: re.Match[str]) -> str:
        if match[3] is not None:
            raise BadRules(f"line {line}: {match[0]!r} is no escape")
        return _ESCAPED[match[1]] if match[1] else chr(int(match[2], 16))

    return _ESCAPE.sub(one, text)


def _of_json(text: str) -> Iterator[Rule]:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadRules(f"no JSON: {error}") from None
    for kind, value in found.items():
        if isinstance(value, str):
            yield _scalar(kind, value)
            continue
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, dict):
                raise BadRules(f"{kind[:_SHOWN]!r}: an object of names is wanted")
            for name, body in each.items():
                yield _named(kind, name, _texts(name, body))


def _texts(name: str, body: Any) -> dict[str, str]:
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict) or not all(isinstance(each, str) for each in body.values()):
        raise BadRules(f'{name[:_SHOWN]!r}: an object as {{"policy": "read"}} is wanted')
    return body


# What both forms say


def _scalar(kind: str, access: str) -> Rule:
    if kind not in SCALARS:
        raise BadRules(f"{kind[:_SHOWN]!r} is no resource without names")
    return _rule_of(kind, "", access)


def _named(kind: str, name: str, body: dict[str, str]) -> Rule:
    if kind not in _KINDS or kind in SCALARS:
        raise BadRules(f"{kind[:_SHOWN]!r} is no resource with names")
    if len(name) > NAME_MAX:
        raise BadRules(f"{name[:_SHOWN]!r}...: a name of more than {NAME_MAX} characters")
    resource, _ = _KINDS[kind]
    unknown = body.keys() - {"policy", *(("intentions",) if resource == "service" else ())}
    if unknown:
        raise BadRules(f"{kind} {name[:_SHOWN]!r}: {min(unknown)[:_SHOWN]!r} is not known")
    if body.get("intentions", "deny") not in _ACCESS:  # there is no mesh that they were about
        raise BadRules(f"{kind} {name[:_SHOWN]!r}: intentions are 'read', 'write' or 'deny'")
    return _rule_of(kind, name, body.get("policy", ""))


def _rule_of(kind: str, name: str, policy: str) -> Rule:
    resource, is_prefix = _KINDS[kind]
    access = _ACCESS.get(policy)
    if access is None or (access == "list" and resource != "key"):
        raise BadRules(f"Invalid {kind} policy: {policy[:_SHOWN]!r}")
    return Rule(resource, name, is_prefix, access)


def _wrong(token: _Token, wanted: str) -> BadRules:
    return BadRules(f"line {token.line}: {wanted} is wanted, not {token.text[:_SHOWN]!r}")
