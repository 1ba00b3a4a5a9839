"""The replay window against a model that remembers everything."""

from hypothesis import given
from hypothesis import strategies as st

from netd.gossip.replay import WINDOW, ReplayWindow

near = st.integers(min_value=-WINDOW - 3, max_value=WINDOW + 3)
steps = st.lists(st.one_of(near, st.sampled_from([-WINDOW, 1 - WINDOW, 0, 1, WINDOW])))


@given(st.integers(min_value=0, max_value=1 << 63), steps)
def test_a_counter_is_accepted_once_and_not_when_it_is_older_than_the_window(
    start: int, moves: list[int]
) -> None:
    window, seen, highest = ReplayWindow(), set[int](), -1
    counter = start
    for move in moves:
        expected = counter not in seen and counter > highest - WINDOW
        assert window.accept(counter) is expected
        seen.add(counter)
        highest = max(highest, counter)
        counter = max(0, highest + move)


@given(st.permutations(range(40)))
def test_order_within_the_window_does_not_matter(counters: list[int]) -> None:
    window = ReplayWindow()
    assert all(window.accept(counter) for counter in counters)
    assert not any(window.accept(counter) for counter in counters)


def test_the_window_stays_small() -> None:
    window = ReplayWindow()
    for counter in range(0, 100 * WINDOW, 7):
        window.accept(counter)
    window.accept((1 << 64) - 1)
    assert window._seen.bit_length() <= WINDOW
