"""Tokens and policies as they are kept: of the secret of a token its hash alone. Without I/O."""

import uuid
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, TypeVar

import msgspec

from netd.registry.consul.acl_rules import RESOURCES, Rule, Rules
from netd.registry.consul.acl_text import BadRules, rules_of
from netd.registry.http.rights import Access

MANAGEMENT: Final = "00000000-0000-0000-0000-000000000001"  # the policy that allows all
READ_ONLY: Final = "00000000-0000-0000-0000-000000000002"  # the policy that shows all
ANONYMOUS: Final = "00000000-0000-0000-0000-000000000002"  # the token of who shows none
SHOWN_BY_NOBODY: Final = "anonymous"  # the secret of that token, which is none
SIDECAR: Final = "-sidecar-proxy"  # what follows the name of a service in that of its proxy
_DENIED: Final = tuple(Rule(each, "", is_prefix=True, access="deny") for each in RESOURCES)

Dated = TypeVar("Dated", "Policy", "Token")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """`rules` is their text. An index that is 0 is that of the write that has stored it."""

    id: str
    name: str
    description: str = ""
    rules: str = ""
    create_index: int = 0
    modify_index: int = 0


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """`secret_hash` is of the secret, "" for the anonymous token; `policies` are ids. `services`
    and `nodes` are those that it is for: each stands for the rules that one needs. Times are
    Unix time.
    """

    accessor: str
    secret_hash: str
    description: str = ""
    policies: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    local: bool = False
    created_s: float = 0.0
    expires_s: float | None = None
    create_index: int = 0
    modify_index: int = 0

    def holds_at(self, now_s: float) -> bool:
        return self.expires_s is None or now_s < self.expires_s


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """`bootstrapped` is whether the first token has been given away."""

    policies: tuple[Policy, ...] = ()
    tokens: tuple[Token, ...] = ()
    bootstrapped: bool = False

    def all_policies(self) -> tuple[Policy, ...]:
        return (*BUILT_IN, *self.policies)

    def policy(self, policy_id: str) -> Policy | None:
        return next((each for each in self.all_policies() if each.id == policy_id), None)

    def policy_called(self, name: str) -> Policy | None:
        return next((each for each in self.all_policies() if each.name == name), None)

    def token(self, accessor: str) -> Token | None:
        found = next((each for each in self.tokens if each.accessor == accessor), None)
        return NOBODY if found is None and accessor == ANONYMOUS else found

    def all_tokens(self) -> tuple[Token, ...]:
        known = any(each.accessor == ANONYMOUS for each in self.tokens)
        return self.tokens if known else (NOBODY, *self.tokens)

    def at(self, now_s: float) -> "Document":
        """Without tokens that do not hold any more."""
        if all(each.holds_at(now_s) for each in self.tokens):
            return self
        living = tuple(each for each in self.tokens if each.holds_at(now_s))
        return msgspec.structs.replace(self, tokens=living)

    def dated(self, index: int) -> "Document":
        """With the index of the write that has stored it where none is known."""
        return msgspec.structs.replace(
            self,
            policies=tuple(_dated(each, index) for each in self.policies),
            tokens=tuple(_dated(each, index) for each in self.tokens),
        )


_EVERYTHING: Final = """\
acl = "{0}"
agent_prefix "" {{ policy = "{0}" }}
event_prefix "" {{ policy = "{0}" }}
key_prefix "" {{ policy = "{0}" }}
keyring = "{0}"
mesh = "{0}"
node_prefix "" {{ policy = "{0}" }}
operator = "{0}"
peering = "{0}"
query_prefix "" {{ policy = "{0}" }}
service_prefix "" {{ policy = "{0}" }}
session_prefix "" {{ policy = "{0}" }}
"""
BUILT_IN: Final = (
    Policy(
        id=MANAGEMENT,
        name="global-management",
        description="Allows everything",
        rules=_EVERYTHING.format("write"),
        create_index=1,
        modify_index=1,
    ),
    Policy(
        id=READ_ONLY,
        name="builtin/global-read-only",
        description="Shows everything",
        rules=_EVERYTHING.format("read"),
        create_index=1,
        modify_index=1,
    ),
)
NOBODY: Final = Token(
    accessor=ANONYMOUS,
    secret_hash="",
    description="Anonymous Token",
    create_index=1,
    modify_index=1,
)


def new_id() -> str:
    return str(uuid.uuid4())


def rules_for(document: Document, token: Token) -> frozenset[Rule]:
    """All rules of a token. A policy that this netd cannot read denies all that no other names."""
    found: set[Rule] = set()
    for policy_id in token.policies:
        policy = document.policy(policy_id)
        if policy is not None:
            found.update(_readable(policy.rules))
    found.update(_of_services(token.services))
    found.update(_of_nodes(token.nodes))
    return frozenset(found)


class KnownRules:
    """Rules that were made, by what they were made of: equal ones are one object."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._known: dict[tuple[frozenset[Rule], Access], Rules] = {}

    def of(self, rules: frozenset[Rule], default: Access) -> Rules:
        found = self._known.get((rules, default))
        if found is None:
            if len(self._known) >= self._most:
                self._known.clear()
            found = self._known[rules, default] = Rules(rules, default)
        return found


@lru_cache(maxsize=1024)
def _readable(text: str) -> tuple[Rule, ...]:
    try:
        return rules_of(text)
    except BadRules:
        return _DENIED


def _of_services(names: Iterable[str]) -> Iterator[Rule]:
    for name in names:
        yield Rule("service", name, is_prefix=False, access="write")
        yield Rule("service", name + SIDECAR, is_prefix=False, access="write")
        yield Rule("service", "", is_prefix=True, access="read")
        yield Rule("node", "", is_prefix=True, access="read")


def _of_nodes(names: Iterable[str]) -> Iterator[Rule]:
    for name in names:
        yield Rule("node", name, is_prefix=False, access="write")
        yield Rule("service", "", is_prefix=True, access="read")


def _dated(each: Dated, index: int) -> Dated:
    if each.create_index and each.modify_index:
        return each
    return msgspec.structs.replace(
        each,
        create_index=each.create_index or index,
        modify_index=each.modify_index or index,
    )
