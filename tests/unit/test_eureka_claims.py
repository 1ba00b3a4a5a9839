"""Who may register and change what under names that anybody may choose."""

from typing import Any

import msgspec
import pytest

from netd.model.directory import EndpointEntry, Entry, ZoneEntry
from netd.naming.values import Scope
from netd.registry.eureka.claims import Claims
from netd.registry.eureka.clients import Clients
from netd.registry.eureka.objects import from_object
from netd.registry.eureka.registrations import service_id
from netd.registry.eureka.view import View
from netd.registry.http.call import Failure
from netd.registry.http.caller import Caller, Callers
from tests.unit.eureka_lab import Clock, Kept, instance_object

NAME = ("ORDERS", "one")
OWN = ("10.20.0.2", "10.30.0.2")  # of a container that is on blue and on red
BOTH = Caller(OWN[0], Scope(frozenset({"blue", "red"})), OWN)
HOST = Caller("127.0.0.1", Scope(None), None)


class World:
    def __init__(self) -> None:
        self.view = View(Clock())
        callers = Callers(lambda source: BOTH.scope)
        self.claims = Claims(self.view, callers, Clients())
        zone = ZoneEntry(zone="netd.internal", node="host-1", node_id="0" * 16)
        entry = Entry(revision=1, kind="zone", zone=zone)
        callers.change(None, entry)
        self.view.change(None, entry)
        for ident, network, address in (("e1", "blue", OWN[0]), ("e2", "red", OWN[1])):
            endpoint = EndpointEntry(
                network=network, container_id="c", name="c", node="host-1", addresses=(address,)
            )
            entry = Entry(revision=1, kind="endpoint", id=ident, endpoint=endpoint)
            callers.change(None, entry)

    def put(self, ident: str, address: str, network: str, **more: Any) -> None:
        instance = instance_object(app=NAME[0], instanceId=NAME[1], ipAddr=address)
        extra = {"instance": instance, "ownStatus": "UP", "stamp": 5}
        lease = {"id": "eureka-lease", "name": "lease", "kind": "ttl", "status": "passing"}
        fields = {
            "id": ident,
            "name": "orders",
            "node": "host-1",
            "address": address,
            "network": network,
            "checks": [lease],
            "extra": {"eureka": extra},
            **more,
        }
        service = msgspec.convert(fields, Kept)
        self.view.change(None, Entry(revision=2, kind="service", id=ident, service=service))

    def key_of(self, address: str) -> tuple[str, str, str]:
        instance = instance_object(app=NAME[0], instanceId=NAME[1], ipAddr=address)
        return self.claims.key_of(from_object(instance))

    def refuses(self, network: str, caller: Caller = BOTH) -> bool:
        try:
            self.claims.demand_free((*NAME, network), caller)
        except Failure as failure:
            assert failure.status == 403  # noqa: PT017
            return True
        return False


def test_an_instance_is_in_the_network_of_its_endpoint() -> None:
    world = World()
    assert world.key_of(OWN[0]) == (*NAME, "blue")
    assert world.key_of(OWN[1]) == (*NAME, "red")
    assert world.key_of("192.0.2.9") == (*NAME, "")


def test_or_where_it_was_before() -> None:
    world = World()
    world.put("a", "10.20.0.77", "blue")
    assert world.key_of("::ffff:10.20.0.77") == (*NAME, "blue")
    assert world.key_of("10.20.0.78") == (*NAME, "")


@pytest.mark.parametrize(
    ("network", "refused"),
    [("blue", {"blue", ""}), ("red", {"red", ""}), ("green", set()), ("", {"", "blue", "red"})],
)
def test_what_others_have_keeps_away_who_would_be_shown_instead(
    network: str, refused: set[str]
) -> None:
    world = World()
    world.put("a", "10.99.0.1", network)
    assert {each for each in ("", "blue", "red") if world.refuses(each)} == refused
    assert not any(world.refuses(each, HOST) for each in ("", "blue", "red"))


def test_whose_it_is_may_register_it_again() -> None:
    world = World()
    world.put("a", OWN[0], "blue")
    assert not world.refuses("blue")


def test_what_is_meant_is_ones_own_if_there_is_such() -> None:
    world = World()
    assert world.claims.meant(NAME, BOTH) == (*NAME, "")
    world.put("a", "10.99.0.1", "")
    world.put("b", "10.20.0.9", "blue")
    world.put("c", OWN[1], "red")
    world.put("d", "10.40.0.1", "green")
    assert world.claims.meant(NAME, BOTH) == (*NAME, "red")
    assert world.claims.meant(NAME, HOST) == (*NAME, "")
    nobody = Caller("10.40.0.9", Scope(frozenset({"green"})), ("10.40.0.9",))
    assert world.claims.meant(NAME, nobody) == (*NAME, "")


def test_the_id_of_a_service_stays_what_it_is() -> None:
    world = World()
    assert world.claims.ident((*NAME, "red")) == service_id(*NAME, "host-1", "red")
    world.put("as-it-was", OWN[1], "red")
    assert world.claims.ident((*NAME, "red")) == "as-it-was"
    world.put("afar", OWN[0], "blue", node="host-2")
    assert world.claims.ident((*NAME, "blue")) == service_id(*NAME, "host-1", "blue")
