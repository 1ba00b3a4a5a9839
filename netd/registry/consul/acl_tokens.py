"""`/v1/acl/bootstrap` and `/v1/acl/token`: the first token, and those that it makes."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from msgspec.structs import replace

from netd.model.consul_token import hash_of
from netd.registry.consul.acl_document import (
    ANONYMOUS,
    MANAGEMENT,
    SHOWN_BY_NOBODY,
    Document,
    Token,
    new_id,
)
from netd.registry.consul.acl_forms import (
    BODY_MAX,
    HIDDEN,
    NO_STORE,
    answer,
    hash_or_nothing,
    id_of,
    none_such,
    same_but_for_times,
    token_of,
    token_row,
)
from netd.registry.consul.acl_gate import Gate, Grant, secret_of
from netd.registry.consul.acl_store import Documents
from netd.registry.consul.fields import Fields, decoded
from netd.registry.consul.forms import Row
from netd.registry.consul.registrar import demand_host
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import Call, Failure
from netd.registry.http.routing import Route

_CLONE: Final = "/clone"


class Tokens:
    def __init__(self, documents: Documents, gate: Gate) -> None:
        self._documents = documents
        self._gate = gate

    def routes(self) -> Sequence[Route]:
        return (
            Route("/v1/acl/bootstrap", {"PUT": self.bootstrap}),
            Route("/v1/acl/token", {"PUT": self.create_token}),
            Route("/v1/acl/token/self", {"GET": self.own_token}),
            Route(
                "/v1/acl/token/",
                {"GET": self.token, "PUT": self.update_token, "DELETE": self.delete_token},
            ),
            Route("/v1/acl/tokens", {"GET": self.tokens}),
        )

    # The first token

    async def bootstrap(self, call: Call) -> web.StreamResponse:
        """A token that may do everything, once for all hosts."""
        demand_host(call.caller)
        body = await call.body(BODY_MAX)
        fields = decoded(body) if body.strip() else Fields({})
        secret = id_of(fields, "bootstrapsecret", "BootstrapSecret")
        token = Token(
            accessor=new_id(),
            secret_hash=hash_of(secret),
            description="Bootstrap Token (Global Management)",
            policies=(MANAGEMENT,),
        )
        fresh = token_of(Fields({}), Document(), token.accessor, token.secret_hash)
        token = replace(token, created_s=fresh.created_s)
        configured = bool(self._gate.settings().consul_acl_token)

        def change(document: Document) -> Document:
            if document.bootstrapped or configured:
                index = max((each.modify_index for each in document.tokens), default=1)
                raise Failure(
                    403,
                    f"Permission denied: ACL bootstrap no longer allowed (reset index: {index})",
                )
            return replace(document, tokens=(*document.tokens, token), bootstrapped=True)

        document = await self._documents.change(change)
        row = _shown(document, token.accessor, secret)
        return respond(json_body({"ID": secret, **row}), NO_STORE)

    # Tokens

    async def create_token(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("acl", "", "write")
        fields = decoded(await call.body(BODY_MAX))
        accessor = id_of(fields, "accessorid", "AccessorID")
        secret = id_of(fields, "secretid", "SecretID")

        def change(document: Document) -> Document:
            token = token_of(fields, document, accessor, hash_of(secret))
            return _with_new(document, token)

        document = await self._documents.change(change)
        return respond(json_body(_shown(document, accessor, secret)), NO_STORE)

    async def update_token(self, call: Call) -> web.StreamResponse:
        if call.rest.endswith(_CLONE):
            return await self._clone(call, call.rest.removesuffix(_CLONE))
        call.caller.rights.demand("acl", "", "write")
        fields = decoded(await call.body(BODY_MAX))
        accessor = call.rest.lower()
        if fields.text("accessorid") and fields.text("accessorid").lower() != accessor:
            raise Failure(400, "Token Accessor ID in URL and payload do not match")

        def change(document: Document) -> Document:
            before = _demanded(document, accessor)
            given = fields.text("secretid")
            if accessor != ANONYMOUS and hash_or_nothing(given) not in ("", before.secret_hash):
                raise Failure(400, "Changing a token's SecretID is not permitted")
            after = token_of(fields, document, accessor, before.secret_hash)
            if after.expires_s is not None:
                raise Failure(400, "Cannot change expiration of a token")
            after = replace(after, created_s=before.created_s, expires_s=before.expires_s)
            after = replace(after, local=before.local, create_index=before.create_index)
            if same_but_for_times(before, after):
                return document
            others = tuple(each for each in document.tokens if each.accessor != accessor)
            return replace(document, tokens=(*others, after))

        document = await self._documents.change(change)
        return respond(json_body(_shown(document, accessor, HIDDEN)), {})

    async def _clone(self, call: Call, accessor: str) -> web.StreamResponse:
        call.caller.rights.demand("acl", "", "write")
        body = await call.body(BODY_MAX)
        fields = decoded(body) if body.strip() else Fields({})
        clone, secret = new_id(), new_id()

        def change(document: Document) -> Document:
            before = _demanded(document, accessor.lower())
            if before.accessor == ANONYMOUS:
                raise Failure(400, "Cloning the anonymous token is not permitted")
            asked = token_of(fields, document, clone, hash_of(secret))
            token = replace(
                before,
                accessor=clone,
                secret_hash=asked.secret_hash,
                description=asked.description or before.description,
                created_s=asked.created_s,
                create_index=0,
                modify_index=0,
            )
            return _with_new(document, token)

        document = await self._documents.change(change)
        return respond(json_body(_shown(document, clone, secret)), NO_STORE)

    async def delete_token(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("acl", "", "write")
        accessor = call.rest.lower()
        if accessor == ANONYMOUS:
            raise Failure(400, "Delete operation not permitted on the anonymous token")
        grant = call.caller.rights
        if isinstance(grant, Grant) and grant.token.accessor == accessor:
            raise Failure(400, "Deletion of the request's authorization token is not permitted")

        def change(document: Document) -> Document:
            left = tuple(each for each in document.tokens if each.accessor != accessor)
            return replace(document, tokens=left)

        await self._documents.change(change)
        return respond(json_body(True), {})

    async def token(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("acl", "", "read")
        document = await self._documents.read()
        token = _demanded(document, call.rest.lower())
        return answer(call, token_row(token, document), token.modify_index)

    async def own_token(self, call: Call) -> web.StreamResponse:
        """What the caller shows tells enough: nothing else is needed."""
        grant = call.caller.rights
        if not isinstance(grant, Grant):
            raise Failure(401, "ACL support disabled")
        document = self._gate.table.document or Document()
        secret = secret_of(call) or SHOWN_BY_NOBODY
        row = token_row(grant.token, document, secret)
        return answer(call, row, grant.token.modify_index)

    async def tokens(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("acl", "", "read")
        policy, service = call.target.first("policy"), call.target.first("servicename")
        document = await self._documents.read()
        found = [
            each
            for each in sorted(document.all_tokens(), key=lambda each: each.accessor)
            if (not policy or policy in each.policies) and (not service or service in each.services)
        ]
        index = max((each.modify_index for each in found), default=1)
        return answer(call, [token_row(each, document) for each in found], index)


def _shown(document: Document, accessor: str, secret: str) -> Row:
    return token_row(_demanded(document, accessor), document, secret)


def _with_new(document: Document, token: Token) -> Document:
    """Raises `Failure` for an id that is in use."""
    for each in document.tokens:
        if each.accessor == token.accessor:
            raise Failure(400, "Invalid Token: AccessorID is already in use")
        if each.secret_hash == token.secret_hash:
            raise Failure(400, "Invalid Token: SecretID is already in use")
    return replace(document, tokens=(*document.tokens, token))


def _demanded(document: Document, accessor: str) -> Token:
    token = document.token(accessor)
    if token is None:
        raise none_such("token")
    return token
