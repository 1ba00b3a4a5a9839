"""Tokens and policies as JSON: what is asked for, and how they are shown."""

import hashlib
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from netd.model.consul_token import hash_of
from netd.naming.zones import DATACENTER
from netd.registry.consul.acl_document import (
    SHOWN_BY_NOBODY,
    Document,
    Policy,
    Token,
    new_id,
)
from netd.registry.consul.acl_text import BadRules, rules_of
from netd.registry.consul.fields import Fields
from netd.registry.consul.forms import Row
from netd.registry.consul.options import options_of
from netd.registry.consul.query_names import is_id
from netd.registry.consul.reads import headers_of
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import Call, Failure

HIDDEN: Final = "<hidden>"
BODY_MAX: Final = 256 * 1024
NO_STORE: Final = {"Cache-Control": "no-store"}  # of answers that may have secrets
LINKS_MAX: Final = 64  # policies of a token, and services and nodes that it is for
DESCRIPTION_MAX: Final = 1024
LIFE_S: Final = (60.0, 86_400.0)  # how long a token that expires may hold
_POLICY_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_IDENTITY: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,254}[a-z0-9])?\Z")

T = TypeVar("T")


def policy_of(fields: Fields, policy_id: str) -> Policy:
    """What is asked for. Raises `Failure` 400."""
    name = fields.text("name")
    if not name:
        raise Failure(400, "Invalid Policy: no Name is set")
    if not _POLICY_NAME.match(name):
        raise Failure(
            400,
            "Invalid Policy: invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
        )
    rules = fields.text("rules")
    try:
        rules_of(rules)
    except BadRules as error:
        raise Failure(400, f"Failed to parse ACL rules: {error}") from None
    if fields.list("datacenters"):
        raise Failure(400, "Invalid Policy: it cannot be for some datacenters: there is one")
    return Policy(id=policy_id, name=name, description=_description(fields), rules=rules)


def token_of(fields: Fields, document: Document, accessor: str, secret_hash: str) -> Token:
    """What is asked for, but for when it has begun. Raises `Failure` 400."""
    for name, shown in (("roles", "Roles"), ("templatedpolicies", "TemplatedPolicies")):
        if fields.list(name):
            raise Failure(400, f"Invalid Token: there are no {shown} here, link Policies")
    policies = [_linked(Fields(each, "Policies"), document) for each in fields.list("policies")]
    services = _identities(fields, "serviceidentities", "servicename")
    nodes = _identities(fields, "nodeidentities", "nodename")
    for links in (policies, services, nodes):
        if len(links) > LINKS_MAX:
            raise Failure(400, f"Invalid Token: more than {LINKS_MAX} links of a kind")
    return Token(
        accessor=accessor,
        secret_hash=secret_hash,
        description=_description(fields),
        policies=_once(policies),
        services=_once(services),
        nodes=_once(nodes),
        local=fields.flag("local"),
        created_s=time.time(),
        expires_s=_expiry(fields),
    )


def id_of(fields: Fields, name: str, shown: str) -> str:
    """A UUID that is asked for, or a new one. Raises `Failure` 400."""
    asked = fields.text(name)
    if not asked:
        return new_id()
    if not is_id(asked) or asked.startswith("00000000-0000-0000-0000-0000000000"):
        raise Failure(400, f"Invalid Token: {shown} is not a UUID, or a reserved one")
    return asked.lower()


# How they are shown


def answer(call: Call, value: object, index: int) -> web.StreamResponse:
    """What is asked for; nobody waits for it."""
    options = options_of(call.target, DATACENTER)
    body = json_body(value, pretty=options.pretty)
    return respond(body, headers_of(options, index) | NO_STORE, gzip_ok=call.takes_gzip)


def none_such(kind: str) -> Failure:
    return Failure(403, f"Requested {kind} does not exist: ACL not found")


def token_row(token: Token, document: Document, secret: str = HIDDEN) -> Row:
    """`secret` is known when it was made or is shown by the caller: it is kept nowhere."""
    row: Row = {
        "CreateIndex": token.create_index,
        "ModifyIndex": token.modify_index,
        "AccessorID": token.accessor,
        "SecretID": secret if token.secret_hash else SHOWN_BY_NOBODY,
        "Description": token.description,
        "Policies": [_link(each, document) for each in token.policies],
        "ServiceIdentities": [{"ServiceName": each} for each in token.services],
        "NodeIdentities": [{"NodeName": each, "Datacenter": "dc1"} for each in token.nodes],
        "Local": token.local,
        "CreateTime": _time(token.created_s),
        "Hash": _hash(token.description, *token.policies, *token.services, *token.nodes),
    }
    if token.expires_s is not None:
        row["ExpirationTime"] = _time(token.expires_s)
    return row


def policy_row(policy: Policy, *, rules: bool = True) -> Row:
    row: Row = {
        "ID": policy.id,
        "Name": policy.name,
        "Description": policy.description,
        "Datacenters": None,
        "Hash": _hash(policy.name, policy.description, policy.rules),
        "CreateIndex": policy.create_index,
        "ModifyIndex": policy.modify_index,
    }
    return {**row, "Rules": policy.rules} if rules else row


def same_but_for_times(first: Token, second: Token) -> bool:
    return _untimed(first) == _untimed(second)


# How it works


def _untimed(token: Token) -> Token:
    return msgspec.structs.replace(token, created_s=0.0, create_index=0, modify_index=0)


def _link(policy_id: str, document: Document) -> Row:
    policy = document.policy(policy_id)
    return {"ID": policy_id, "Name": "" if policy is None else policy.name}


def _linked(link: Fields, document: Document) -> str:
    ident, name = link.text("id"), link.text("name")
    policy = document.policy(ident) if ident else document.policy_called(name)
    if policy is None:
        asked = f"ID {ident[:80]!r}" if ident else f"name {name[:80]!r}"
        raise Failure(400, f"No such ACL policy with {asked}")
    return policy.id


def _identities(fields: Fields, name: str, key: str) -> list[str]:
    found = [Fields(each, name).text(key) for each in fields.list(name)]
    for each in found:
        if not _IDENTITY.match(each):
            raise Failure(
                400,
                f"Invalid Token: identity {each[:80]!r} has an invalid name. Only lowercase "
                "alphanumeric characters, '-' and '_' are allowed",
            )
    return found


def _description(fields: Fields) -> str:
    found = fields.text("description")
    if len(found) > DESCRIPTION_MAX:
        raise Failure(400, f"Description has more than {DESCRIPTION_MAX} characters")
    return found


def _expiry(fields: Fields) -> float | None:
    """Unix time. Raises `Failure` 400."""
    ttl_s = fields.duration_s("expirationttl")
    text = fields.text("expirationtime")
    if text and ttl_s is not None:
        raise Failure(400, "Expiration TTL and Expiration Time cannot both be set")
    now_s = time.time()
    if text:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise Failure(400, f"Request decode failed: {text[:40]!r} is no time") from None
        ttl_s = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now_s
    if ttl_s is None:
        return None
    least_s, most_s = LIFE_S
    if not least_s - 1 <= ttl_s <= most_s:
        raise Failure(400, "Expiration is between 1m0s and 24h0m0s from now")
    return now_s + ttl_s


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _hash(*parts: str) -> str:
    """Of what may change: another one, another content."""
    content = msgspec.json.encode(parts)
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _once(found: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(found))


def hash_or_nothing(secret: Any) -> str:
    """Of a secret that came with a body; "" for one that was hidden or is not there."""
    return hash_of(secret) if isinstance(secret, str) and secret not in ("", HIDDEN) else ""
