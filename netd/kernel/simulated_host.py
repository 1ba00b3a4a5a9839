"""The host of the kernel in memory: from facts to objects, and back."""

from collections.abc import Callable, Iterator
from typing import Final

from msgspec.structs import replace

from netd.kernel.sight import link_fact
from netd.kernel.simulation import AnyObject, OtherLink, Simulation
from netd.plan.facts import AddressFact, Facts, LinkFact, RouteFact
from netd.plan.objects import HOST, Address, Link, Object, Route, Sysctl

BOOT_ID: Final = "7d1f0a52-5f0c-4c7e-9a44-0f3f7a6f2b11"

DEFAULT_FACTS: Final = Facts(
    node="node-1",
    boot_id=BOOT_ID,
    kernel="6.1.0",
    links=(LinkFact(index=2, name="eth0", mac="02:00:5e:00:00:01"),),
    addresses=(AddressFact(link="eth0", address="192.0.2.10/24"),),
    routes=(RouteFact(destination="0.0.0.0/0", link="eth0", gateway="192.0.2.1"),),
    nameservers=("192.0.2.53",),
    capabilities=frozenset(
        {"nft", "virtual", "bridge", "veth", "macvlan", "ipvlan", "ifb", "tbf", "vxlan"}
    ),
)


def host_objects(facts: Facts) -> Iterator[Object]:
    """What others have made on a host with these facts, but for `lo`."""
    for link in facts.links:
        if link.name != "lo":
            yield OtherLink(name=link.name, kind=link.kind, mac=link.mac, mtu=link.mtu)
    for address in facts.addresses:
        yield Address(link=address.link, address=address.address)
    for route in facts.routes:
        if route.link is not None:
            yield Route(
                destination=route.destination,
                link=route.link,
                gateway=route.gateway,
                table=route.table,
                metric=route.metric or None,
            )
    for name, value in facts.sysctls.items():
        yield Sysctl(name=name, value=value)


def host_facts(simulation: Simulation, index_of: Callable[[Link], int], others: Facts) -> Facts:
    """What the objects are as facts; `others` has all that is not made of objects."""
    return replace(
        others,
        links=tuple(
            link_fact(link, index=index_of(link), ours=link.key in simulation.tagged)
            for link in _on_host(simulation, Link)
        ),
        addresses=tuple(
            AddressFact(link=obj.link, address=obj.address) for obj in _on_host(simulation, Address)
        ),
        routes=tuple(
            RouteFact(
                destination=obj.destination,
                link=obj.link,
                gateway=obj.gateway,
                table=obj.table,
                metric=obj.metric or 0,
            )
            for obj in _on_host(simulation, Route)
        ),
        sysctls={obj.name: obj.value for obj in _on_host(simulation, Sysctl)},
    )


def _on_host(simulation: Simulation, kind: type[AnyObject]) -> Iterator[AnyObject]:
    return (obj for obj in simulation.of_type(kind) if obj.ns == HOST)
