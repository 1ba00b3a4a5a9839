"""A host's ledger: what each step does, and that no address is ever owned twice."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
from msgspec.structs import replace

from netd.model.blocks import Ask, Epoch, Fence, Given, Ledger, Refused
from netd.model.network import Network
from netd.plan import ledger as ledgers
from netd.plan.blocks import reserved_in, whole_of
from netd.plan.space import NOWHERE, Space
from tests.unit.ledger_world import World

A, B, C, D = (f"{number:032x}" for number in range(1, 5))
SUBNET = "10.0.0.0/24"
NETWORK = Network(
    id="1" * 16,
    name="blue",
    driver="overlay",
    subnets=(SUBNET, "fd00::/64"),
    gateways=("10.0.0.1", "fd00::1"),
    seeds=(A, B),
)
FIRST = Epoch()

SCHEDULES = int(os.environ.get("NETD_LEDGER_SCHEDULES", "100000"))


def begun(member: str, epoch: Epoch = FIRST) -> Ledger:
    return ledgers.begin(NETWORK, member, epoch)


def asked(ledger: Ledger, donor: str, wanted: str = "") -> tuple[Ledger, Ask]:
    ledger, request = ledgers.request(ledger, donor, SUBNET, wanted)
    return ledger, ledgers.ask(ledger, request)


def given(
    donor: Ledger, to: str, ask: Ask, used: Space = NOWHERE
) -> tuple[Ledger, Given | Refused]:
    held = used | reserved_in(NETWORK)
    return ledgers.donate(donor, to, ask, used=held, held=held)


def four(ledger: Ledger) -> list[str]:
    """What it owns of IPv4."""
    return [prefix for prefix in ledger.prefixes if "." in prefix]


def prepared(fence: Fence, *of: Ledger) -> list[Ledger]:
    after = [ledgers.prepare(ledger, fence) for ledger in of]
    assert all(fence in ledger.fences for ledger in after)
    return after


# Asking and giving


def test_seeds_begin_with_their_share_and_others_with_nothing() -> None:
    assert begun(A).prefixes == ("10.0.0.0/25", "fd00::/65")
    assert begun(C).prefixes == ()
    assert begun(A, Epoch(number=1, id="x")).prefixes == ()  # others have gone on since


def test_a_block_moves_once_however_often_it_is_asked_for_and_given() -> None:
    donor, (asker, ask) = begun(B), asked(begun(C), B)
    donor, answer = given(donor, C, ask)
    assert isinstance(answer, Given)
    again, same = given(donor, C, ask)
    assert (again, same) == (donor, answer)
    asker = ledgers.receive(asker, ask.number, answer)
    assert four(asker) == [answer.prefix]
    assert asker.requests == ()
    assert ledgers.receive(asker, ask.number, answer) == asker
    assert ledgers.owned(donor) | ledgers.owned(asker) == ledgers.owned(begun(B))


def test_a_request_that_is_open_is_taken_up_again() -> None:
    asker, ask = asked(begun(C), B)
    assert asked(asker, B) == (asker, ask)
    asker, other = asked(asker, A)
    assert (other.number, other.floor) == (2, 2)  # the first is not A's business
    closed = ledgers.close(asker, ask.number)
    assert [request.donor for request in closed.requests] == [A]


def test_a_block_leaves_the_giver_half_of_what_is_free() -> None:
    used = Space.of(["10.0.0.128/26", "10.0.0.192/27"])
    donor, answer = given(begun(B), C, asked(begun(C), B)[1], used)
    assert answer == Given(prefix="10.0.0.240/29", epoch=FIRST)  # of 31, not the broadcast address
    assert "10.0.0.240/29" not in donor.prefixes


def test_an_address_that_is_asked_for_is_given_if_it_is_free() -> None:
    donor = begun(B)
    for wanted, why in (("10.0.0.5", "not-owned"), ("10.0.0.255", "held"), ("10.0.0.200", "held")):
        ask = asked(begun(C), B, wanted)[1]
        same, answer = given(donor, C, ask, Space.of(["10.0.0.200"]))
        assert (same, answer) == (donor, Refused(why=why, epoch=FIRST))  # type: ignore[arg-type]
    asker, ask = asked(begun(C), B, "10.0.0.201")
    donor, answer = given(donor, C, ask)
    assert isinstance(answer, Given)
    assert four(ledgers.receive(asker, ask.number, answer)) == ["10.0.0.201/32"]


def test_the_last_free_address_is_kept() -> None:
    used = ledgers.owned(begun(B)) - Space.of(["10.0.0.130"])
    _, answer = given(begun(B), C, asked(begun(C), B)[1], used)
    assert answer == Refused(why="short", epoch=FIRST)


def test_of_ipv6_the_block_is_a_large_one() -> None:
    asker, request = ledgers.request(begun(C), B, "fd00::/64")
    _, answer = given(begun(B), C, ledgers.ask(asker, request))
    assert isinstance(answer, Given)
    assert answer.prefix.endswith("/80")


def test_what_was_given_is_remembered_until_the_asker_is_further() -> None:
    asker, first = asked(begun(C), B)
    donor, answer = given(begun(B), C, first)
    assert isinstance(answer, Given)
    asker = ledgers.receive(asker, first.number, answer)
    asker, second = asked(asker, B)
    donor, _ = given(donor, C, second)
    assert [known.number for known in donor.donations] == [second.number]
    assert given(donor, C, first) == (donor, Refused(why="closed", epoch=FIRST))  # comes late


def test_a_refusal_closes_the_request() -> None:
    asker, ask = asked(begun(C), B)
    assert ledgers.receive(asker, ask.number, Refused(why="short")).requests == ()


def test_what_was_not_asked_for_is_not_taken() -> None:
    asker, ask = asked(begun(C), B, "10.0.0.201")
    other = Given(prefix="10.0.0.202/32", epoch=FIRST)
    assert ledgers.receive(asker, ask.number, other).prefixes == ()
    assert ledgers.receive(asker, ask.number + 1, other) == asker


# Taking over


def test_what_dead_hosts_own_goes_to_who_asks_the_others() -> None:
    a, c = begun(A), begun(C)
    fence = ledgers.fence(c, [B], "x")
    a, c = prepared(fence, a, c)
    assert given(a, C, asked(c, A)[1]) == (a, Refused(why="fenced", epoch=FIRST))
    c = ledgers.finish(c, fence, whole_of(NETWORK), [ledgers.owned(a)])
    assert ledgers.owned(c) == ledgers.owned(begun(B))
    assert c.epoch == fence.epoch > FIRST
    a = ledgers.learn(a, c.epoch)
    assert (a.prefixes, a.epoch, a.fences) == (begun(A).prefixes, c.epoch, ())
    back = ledgers.learn(begun(B), c.epoch)
    assert back.prefixes == ()  # it was not asked
    assert ledgers.learn(back, FIRST) == back


def test_a_block_that_was_on_its_way_is_taken_over_and_not_received() -> None:
    a = begun(A)
    d, ask = asked(begun(D), A)
    a, late = given(a, D, ask)
    assert isinstance(late, Given)
    c = begun(C)
    fence = ledgers.fence(c, [B], "x")
    a, c, d = prepared(fence, a, c, d)
    assert ledgers.receive(d, ask.number, late) == d  # nothing comes, nothing goes
    c = ledgers.finish(c, fence, whole_of(NETWORK), map(ledgers.owned, (a, d)))
    assert not Space.of([late.prefix]) - ledgers.owned(c)
    d = ledgers.receive(ledgers.learn(d, c.epoch), ask.number, late)
    assert (d.prefixes, d.requests) == ((), ())


def test_given_up_all_is_as_before() -> None:
    a = begun(A)
    d, ask = asked(begun(D), A)
    a, late = given(a, D, ask)
    assert isinstance(late, Given)
    fence = ledgers.fence(begun(C), [B], "x")
    (d,) = prepared(fence, d)
    d = ledgers.receive(ledgers.cancel(d, fence.epoch), ask.number, late)
    assert four(d) == [late.prefix]


def test_a_giver_that_is_ahead_takes_the_asker_along() -> None:
    ahead = replace(begun(B), epoch=Epoch(number=3, id="x"))
    asker, ask = asked(begun(A), B)
    ahead, answer = given(ahead, A, ask)
    assert isinstance(answer, Given)
    asker = ledgers.receive(asker, ask.number, answer)
    assert asker.prefixes == (answer.prefix,)  # its share is not its own any more
    assert asker.epoch == ahead.epoch
    behind = begun(A)
    assert given(behind, B, asked(ahead, A)[1]) == (behind, Refused(why="fenced", epoch=FIRST))


def test_who_prepares_needs_to_know_the_epoch_and_to_be_the_only_one() -> None:
    x, y = ledgers.fence(begun(C), [B], "x"), ledgers.fence(begun(D), [B], "y")
    (a,) = prepared(x, begun(A))
    assert ledgers.prepare(a, x) == a
    assert y not in ledgers.prepare(a, y).fences
    ahead = replace(begun(A), epoch=Epoch(number=1, id="z"))
    assert ledgers.prepare(ahead, x) == ahead
    behind = ledgers.prepare(begun(A), replace(x, base=ahead.epoch, epoch=Epoch(number=2, id="x")))
    assert behind.prefixes == ()  # it had missed an epoch


def test_who_dies_over_it_is_taken_over_and_its_epoch_never_comes_first() -> None:
    """C prepares without B, ends it and dies before anybody hears; D goes on without both."""
    of_c = ledgers.fence(begun(C), [B], "ffff")
    a, c, d = prepared(of_c, begun(A), begun(C), begun(D))
    of_d = ledgers.fence(d, [B, C], "0000")
    a, d = prepared(of_d, a, d)
    c = ledgers.finish(c, of_c, whole_of(NETWORK), map(ledgers.owned, (a, d)))
    d = ledgers.finish(d, of_d, whole_of(NETWORK), [ledgers.owned(a)])
    assert d.epoch > c.epoch
    assert ledgers.owned(d) == ledgers.owned(begun(B))
    # Should A hear of C's epoch first, it keeps its own in both.
    assert ledgers.learn(ledgers.learn(a, c.epoch), d.epoch).prefixes == begun(A).prefixes
    assert ledgers.learn(c, d.epoch).prefixes == ()


def test_an_epoch_that_overrides_another_is_later() -> None:
    x = ledgers.fence(begun(C), [B], "x")
    (a,) = prepared(x, begun(A))
    same_number = ledgers.fence(begun(D), [B, C], "y")
    assert same_number.epoch.number == x.epoch.number
    assert same_number not in ledgers.prepare(a, same_number).fences


# Random schedules


def violations(seeds: range) -> list[str]:
    found = []
    for seed in seeds:
        try:
            World(seed).run()
        except AssertionError as error:
            found.append(f"World({seed}): {error}")
    return found


def test_no_address_is_ever_owned_twice() -> None:
    """Run one again with `World(seed).run()`; `NETD_LEDGER_SCHEDULES` says how many."""
    share = 2_500
    parts = [range(at, min(at + share, SCHEDULES)) for at in range(0, SCHEDULES, share)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = [text for texts in pool.map(violations, parts) for text in texts]
    assert found == []


def test_the_schedules_have_in_them_what_can_go_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, int] = {}

    def count(name: str) -> None:
        real = getattr(ledgers, name)

        def counted(ledger: Ledger, *rest: Any, **more: Any) -> Any:
            result = real(ledger, *rest, **more)
            after = result[0] if isinstance(result, tuple) else result
            seen[name] = seen.get(name, 0) + (after != ledger)
            return result

        monkeypatch.setattr(ledgers, name, counted)

    for name in ("donate", "receive", "prepare", "cancel", "learn", "finish"):
        count(name)
    deaths = 0
    for seed in range(1_000):
        world = World(seed)
        world.run()
        deaths += world.deaths
    assert all(seen[name] > 100 for name in seen), seen
    assert len(seen) == 6
    assert deaths > 500


def takes_twice(real: Callable[..., Any]) -> Callable[..., Any]:
    def receive(ledger: Ledger, number: int, answer: Given | Refused) -> Ledger:
        after: Ledger = real(ledger, number, answer)
        if isinstance(answer, Given) and answer.epoch == ledger.epoch and not ledger.fences:
            own = ledgers.owned(after) | Space.of([answer.prefix])
            after = replace(after, prefixes=own.prefixes())
        return after

    return receive


def keeps_what_it_gives(real: Callable[..., Any]) -> Callable[..., Any]:
    def donate(ledger: Ledger, *rest: Any, **more: Any) -> tuple[Ledger, Given | Refused]:
        after, answer = real(ledger, *rest, **more)
        return replace(after, prefixes=ledger.prefixes), answer

    return donate


def keeps_what_was_taken_over(real: Callable[..., Any]) -> Callable[..., Any]:
    def learn(ledger: Ledger, epoch: Epoch) -> Ledger:
        after: Ledger = real(ledger, epoch)
        return replace(after, prefixes=ledger.prefixes)

    return learn


def begins_with_its_share(real: Callable[..., Any]) -> Callable[..., Any]:
    def begin(network: Network, member: str, epoch: Epoch) -> Ledger:
        ledger: Ledger = real(network, member, FIRST)
        return replace(ledger, epoch=epoch)

    return begin


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("receive", takes_twice),
        ("donate", keeps_what_it_gives),
        ("learn", keeps_what_was_taken_over),
        ("begin", begins_with_its_share),
    ],
)
def test_a_ledger_with_a_fault_is_found_out(
    name: str, fault: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, name, fault(getattr(ledgers, name)))
    assert any(violations(range(at, at + 100)) for at in range(0, 5_000, 100))


@pytest.mark.parametrize(
    "fault",
    [
        "answers_early",  # before the commit
        "gives_while_written",  # addresses that are just being given to another host
        "gives_held",  # what its containers have
        "waits_for_nobody",  # before it takes over
    ],
)
def test_a_host_with_a_fault_is_found_out(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, fault, True)
    assert any(violations(range(at, at + 100)) for at in range(0, 5_000, 100))
