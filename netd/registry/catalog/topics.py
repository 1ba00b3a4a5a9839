"""What is looked at of the catalogue, by name.

Topics (see `Indexes`), each touched by what changes an answer about it and by nothing else:

    services          which names of services there are, with which tags
    instances         any instance, any check of it
    nodes             which nodes there are, and what is known of them
    service/NAME      instances of a service, without how they are
    health/NAME       the same, with how they and their nodes are
    node/NAME         a node, its instances and checks
    coordinates       how far the hosts are from this one
"""

from collections.abc import Iterable

from msgspec.structs import replace

from netd.model.service import Service
from netd.registry.catalog.records import Instance


def topics_of(old: Instance | None, new: Instance | None) -> set[str]:
    """What is answered otherwise when an instance changes; without what its node is part of."""
    changed = [each for each in (old, new) if each is not None]
    topics = {"instances"}
    if any(each.is_node for each in changed):
        return topics
    topics |= {"node/" + each.node.lower() for each in changed}
    defined = old is None or new is None or _definition(old) != _definition(new)
    for each in changed:
        topics.add("health/" + each.key)
        if defined:
            topics.add("service/" + each.key)
    if old is None or new is None or _listed(old) != _listed(new):
        topics.add("services")
    return topics


def topics_of_node(key: str, services: Iterable[str]) -> set[str]:
    """A node is part of what is answered about the services that are on it."""
    topics = {"nodes", "instances", "node/" + key, "service/consul", "health/consul"}
    for name in services:
        topics |= {"service/" + name, "health/" + name}
    return topics


def _definition(instance: Instance) -> Service:
    """What there is of an instance beside how it is."""
    return replace(instance.service, checks=(), status="passing", conditions=())


def _listed(instance: Instance) -> tuple[str, tuple[str, ...], str, str]:
    service = instance.service
    return instance.name, service.tags, service.network, instance.node
