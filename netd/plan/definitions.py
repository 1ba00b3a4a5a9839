"""What an overlay network that is asked for is to be, beside those there are."""

import ipaddress
from collections.abc import Sequence

import msgspec

from netd.model.errors import Conflict
from netd.model.network import NetworkSpec, difference
from netd.model.overlay import Definition
from netd.plan.addresses import Taken
from netd.plan.context import Surroundings
from netd.plan.overlay import assign_vnis, define


def settle(
    spec: NetworkSpec,
    around: Surroundings,
    members: Sequence[str],
    known: Sequence[Definition],
    generation: int,
) -> Definition:
    """The one of `known` that is what is asked for, or a new definition; see `define`.

    `known` has all networks, the earliest first. Raises `Conflict` where one of them has the name
    and is another, or has the VNI or addresses that are asked for.
    """
    vnis = assign_vnis(known)
    for definition in known:
        if definition.name == spec.name:
            _check_same(definition, vnis[definition.id], spec)
            return definition
    _check_vni(spec, known, vnis)
    taken = [
        Taken(ipaddress.ip_network(subnet), f"network {definition.name!r} ({subnet})")
        for definition in known
        for subnet in definition.subnets
    ]
    around = msgspec.structs.replace(around, taken=[*around.taken, *taken])
    return define(spec, around, members, generation)


def with_vni(definition: Definition, known: Sequence[Definition]) -> Definition:
    """The same with the VNI that it has as the latest of all: then it keeps that."""
    vni = assign_vnis([*known, definition])[definition.id]
    return msgspec.structs.replace(definition, vni=vni)


def _check_same(definition: Definition, vni: int, spec: NetworkSpec) -> None:
    network = definition.network(vni, "")
    field = difference(network, spec)
    if field is not None:
        has = msgspec.json.encode(getattr(network, field)).decode()
        raise Conflict(
            f"network {spec.name!r} exists in the cluster with {field} {has}; choose another "
            "name, or delete it first",
            field=field,
        )


def _check_vni(spec: NetworkSpec, known: Sequence[Definition], vnis: dict[str, int]) -> None:
    if spec.vni is None:
        return
    holder = next((known_one for known_one in known if vnis[known_one.id] == spec.vni), None)
    if holder is not None:
        raise Conflict(
            f"vni {spec.vni} is that of network {holder.name!r}; choose another, or leave it out",
            field="vni",
        )
