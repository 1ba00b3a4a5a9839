"""Who calls, by the token that comes with the call, and what that allows."""

import time
from collections.abc import Callable, Hashable
from typing import Final

from aiohttp import web

from netd.model.consul_token import hash_of
from netd.model.directory import RegistrySettings
from netd.registry.consul.acl_document import (
    ANONYMOUS,
    MANAGEMENT,
    SHOWN_BY_NOBODY,
    Document,
    KnownRules,
    Token,
    rules_for,
)
from netd.registry.consul.acl_rules import Rules
from netd.registry.consul.acl_store import AclTable
from netd.registry.consul.key_reading import failures
from netd.registry.http.call import Call, Failure
from netd.registry.http.rights import ALL, Access, Resource, Rights
from netd.registry.http.routing import Handler, Route

# What clients ask before they have a token that is known, and tells nothing of anybody.
_OPEN: Final = ("/", "/v1/status/leader", "/v1/status/peers", "/v1/catalog/datacenters")
_DEFAULTS: Final[dict[str, Access]] = {"allow": "write", "deny": "deny"}
_CONFIGURED: Final = "00000000-0000-0000-0000-000000000003"  # accessor of the configured token


class Grant(Rights):
    """What a token allows. `renew` finds what it allows later."""

    checked = True

    def __init__(self, token: Token, rules: Rules, renew: Callable[[], Rights]) -> None:
        self.token = token
        self.named = token.accessor != ANONYMOUS
        self._rules = rules
        self._renew = renew

    @property
    def key(self) -> Hashable:
        return self._rules, self.named

    def may(self, resource: Resource, name: str, access: Access) -> bool:
        return self._rules.may(resource, name, access)

    def may_write_all(self, prefix: str) -> bool:
        return self._rules.may_write_all(prefix)

    def demand(self, resource: Resource, name: str, access: Access) -> None:
        if not self.may(resource, name, access):
            raise self._denied(resource, name, access)

    def demand_write_all(self, prefix: str) -> None:
        if not self.may_write_all(prefix):
            raise self._denied("key", prefix, "write")

    def renewed(self) -> Rights:
        return self._renew()

    def _denied(self, resource: Resource, name: str, access: Access) -> Failure:
        """As Consul says it."""
        accessor = self.token.accessor
        who = f"token with AccessorID '{accessor}'" if self.named else "anonymous token"
        what = f' on "{name}"' if name else ""
        told = f"Permission denied: {who} lacks permission '{resource}:{access}'{what}"
        if not self.named:
            told += ". The anonymous token is used implicitly when a request does not specify"
            told += " a token."
        return Failure(403, told)


class Gate:
    """Gives calls their rights before they are answered. `settings` are those of now."""

    def __init__(self, table: AclTable, settings: Callable[[], RegistrySettings]) -> None:
        self.table = table
        self.settings = settings
        self.denied = 0  # calls with a token that nobody knows
        self._rules = KnownRules()
        self._grants: dict[str, Grant] = {}  # by the hash of the secret
        self._made_of: tuple[Document | None, RegistrySettings] | None = None

    @property
    def is_on(self) -> bool:
        return self.settings().consul_acl

    @property
    def default_policy(self) -> str:
        """As the header of answers says it."""
        settings = self.settings()
        return settings.consul_acl_default if settings.consul_acl else "allow"

    def guarded(self, route: Route) -> Route:
        if route.path in _OPEN:
            return route
        methods = {method: self._guard(each) for method, each in route.methods.items()}
        return route._replace(methods=methods)

    def _guard(self, handler: Handler) -> Handler:
        async def answer(call: Call) -> web.StreamResponse:
            if self.is_on:
                call.caller = call.caller._replace(rights=await self.rights(secret_of(call)))
            return await handler(call)

        return answer

    async def rights(self, secret: str) -> Rights:
        """Those of who shows `secret`, "" for nothing. Raises `Failure` 403 for a token that is
        none, and 500 where it cannot be known whether it is one.
        """
        if not self.is_on:
            return ALL
        hashed = "" if secret in ("", SHOWN_BY_NOBODY) else hash_of(secret)
        found = self._find(hashed)
        if found is None:
            with failures():
                await self.table.known()
            found = self._find(hashed)
        if found is None:
            can_tell = await self.table.look_again()
            found = self._find(hashed)
            if found is None and not can_tell:
                raise Failure(500, "No cluster leader: tokens cannot be read")
        if found is None:
            self.denied += 1
            raise Failure(403, "ACL not found")
        return found

    def _find(self, hashed: str) -> Grant | None:
        """None: no such token is known."""
        document, settings = self.table.document, self.settings()
        made_of = self._made_of
        if made_of is None or made_of[0] is not document or made_of[1] is not settings:
            self._grants.clear()
        self._made_of = document, settings
        found = self._grants.get(hashed)
        if found is None:
            token = _token_of(hashed, document, settings)
            if token is None:
                return None
            found = self._grants[hashed] = self._grant(token, document, settings)
        return found if found.token.holds_at(time.time()) else None

    def _grant(self, token: Token, document: Document | None, settings: RegistrySettings) -> Grant:
        def renew() -> Rights:
            if not self.is_on:
                return ALL
            found = self._find(token.secret_hash)
            if found is None and self.table.document is None:
                raise Failure(500, "No cluster leader: tokens cannot be read")
            if found is None:
                raise Failure(403, "ACL not found")
            return found

        rules = rules_for(document or Document(), token)
        return Grant(token, self._rules.of(rules, _DEFAULTS[settings.consul_acl_default]), renew)


def _token_of(hashed: str, document: Document | None, settings: RegistrySettings) -> Token | None:
    if hashed and hashed == settings.consul_acl_token:
        return Token(
            accessor=_CONFIGURED,
            secret_hash=hashed,
            description="Configured by consul.acl_token_file",
            policies=(MANAGEMENT,),
        )
    if document is None:
        return None
    if not hashed:
        return document.token(ANONYMOUS)
    return next((each for each in document.tokens if each.secret_hash == hashed), None)


def secret_of(call: Call) -> str:
    """What is shown, "" for nothing."""
    shown = call.target.first("token") or call.header("X-Consul-Token")
    if shown:
        return shown
    scheme, _, rest = call.header("Authorization").strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""
