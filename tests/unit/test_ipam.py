"""Address pools: nobody gets what another has, and what is free is found."""

import ipaddress
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netd.model.errors import Conflict, Exhausted, Invalid
from netd.plan import ipam
from netd.plan.addresses import IPAddress
from netd.plan.ipam import AddressPool, Grant
from netd.plan.space import Space

QUARANTINE_S = 60.0


def pool(subnet: str = "10.0.0.0/29", gateway: str = "10.0.0.1", span: str = "") -> AddressPool:
    return AddressPool(
        ipaddress.ip_network(subnet),
        ipaddress.ip_address(gateway) if gateway else None,
        QUARANTINE_S,
        ipaddress.ip_network(span) if span else None,
    )


def last(text: str) -> IPAddress:
    return ipaddress.ip_address(f"10.0.0.{text}")


def test_addresses_in_order_without_the_reserved_ones() -> None:
    taken = [pool_.take(f"n{n}", f"e{n}", 0).address for pool_ in [pool()] for n in range(5)]
    assert taken == [last(str(n)) for n in range(2, 7)]


def test_without_gateway_its_place_is_free() -> None:
    assert pool(gateway="").take("n", "e", 0).address == last("1")


def test_ipv6_has_no_broadcast_address() -> None:
    six = AddressPool(
        ipaddress.ip_network("fd00::/126"), ipaddress.ip_address("fd00::1"), QUARANTINE_S
    )
    taken = [str(six.take(f"n{n}", f"e{n}", 0).address) for n in range(2)]
    assert taken == ["fd00::2", "fd00::3"]


def test_a_huge_subnet_costs_nothing() -> None:
    six = AddressPool(ipaddress.ip_network("fd00::/64"), None, QUARANTINE_S)
    assert str(six.take("n", "e", 0).address) == "fd00::1"


def test_nobody_else_gets_an_address_in_quarantine() -> None:
    four = pool()
    first = four.take("web", "e1", 0).address
    four.give_back(first, "web", 10)
    others = [four.take(f"n{n}", f"x{n}", 69) for n in range(4)]
    assert first not in [grant.address for grant in others]
    with pytest.raises(Exhausted, match="the first comes free in 1 s"):
        four.take("other", "e2", 69)
    assert four.take("other", "e2", 70).address == first


def test_its_last_name_gets_it_back_at_once() -> None:
    four = pool()
    first = four.take("web", "e1", 0).address
    four.give_back(first, "web", 10)
    assert four.take("web", "e2", 10).address == first
    assert four.take("web", "e3", 10).address != first  # a second one of the name


def test_of_two_addresses_of_a_name_the_latest_comes_back() -> None:
    four = pool()
    one, two = (four.take("web", f"e{n}", 0).address for n in range(2))
    four.give_back(two, "web", 1)
    four.give_back(one, "web", 2)
    assert four.take("web", "e3", 3).address == one


def test_the_longest_unused_comes_first() -> None:
    four = pool()
    taken = [four.take(f"n{n}", f"e{n}", 0).address for n in range(5)]
    for seconds, index in enumerate((3, 0, 4)):
        four.give_back(taken[index], f"n{index}", seconds)
    later = [four.take(f"m{n}", f"f{n}", 1000).address for n in range(3)]
    assert later == [taken[3], taken[0], taken[4]]


def test_never_used_ones_come_before_used_ones() -> None:
    four = pool()
    first = four.take("web", "e1", 0).address
    four.give_back(first, "web", 0)
    assert four.take("other", "e2", 1000).address == last("3")


def test_remembering_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipam, "REMEMBERED_MAX", 2)
    four = pool("10.0.0.0/24")
    for number in range(2):
        grant = four.take(f"n{number}", f"e{number}", 0)
        four.give_back(grant.address, f"n{number}", number)
    assert four.take("x", "e", 1000).address == last("2")


@pytest.mark.parametrize("text", ["0", "1", "7"])
def test_reserved_addresses_cannot_be_asked_for(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        pool().take_static(last(text), "e", "addresses[0]")
    assert caught.value.field == "addresses[0]"


def test_an_address_of_elsewhere_cannot_be_asked_for() -> None:
    with pytest.raises(Invalid):
        pool().take_static(last("9"), "e", "f")


def test_a_static_address_that_is_held_is_a_conflict() -> None:
    four = pool()
    four.take_static(last("3"), "e1", "f")
    four.take_static(last("3"), "e1", "f")  # who holds it may ask again
    with pytest.raises(Conflict, match="held by endpoint e1"):
        four.take_static(last("3"), "e2", "f")
    assert four.take("n", "e3", 0).address == last("2")
    assert four.take("n", "e4", 0).address == last("4")


def test_only_the_span_is_given_unasked() -> None:
    four = pool("10.0.0.0/24", "10.0.0.1", "10.0.0.128/30")
    asked = four.take_static(last("77"), "e0", "f")
    taken = [four.take(f"n{n}", f"e{n}", 0).address for n in range(4)]
    assert taken == [last(str(n)) for n in range(128, 132)]
    four.give_back(asked.address, "static", 0)
    with pytest.raises(Exhausted, match=r"10\.0\.0\.128/30"):
        four.take("n9", "e9", 1000)
    four.give_back(taken[2], "n2", 5)
    assert four.take("n9", "e9", 1000).address == taken[2]


def test_a_cancelled_grant_never_was() -> None:
    four = pool()
    for number in range(3):
        four.give_back(four.take(f"n{number}", f"e{number}", 0).address, f"n{number}", number)
    for grant in (
        four.take("n1", "x", 5),  # by its name
        four.take_static(last("4"), "x", "f"),
        four.take_static(last("6"), "x", "f"),
        four.take("new", "x", 5),
    ):
        four.cancel(grant)
    assert four.held == 0
    later = [four.take(f"m{n}", f"f{n}", 1000).address for n in range(5)]
    assert later == [last(text) for text in "56234"]


def test_only_what_the_host_owns_is_given() -> None:
    four = pool("10.0.0.0/24")
    four.own(Space.of(["10.0.0.8/31", "10.0.0.0/31"]))
    assert four.size == 2  # not the gateway
    assert [four.take(f"n{n}", f"e{n}", 0).address for n in range(2)] == [last("8"), last("9")]
    with pytest.raises(Exhausted, match=r"owns 4 addresses of .*, and none is free: 2 are"):
        four.take("n", "e", 0)
    with pytest.raises(Conflict, match="another host's to give"):
        four.take_static(last("77"), "e", "f")
    four.own(Space.of(["10.0.0.8/31", "10.0.0.4/32", "10.0.0.77/32"]))
    assert four.take_static(last("77"), "e3", "f").address == last("77")
    assert four.take("n", "e4", 0).address == last("4")  # below what was used before


def test_what_is_not_owned_any_more_is_forgotten_but_stays_held() -> None:
    four = pool("10.0.0.0/24")
    held, returned, kept = (four.take(f"n{n}", f"e{n}", 0).address for n in range(3))
    four.give_back(returned, "n1", 5)
    four.give_back(kept, "n2", 6)
    assert four.own(Space.of(["10.0.0.4/30"])) == [returned]
    assert four.remembered() == [kept]
    assert four.take_static(held, "e0", "f").address == held  # who has it may ask again
    four.give_back(held, "n0", 7)
    assert four.remembered() == [kept]
    four.own(Space.of(["10.0.0.0/28"]))
    assert four.take("n0", "e9", 8).address == held  # as if it had never been held


def test_frozen_addresses_are_not_given() -> None:
    four = pool("10.0.0.0/24")
    returned = four.take("n", "e", 0).address
    four.give_back(returned, "n", 0)
    four.own(Space.of(["10.0.0.0/29"]), frozen=Space.of(["10.0.0.0/30"]))
    assert four.take("n", "e", 1000).address == last("4")
    with pytest.raises(Conflict, match="claimed by another host"):
        four.take_static(last("3"), "e1", "f")
    four.own(Space.of(["10.0.0.0/29"]))
    assert four.take_static(last("3"), "e1", "f").address == last("3")


def test_what_is_available_is_counted() -> None:
    four = pool("10.0.0.0/28")  # 13 to give
    assert four.available(0) == 13
    grants = [four.take(f"n{n}", f"e{n}", 0) for n in range(10)]
    assert four.available(0) == 3
    assert four.has_more_than(2, 0)
    assert not four.has_more_than(3, 0)
    for number in range(5):
        four.give_back(grants[number].address, f"n{number}", 10.0 * number)
    assert four.available(59) == 3
    assert four.available(75) == 5
    assert four.has_more_than(4, 75)
    assert not four.has_more_than(5, 75)
    assert four.held_space() == Space.of(["10.0.0.7/32", "10.0.0.8/30"])
    assert four.used_space(75) == Space.of(["10.0.0.4/30", "10.0.0.8/30"])


class Pools(RuleBasedStateMachine):
    """Against a model that is slow and plain: who holds what, who had what when."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = AddressPool(IPv4Network("10.0.0.0/28"), IPv4Address("10.0.0.1"), QUARANTINE_S)
        self.now_s = 0.0
        self.held: dict[IPAddress, str] = {}
        self.had: dict[IPAddress, tuple[str, float]] = {}
        self.number = 0

    names = st.sampled_from(["a", "b", "c", "d"])
    offsets = st.integers(0, 15)

    def _expect(self, grant: Grant, name: str) -> None:
        assert grant.address not in self.held
        before = self.had.pop(grant.address, None)
        assert (grant.before and (grant.before.name, grant.before.released_s)) == before
        self.held[grant.address] = name

    def _free_for(self, name: str) -> set[IPAddress]:
        reserved = {IPv4Address(f"10.0.0.{n}") for n in (0, 1, 15)}
        return {
            address
            for address in IPv4Network("10.0.0.0/28")
            if address not in reserved | self.held.keys()
            and (
                address not in self.had
                or self.had[address][0] == name
                or self.now_s - self.had[address][1] >= QUARANTINE_S
            )
        }

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(name=names, cancel=st.booleans())
    def take(self, name: str, cancel: bool) -> None:
        self.number += 1
        free = self._free_for(name)
        try:
            grant = self.pool.take(name, f"e{self.number}", self.now_s)
        except Exhausted:
            # Of several addresses that a name had, only the latest is known as its own.
            assert all(self.had.get(address, ("", 0))[0] == name for address in free)
            return
        assert grant.address in free
        if cancel:
            self.pool.cancel(grant)
        else:
            self._expect(grant, name)

    @rule(name=names, offset=offsets, cancel=st.booleans())
    def take_static(self, name: str, offset: int, cancel: bool) -> None:
        self.number += 1
        address = IPv4Address(f"10.0.0.{offset}")
        try:
            grant = self.pool.take_static(address, f"e{self.number}", "f")
        except Conflict:
            assert address in self.held
        except Invalid:
            assert offset in (0, 1, 15)
        else:
            assert grant.address == address
            if cancel:
                self.pool.cancel(grant)
            else:
                self._expect(grant, name)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.held, key=int)))
        name = self.held.pop(address)
        self.pool.give_back(address, name, self.now_s)
        self.had[address] = (name, self.now_s)

    @rule()
    def restart(self) -> None:
        """What is stored is enough."""
        old = self.pool
        self.pool = AddressPool(old.subnet, IPv4Address("10.0.0.1"), QUARANTINE_S)
        for address, (name, released_s) in sorted(self.had.items(), key=lambda item: item[1][1]):
            self.pool.remember(address, name, released_s)
        for number, address in enumerate(self.held):
            self.pool.take_static(address, f"r{number}", "f")

    @invariant()
    def counts_agree(self) -> None:
        assert self.pool.held == len(self.held)
        remembered = self.pool.remembered()
        assert set(remembered) == self.had.keys()
        times = [self.had[address][1] for address in remembered]
        assert times == sorted(times)


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
