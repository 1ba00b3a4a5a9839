"""Who may hold a connection, and how many may be begun."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from netd.cluster import admission
from netd.cluster.admission import Admission, Place
from netd.cluster.allowance import Allowance


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def place(host: str = "a", evicted: list[str] | None = None) -> Place:
    log = [] if evicted is None else evicted
    return Place(host, lambda: log.append(host))


def test_a_burst_then_so_many_a_second() -> None:
    allowance = Allowance(10.0, 5.0, 0.0)
    assert [allowance.take(0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not allowance.take(0.05)
    assert allowance.take(0.11)
    assert not allowance.is_full(0.5)
    assert allowance.is_full(0.7)
    assert [allowance.take(1000.0) for _ in range(7)] == [True] * 5 + [False] * 2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_no_pattern_gets_more_than_burst_and_rate(steps: list[float]) -> None:
    allowance = Allowance(10.0, 5.0, 0.0)
    now_s, taken = 0.0, 0
    for step in steps:
        now_s += step
        taken += allowance.take(now_s)
    assert taken <= 5 + 10 * now_s + 1e-6


def test_one_address_does_not_use_up_the_rate_of_the_others() -> None:
    counters: Counter[str] = Counter()
    clock = Clock()
    door = Admission(counters, clock)
    let_in = sum(door.admits("flood") for _ in range(1000))
    assert let_in == admission.BURST_OF_ADDRESS
    assert counters["stream_refused_rate"] == 1000 - let_in
    assert door.admits("member")
    clock.now_s += 1
    assert sum(door.admits("flood") for _ in range(1000)) == admission.RATE_OF_ADDRESS_PER_S


def test_all_addresses_together_have_a_rate_and_no_more_memory() -> None:
    door = Admission(Counter(), clock := Clock())
    let_in = sum(door.admits(f"host {n}") for n in range(3 * admission.ADDRESSES_MAX))
    assert let_in == admission.BURST
    assert len(door._rate_of_host) <= admission.ADDRESSES_MAX
    clock.now_s += 3600
    assert door.admits("late")
    assert len(door._rate_of_host) == 1  # those as good as new are forgotten


def test_the_longest_waiting_stranger_makes_room() -> None:
    counters: Counter[str] = Counter()
    door = Admission(counters, Clock())
    evicted: list[str] = []
    places = [place(f"h{n}", evicted) for n in range(admission.STRANGERS_MAX + 2)]
    for held in places:
        door.enter(held)
    assert evicted == ["h0", "h1"]
    assert door.strangers == admission.STRANGERS_MAX
    assert counters["stream_refused_evicted"] == 2
    door.leave(places[0])  # it has gone before
    assert door.strangers == admission.STRANGERS_MAX


def test_members_have_places_of_their_own_each_so_many() -> None:
    door = Admission(Counter(), Clock())
    for n in range(admission.CONNECTIONS_OF_MEMBER_MAX + 1):
        held = place()
        door.enter(held)
        assert door.prove(held, b"node") is (n < admission.CONNECTIONS_OF_MEMBER_MAX)
    assert door.members == admission.CONNECTIONS_OF_MEMBER_MAX
    assert door.strangers == 1  # the refused one, until its connection ends


def test_all_members_together_have_so_many() -> None:
    door = Admission(Counter(), Clock())
    places = []
    for n in range(admission.MEMBERS_MAX + 1):
        held = place(f"h{n}")
        door.enter(held)
        places.append(held)
        assert door.prove(held, b"%d" % n) is (n < admission.MEMBERS_MAX)
    for held in places:
        door.leave(held)
        door.leave(held)
    assert (door.strangers, door.members) == (0, 0)
    assert not door._of_host
    assert not door._of_node


def test_one_address_has_so_many_strangers() -> None:
    counters: Counter[str] = Counter()
    clock = Clock()
    door = Admission(counters, clock)
    for _ in range(admission.STRANGERS_OF_ADDRESS_MAX):
        assert door.admits("a")
        door.enter(place("a"))
    assert not door.admits("a")
    assert door.admits("b")
    assert counters["stream_refused_address"] == 1
