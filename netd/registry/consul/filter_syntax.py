"""Filter expressions (go-bexpr): from text to a tree.

or    = and ["or" or]
and   = not ["and" and]
not   = "not" not | "(" or ")" | match
match = selector ("==" | "!=" | "contains" | "matches" | ...) value
      | selector "is" ["not"] "empty"
      | value ["not"] "in" selector
"""

import re
from typing import Final, Literal, NamedTuple

TEXT_MAX: Final = 8192  # characters
DEPTH_MAX: Final = 64
_SHOWN: Final = 40

Operator = Literal["equal", "in", "empty", "matches"]


class Match(NamedTuple):
    """`negated`: the opposite."""

    selector: tuple[str, ...]
    operator: Operator
    value: str
    negated: bool


class Not(NamedTuple):
    inner: "Tree"


class Both(NamedTuple):
    """`either`: one of the two is enough."""

    left: "Tree"
    right: "Tree"
    either: bool


Tree = Match | Not | Both

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
      | (?P<sign>==|!=|\(|\)|\[|\]|\.(?=[A-Za-z]))
      | (?P<number>-?[0-9]+(?:\.[0-9]+)?)(?![A-Za-z0-9_./:-])
      | (?P<word>[A-Za-z0-9_/:-]+(?:\.[0-9][A-Za-z0-9_/:-]*)*)
    )""",
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r"}


class BadFilter(Exception):
    """The text says what is wrong."""


class _Token(NamedTuple):
    kind: str
    text: str


def parse(text: str) -> Tree:
    """Raises `BadFilter`."""
    if len(text) > TEXT_MAX:
        raise BadFilter(f"the expression has more than {TEXT_MAX} characters")
    return _Parser(_tokens(text)).whole()


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> Tree:
        tree = self._or()
        if self._at < len(self._tokens):
            raise self._unexpected()
        return tree

    def _or(self) -> Tree:
        trees = [self._and()]
        while self._take_word("or"):
            trees.append(self._and())
        tree = trees.pop()
        while trees:
            tree = Both(trees.pop(), tree, either=True)
        return tree

    def _and(self) -> Tree:
        trees = [self._not()]
        while self._take_word("and"):
            trees.append(self._not())
        tree = trees.pop()
        while trees:
            tree = Both(trees.pop(), tree, either=False)
        return tree

    def _not(self) -> Tree:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise BadFilter(f"the expression is nested more than {DEPTH_MAX} deep")
        try:
            if self._take_word("not"):
                return Not(self._not())
            if self._take_sign("("):
                tree = self._or()
                self._demand_sign(")")
                return tree
            return self._match()
        finally:
            self._depth -= 1

    def _match(self) -> Match:
        first = self._next()
        if first.kind in ("string", "number") or self._word_ahead("in", "not"):
            if first.kind == "sign":
                raise self._unexpected(first)
            return self._in(first.text)
        selector = self._selector(first)
        if self._take_sign("=="):
            return Match(selector, "equal", self._value(), negated=False)
        if self._take_sign("!="):
            return Match(selector, "equal", self._value(), negated=True)
        if self._take_word("is"):
            negated = self._take_word("not")
            self._demand_word("empty")
            return Match(selector, "empty", "", negated)
        negated = self._take_word("not")
        if self._take_word("contains"):
            return Match(selector, "in", self._value(), negated)
        if self._take_word("matches"):
            return Match(selector, "matches", self._value(), negated)
        raise self._unexpected()

    def _in(self, value: str) -> Match:
        """`value in selector`; but `selector not contains value` begins alike."""
        start = self._at
        negated = self._take_word("not")
        if self._take_word("in"):
            return Match(self._selector(self._next()), "in", value, negated)
        if negated and self._tokens[start - 1].kind == "word":
            for word, operator in _AFTER_NOT:
                if self._take_word(word):
                    return Match((value,), operator, self._value(), negated=True)
        raise self._unexpected()

    def _selector(self, first: _Token) -> tuple[str, ...]:
        if first.kind != "word":
            raise self._unexpected(first)
        parts = [first.text]
        while True:
            if self._take_sign("."):
                part = self._next()
                if part.kind != "word":
                    raise self._unexpected(part)
                parts.append(part.text)
            elif self._take_sign("["):
                part = self._next()
                if part.kind != "string":
                    raise self._unexpected(part)
                parts.append(part.text)
                self._demand_sign("]")
            else:
                return tuple(parts)

    def _value(self) -> str:
        token = self._next()
        if token.kind == "sign":
            raise self._unexpected(token)
        if token.kind != "word":
            return token.text
        return ".".join(self._selector(token))

    # Tokens

    def _next(self) -> _Token:
        if self._at >= len(self._tokens):
            raise BadFilter("the expression ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _ahead(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _Token("end", "")

    def _word_ahead(self, *words: str) -> bool:
        token = self._ahead()
        return token.kind == "word" and token.text in words

    def _take_word(self, word: str) -> bool:
        return self._take(_Token("word", word))

    def _take_sign(self, sign: str) -> bool:
        return self._take(_Token("sign", sign))

    def _take(self, token: _Token) -> bool:
        if self._ahead() != token:
            return False
        self._at += 1
        return True

    def _demand_sign(self, sign: str) -> None:
        if not self._take_sign(sign):
            raise self._unexpected()

    def _demand_word(self, word: str) -> None:
        if not self._take_word(word):
            raise self._unexpected()

    def _unexpected(self, token: _Token | None = None) -> BadFilter:
        found = self._ahead() if token is None else token
        if found.kind == "end":
            return BadFilter("the expression ends too early")
        return BadFilter(f"unexpected {found.text[:_SHOWN]!r}")


_AFTER_NOT: Final[tuple[tuple[str, Operator], ...]] = (("contains", "in"), ("matches", "matches"))


def _tokens(text: str) -> list[_Token]:
    found = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        token = _TOKEN.match(text, at)
        if token is None or token.lastgroup is None:
            raise BadFilter(f"unexpected {text[at : at + _SHOWN].strip()!r}")
        found.append(_Token(token.lastgroup, _plain(token.lastgroup, token[token.lastgroup])))
        at = token.end()
    return found


def _plain(kind: str, text: str) -> str:
    """A string without its quotes."""
    if kind != "string":
        return text
    if text[0] == "`":
        return text[1:-1]
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), text[1:-1])
