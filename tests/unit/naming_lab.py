"""Directories with little in them, in the words of the tests of names."""

from typing import Any

import msgspec

from netd.model.directory import (
    EndpointEntry,
    Entry,
    NetworkEntry,
    NodeEntry,
    RegistrySettings,
    ZoneEntry,
)
from netd.model.service import CheckStatus, Service, Virtual, Weights
from netd.naming.directory import Directory
from netd.naming.values import Answer, Topics

ZONE = ZoneEntry(zone="netd.internal", node="node-1", node_id="n1")


def entry(kind: str, ident: str, value: msgspec.Struct | None) -> Entry:
    made = msgspec.convert({"revision": 1, "kind": kind, "id": ident}, Entry)
    return made if value is None else msgspec.structs.replace(made, **{kind: value})


def endpoint(
    network: str,
    name: str,
    *addresses: str,
    container: str = "",
    node: str = "node-1",
    aliases: tuple[str, ...] = (),
) -> EndpointEntry:
    return EndpointEntry(
        network=network,
        container_id=container or name,
        name=name,
        node=node,
        addresses=addresses,
        aliases=aliases,
    )


def service(
    name: str,
    address: str,
    port: int = 80,
    *,
    ident: str = "",
    status: CheckStatus = "passing",
    weight: int = 1,
    node: str = "node-1",
    **more: Any,
) -> Service:
    return Service(
        id=ident or name,
        name=name,
        node=node,
        address=address,
        port=port,
        status=status,
        weights=Weights(passing=weight, warning=weight),
        **more,
    )


class World:
    """A directory, and questions to it. `topics` are those of the last change."""

    def __init__(self, zone: ZoneEntry = ZONE) -> None:
        self.directory = Directory()
        self.topics: Topics = ()
        self.put("zone", "", zone)

    def put(self, kind: str, ident: str, value: msgspec.Struct | None) -> Topics:
        self.topics = self.directory.apply(entry(kind, ident, value))
        return self.topics

    def network(self, name: str, *subnets: str, **more: Any) -> None:
        self.put("network", name, NetworkEntry(subnets=subnets, **more))

    def attach(self, network: str, name: str, *addresses: str, **more: Any) -> None:
        self.put("endpoint", f"{name}@{network}", endpoint(network, name, *addresses, **more))

    def node(self, name: str, *addresses: str, node_id: str = "", **tags: str) -> None:
        ident = node_id or name.replace("node-", "n")
        self.put("node", name, NodeEntry(node_id=ident, addresses=addresses, tags=tags))

    def register(self, made: Service) -> Topics:
        return self.put("service", made.id, made)

    def virtual(self, name: str, *addresses: str) -> None:
        self.put("virtual", name, Virtual(id=name, addresses=addresses, ports=()))

    def answer(self, name: str, kind: str = "A", source: str | None = None) -> Answer:
        return self.directory.look_up(name, kind, self.directory.scope_of(source))

    def data(self, name: str, kind: str = "A", source: str | None = None) -> list[str]:
        return sorted(record.data for record in self.answer(name, kind, source).records)

    def rcode(self, name: str, kind: str = "A", source: str | None = None) -> str:
        return self.answer(name, kind, source).rcode

    def steps(self, name: str, kind: str = "A", source: str | None = None) -> str:
        found: list[str] = []
        self.directory.look_up(name, kind, self.directory.scope_of(source), found)
        return "\n".join(found)


def world_with_settings(**settings: Any) -> World:
    return World(
        ZoneEntry(
            zone="netd.internal",
            node="node-1",
            node_id="n1",
            settings=RegistrySettings(**settings),
        )
    )
