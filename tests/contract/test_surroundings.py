"""Facts, ports and events."""

from netd.engine.interfaces import Trigger
from netd.plan.firewall import ruleset
from netd.plan.objects import Macvlan, SetElement
from netd.plan.ports import HeldPort
from tests.contract.lab import Lab
from tests.contract.test_lifecycles import BLUE
from tests.contract.test_obstacles import NETWORK, interior

WEB = HeldPort(protocol="tcp", family=4, address="127.0.0.1", port=8080)
WEB_ANY = HeldPort(protocol="tcp", family=4, address="", port=8080)
WEB6 = HeldPort(protocol="tcp", family=6, address="::1", port=8080)
DNS = HeldPort(protocol="udp", family=4, address="127.0.0.1", port=8053)


async def test_facts_tell_own_links_from_others(lab: Lab) -> None:
    box = await lab.container()
    lab.world.add_link("br-other")
    await lab.converge(*NETWORK, *interior(box))
    lab.world.add_route("198.51.100.0/24", "br-other")
    facts = await lab.kernel.facts()
    assert facts.node == "node-1"
    seen = {link.name: (link.kind, link.ours, link.master) for link in facts.links}
    assert seen["nd-blue"] == ("bridge", True, None)
    assert seen["nv1"] == ("veth", True, "nd-blue")
    assert seen["br-other"] == ("bridge", False, None)
    assert {("nd-blue", "10.20.0.1/24"), ("nd-blue", "fd20::1/64")} <= {
        (address.link, address.address) for address in facts.addresses
    }
    assert ("198.51.100.0/24", "br-other") in {
        (route.destination, route.link) for route in facts.routes
    }
    indexes = [link.index for link in facts.links]
    assert len(set(indexes)) == len(indexes)


async def test_held_ports_are_held_until_released(lab: Lab) -> None:
    kernel = lab.kernel
    assert kernel.hold_ports([WEB, WEB6, DNS]) == []
    assert kernel.busy_ports([WEB, WEB6, DNS]) == [WEB, WEB6, DNS]
    kernel.release_ports([WEB, DNS])
    assert kernel.busy_ports([WEB, WEB6, DNS]) == [WEB6]
    kernel.release_ports([WEB6])
    assert kernel.busy_ports([WEB, WEB6, DNS]) == []


async def test_all_ports_or_none(lab: Lab) -> None:
    lab.world.listen(WEB)
    assert lab.kernel.hold_ports([DNS, WEB, WEB6]) == [WEB]
    assert lab.kernel.busy_ports([DNS, WEB, WEB6]) == [WEB]


async def test_a_port_of_all_addresses_clashes_with_one_of_one(lab: Lab) -> None:
    lab.world.listen(WEB)
    assert lab.kernel.hold_ports([WEB_ANY]) == [WEB_ANY]
    assert lab.kernel.busy_ports([WEB_ANY, WEB6]) == [WEB_ANY]


async def test_looking_for_busy_ports_holds_none(lab: Lab) -> None:
    assert lab.kernel.busy_ports([WEB, DNS]) == []
    lab.world.listen(WEB)
    lab.world.listen(DNS)
    assert lab.kernel.busy_ports([WEB, DNS]) == [WEB, DNS]


async def test_without_flows_none_is_forgotten(lab: Lab) -> None:
    assert await lab.kernel.flush_conntrack([DNS]) == 0


async def test_changes_by_others_are_told(lab: Lab) -> None:
    box = await lab.container()
    await lab.converge(*NETWORK, *interior(box), ruleset(forward_guard=False))

    with lab.triggers() as triggers:
        lab.world.set_link("nv1", master="")
        seen = await triggers.until(lambda t: (t.kind, t.name, t.master) == ("link", "nv1", None))
        assert (seen.verb, seen.host) == ("new", True)
        lab.world.delete_address("nd-blue", "10.20.0.1/24")
        seen = await triggers.until(lambda t: t.kind == "address" and t.verb == "delete")
        assert (seen.name, seen.host) == ("10.20.0.1/24", True)
        lab.world.flush_ruleset()
        await triggers.until(lambda t: t.kind == "ruleset")
        lab.world.delete_link("nd-blue")
        await triggers.until(lambda t: (t.kind, t.verb, t.name) == ("link", "delete", "nd-blue"))


async def test_changes_inside_are_told_with_an_id_that_an_observation_explains(lab: Lab) -> None:
    box = await lab.container()
    everything = [*NETWORK, *interior(box)]
    await lab.converge(*everything)
    with lab.triggers() as triggers:
        lab.world.delete_route("0.0.0.0/0", "eth0", box)
        seen = await triggers.until(lambda t: t.kind == "route" and t.verb == "delete")
    assert (seen.name, seen.host) == ("0.0.0.0/0", False)
    assert (await lab.observe(*everything)).nsids[seen.nsid] == {"nv1"}


async def test_changes_inside_are_told_where_only_a_macvlan_leads(lab: Lab) -> None:
    box = await lab.container()
    lab.world.add_link("parent0")
    mac = "02:00:00:00:00:09"
    link = Macvlan(
        ns=box, owner="e1", name="eth0", mtu=1500, parent="parent0", mode="bridge", mac=mac
    )
    await lab.converge(link)
    with lab.triggers() as triggers:
        lab.world.delete_link("eth0", box)
        seen = await triggers.until(
            lambda t: (t.kind, t.name, t.verb) == ("link", "eth0", "delete")
        )
    assert not seen.host


async def test_no_trigger_after_the_watch_has_ended(lab: Lab) -> None:
    seen: list[Trigger] = []
    stop = lab.kernel.watch(seen.append)
    stop()
    with lab.triggers() as triggers:
        lab.world.add_link("br-other")
        await triggers.until(lambda t: t.name == "br-other")
    assert seen == []


async def test_elements_belong_to_whom_they_were_made_for(lab: Lab) -> None:
    element = SetElement(owner="net-1", set_name="bridges", element=("nd-blue",))
    await lab.converge(ruleset(forward_guard=False), element)
    assert (await lab.observe()).state[element.key] == element


async def test_links_belong_to_whom_they_were_made_for(lab: Lab) -> None:
    await lab.converge(BLUE)
    assert (await lab.observe()).state[BLUE.key] == BLUE
