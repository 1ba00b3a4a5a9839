"""What Consul tells of its servers, and of what netd has none of: fixed answers, mostly."""

from typing import Final

from aiohttp import web

from netd.registry.catalog.records import Node
from netd.registry.consul.acl_sight import Sight
from netd.registry.consul.agent_host import leader_of, place_of
from netd.registry.consul.fields import decoded
from netd.registry.consul.forms import Row
from netd.registry.consul.options import Options
from netd.registry.consul.parts import Parts
from netd.registry.consul.registrar import demand_host
from netd.registry.http.answers import text
from netd.registry.http.call import Call, Failure
from netd.registry.http.rights import Access
from netd.registry.http.routing import Handler, Route

_METHODS: Final = ("GET", "PUT", "POST", "DELETE")


class Cluster:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._catalog = parts.catalog

    def routes(self) -> list[Route]:
        def get(handler: Handler) -> dict[str, Handler]:
            return {"GET": handler}

        without_acls = dict.fromkeys(_METHODS, self.without_acls)
        return [
            Route("/", dict.fromkeys(_METHODS, self.root), bare=True),
            Route("/v1/status/leader", get(self.leader)),
            Route("/v1/status/peers", get(self.peers)),
            Route("/v1/coordinate/datacenters", get(self.datacenters)),
            Route("/v1/coordinate/nodes", get(self.coordinates)),
            Route("/v1/coordinate/node/", get(self.coordinate_of)),
            Route("/v1/coordinate/update", {"PUT": self.update_coordinate}),
            Route("/v1/operator/raft/configuration", get(self.raft)),
            Route("/v1/operator/autopilot/configuration", get(self.autopilot)),
            Route("/v1/operator/autopilot/health", get(self.autopilot_health)),
            Route("/v1/operator/keyring", dict.fromkeys(_METHODS, self.keyring)),
            Route("/v1/operator/usage", get(self.usage)),
            Route("/v1/acl/", without_acls),
            Route("/v1/agent/token/", without_acls),
        ]

    async def root(self, call: Call) -> web.StreamResponse:
        """And whatever has no route."""
        if call.rest:
            raise Failure(404, f"Invalid URL path: {call.target.path}")
        return text(200, "netd: this is Consul's HTTP API, at /v1/. netd's own has its own page.\n")

    async def without_acls(self, call: Call) -> web.StreamResponse:
        if not call.caller.rights.checked:
            raise Failure(401, "ACL support disabled")
        raise Failure(404, "Invalid URL path: of access control, netd has tokens and policies")

    # Status

    async def leader(self, call: Call) -> web.StreamResponse:
        return self._parts.reads.plain(call, leader_of(self._catalog.all_nodes()))

    async def peers(self, call: Call) -> web.StreamResponse:
        return self._parts.reads.plain(call, [place_of(node) for node in self._hosts()])

    # Coordinates

    async def datacenters(self, call: Call) -> web.StreamResponse:
        datacenter = self._parts.datacenter
        sight = Sight(call.caller.rights)
        rows = [
            {"Node": f"{each['Node']}.{datacenter}", "Coord": each["Coord"]}
            for each in self._coordinates(sight)
        ]
        value = [{"Datacenter": datacenter, "AreaID": "WAN", "Coordinates": rows}]
        return self._parts.reads.plain(call, value, sight=sight)

    async def coordinates(self, call: Call) -> web.StreamResponse:
        def make(options: Options, sight: Sight) -> list[Row]:
            return self._coordinates(sight)

        return await self._parts.reads.answer(call, "coordinates", make)

    async def coordinate_of(self, call: Call) -> web.StreamResponse:
        """404 also for a node that has not said where it is, as in Consul; and 403 for one that the
        caller may not see, whether there is such a node or not.
        """
        node = self._catalog.node(call.rest)
        call.caller.rights.demand("node", call.rest if node is None else node.name, "read")
        if node is None or self._parts.coordinates.of(node.name) is None:
            raise Failure(404, "")
        name = node.name

        def make(options: Options, sight: Sight) -> list[Row]:
            found = self._parts.coordinates.of(name)
            return [] if found is None or not sight.sees("node", name) else [found]

        return await self._parts.reads.answer(call, "coordinates", make)

    def _coordinates(self, sight: Sight) -> list[Row]:
        seen = sight.nodes(self._hosts())
        found = (self._parts.coordinates.of(node.name) for node in seen)
        return [each for each in found if each is not None]

    async def update_coordinate(self, call: Call) -> web.StreamResponse:
        """Taken, as Consul takes what it will not use either: netd measures for itself."""
        demand_host(call.caller)
        node = decoded(await call.body()).text("node")
        call.caller.rights.demand("node", node, "write")
        if self._catalog.node(node) is None:
            raise Failure(500, f"No such node {node[:80]!r}")
        return web.Response()

    # Operator

    async def raft(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("operator", "", "read")
        leader = leader_of(self._catalog.all_nodes())
        servers = [
            {
                "ID": node.node_id,
                "Node": node.name,
                "Address": place_of(node),
                "Leader": place_of(node) == leader,
                "ProtocolVersion": "3",
                "Voter": True,
                "LastIndex": self._catalog.indexes.last,
            }
            for node in self._hosts()
        ]
        return self._parts.reads.plain(call, {"Servers": servers, "Index": 0})

    async def autopilot(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("operator", "", "read")
        value = {
            "CleanupDeadServers": True,
            "LastContactThreshold": "200ms",
            "MaxTrailingLogs": 250,
            "MinQuorum": 0,
            "ServerStabilizationTime": "10s",
            "RedundancyZoneTag": "",
            "DisableUpgradeMigration": False,
            "UpgradeVersionTag": "",
            "CreateIndex": 1,
            "ModifyIndex": 1,
        }
        return self._parts.reads.plain(call, value)

    async def autopilot_health(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("operator", "", "read")
        leader = leader_of(self._catalog.all_nodes())
        servers = [
            {
                "ID": node.node_id,
                "Name": node.name,
                "Address": place_of(node),
                "SerfStatus": "alive",
                "Version": "",
                "Leader": place_of(node) == leader,
                "LastContact": "0s",
                "LastTerm": 1,
                "LastIndex": self._catalog.indexes.last,
                "Healthy": True,
                "Voter": True,
                "StableSince": "1970-01-01T00:00:00Z",
            }
            for node in self._hosts()
        ]
        value = {"Healthy": True, "FailureTolerance": 0, "Servers": servers}
        return self._parts.reads.plain(call, value)

    async def keyring(self, call: Call) -> web.StreamResponse:
        access: Access = "read" if call.method == "GET" else "write"
        call.caller.rights.demand("keyring", "", access)
        raise Failure(500, "Keyring is empty (encryption not enabled): netd keeps its own keys")

    async def usage(self, call: Call) -> web.StreamResponse:
        call.caller.rights.demand("operator", "", "read")
        instances = list(self._catalog.all(call.caller.scope))
        usage = {
            "Nodes": len(self._catalog.nodes),
            "Services": len({instance.key for instance in instances}) + 1,
            "ServiceInstances": len(instances) + len(self._hosts()),
            "ConnectServiceInstances": {},
            "BillableServiceInstances": len(instances),
        }
        value = {"Usage": {self._parts.datacenter: usage}, "Index": self._catalog.indexes.last}
        return self._parts.reads.plain(call, value)

    def _hosts(self) -> list[Node]:
        return [node for node in self._catalog.all_nodes() if not node.is_foreign]
