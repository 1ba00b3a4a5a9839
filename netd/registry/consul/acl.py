"""Access control of Consul's API: tokens, what they allow, and the calls about them."""

from collections.abc import Callable, Iterator, Sequence

from aiohttp import web

from netd.model.directory import Count, RegistrySettings
from netd.registry.consul.acl_gate import Gate
from netd.registry.consul.acl_policies import Policies
from netd.registry.consul.acl_store import AclStore, AclTable, Documents
from netd.registry.consul.acl_tokens import Tokens
from netd.registry.consul.key_watches import KeyWatches
from netd.registry.consul.keys_api import KeysApi
from netd.registry.consul.options import check_datacenter
from netd.registry.consul.parts import Parts
from netd.registry.http.call import Call, Failure
from netd.registry.http.routing import Handler, Route


class Acl:
    """By keys, which `api` reads and changes. `settings` are those of now. `gate` is for
    `ConsulApi`, which has each call pass it.
    """

    def __init__(
        self, api: KeysApi, watches: KeyWatches, settings: Callable[[], RegistrySettings]
    ) -> None:
        store = AclStore(api)
        self.table = AclTable(store, watches)
        self.gate = Gate(self.table, settings)
        self._documents = Documents(store, self.table)

    async def close(self) -> None:
        await self.table.close()

    def counts(self) -> Iterator[Count]:
        yield Count(name="consul_acl_unknown_tokens_total", value=self.gate.denied)

    def routes(self, parts: Parts) -> Sequence[Route]:
        """For `ConsulApi`, which has the parts."""
        routes = (*Tokens(self._documents, self.gate).routes(), *Policies(self._documents).routes())
        return [self._when_on(route, parts.datacenter) for route in routes]

    def _when_on(self, route: Route, datacenter: str) -> Route:
        def only_then(handler: Handler) -> Handler:
            async def answer(call: Call) -> web.StreamResponse:
                if not self.gate.is_on:
                    raise Failure(401, "ACL support disabled")
                check_datacenter(call.target, datacenter)
                return await handler(call)

            return answer

        return route._replace(methods={each: only_then(h) for each, h in route.methods.items()})
