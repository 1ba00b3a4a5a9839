"""`/v1/acl/policy`: rules that tokens have, by names; and what there is none of."""

from collections.abc import Sequence

from aiohttp import web
from msgspec.structs import replace

from netd.registry.consul.acl_document import BUILT_IN, Document, Policy, Token, new_id
from netd.registry.consul.acl_forms import BODY_MAX, answer, none_such, policy_of, policy_row
from netd.registry.consul.acl_store import Documents
from netd.registry.consul.fields import decoded
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import Call, Failure
from netd.registry.http.routing import Route


class Policies:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def routes(self) -> Sequence[Route]:
        return (
            Route("/v1/acl/policy", {"PUT": self.create_policy}),
            Route("/v1/acl/policy/name/", {"GET": self.policy_called}),
            Route(
                "/v1/acl/policy/",
                {"GET": self.policy, "PUT": self.update_policy, "DELETE": self.delete_policy},
            ),
            Route("/v1/acl/policies", {"GET": self.policies}),
            Route("/v1/acl/roles", {"GET": self.nothing}),
            Route("/v1/acl/auth-methods", {"GET": self.nothing}),
            Route("/v1/acl/binding-rules", {"GET": self.nothing}),
        )

    async def create_policy(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("acl", "", "write")
        fields = decoded(await call.body(BODY_MAX))
        if fields.text("id"):
            raise Failure(400, "Cannot specify the ID when creating a new policy")
        return await self._put_policy(policy_of(fields, new_id()), is_new=True)

    async def update_policy(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("acl", "", "write")
        fields = decoded(await call.body(BODY_MAX))
        policy_id = call.rest.lower()
        if fields.text("id") and fields.text("id").lower() != policy_id:
            raise Failure(400, "Policy ID in URL and payload do not match")
        return await self._put_policy(policy_of(fields, policy_id), is_new=False)

    async def _put_policy(self, policy: Policy, *, is_new: bool) -> web.StreamResponse:
        def change(document: Document) -> Document:
            before = document.policy(policy.id)
            if before is None and not is_new:
                raise none_such("policy")
            if before in BUILT_IN:
                raise Failure(400, f"Changing the builtin {before.name} policy is not permitted")
            namesake = document.policy_called(policy.name)
            if namesake is not None and namesake.id != policy.id:
                raise Failure(
                    400, f"Invalid Policy: A Policy with Name {policy.name!r} already exists"
                )
            after = policy
            if before is not None:
                dated = replace(policy, create_index=before.create_index)
                if replace(dated, modify_index=before.modify_index) == before:
                    return document
                after = dated
            others = tuple(each for each in document.policies if each.id != policy.id)
            return replace(document, policies=(*others, after))

        document = await self._documents.change(change)
        found = document.policy(policy.id)
        return respond(json_body(policy_row(found or policy)), {})

    async def delete_policy(self, call: Call) -> web.StreamResponse:
        """Tokens that have it are left without."""
        call.caller.rights.demand("acl", "", "write")
        policy_id = call.rest.lower()

        def change(document: Document) -> Document:
            policy = document.policy(policy_id)
            if policy is None:
                raise none_such("policy")
            if policy in BUILT_IN:
                raise Failure(
                    400, f"Delete operation not permitted on the builtin {policy.name} policy"
                )
            left = tuple(each for each in document.policies if each.id != policy_id)
            tokens = tuple(_without(each, policy_id) for each in document.tokens)
            return replace(document, policies=left, tokens=tokens)

        await self._documents.change(change)
        return respond(json_body(True), {})

    async def policy(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("acl", "", "read")
        return _one(call, (await self._documents.read()).policy(call.rest.lower()))

    async def policy_called(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("acl", "", "read")
        return _one(call, (await self._documents.read()).policy_called(call.rest))

    async def policies(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("acl", "", "read")
        found = sorted((await self._documents.read()).all_policies(), key=lambda each: each.name)
        index = max(each.modify_index for each in found)
        return answer(call, [policy_row(each, rules=False) for each in found], index)

    async def nothing(self, call: Call) -> web.StreamResponse:
        """Of roles and ways to log in there are none."""
        call.caller.rights.demand("acl", "", "read")
        return answer(call, [], 1)


def _one(call: Call, policy: Policy | None) -> web.StreamResponse:
    if policy is None:
        raise none_such("policy")
    return answer(call, policy_row(policy), policy.modify_index)


def _without(token: Token, policy_id: str) -> Token:
    if policy_id not in token.policies:
        return token
    left = tuple(each for each in token.policies if each != policy_id)
    return replace(token, policies=left, modify_index=0)
