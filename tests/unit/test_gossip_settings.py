"""The formulas of times and counts, and the bounds of the profiles."""

import pytest

from netd.gossip.settings import Profile, profile

PROFILES: list[Profile] = ["lan", "fast", "wan"]


@pytest.mark.parametrize(
    ("members", "shortest_s", "longest_s"),
    [(3, 3.0, 18.0), (10, 3.0, 18.0), (100, 6.0, 36.0), (1_000, 9.0, 54.0)],
)
def test_a_suspicion_lasts_as_in_lifeguard(
    members: int, shortest_s: float, longest_s: float
) -> None:
    lan = profile("lan")
    assert lan.suspicion_s(members, 0) == pytest.approx(longest_s)
    assert lan.suspicion_s(members, min(lan.confirmations, members - 2)) == pytest.approx(
        shortest_s
    )


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("members", [1, 2, 3, 4, 7, 100, 8_192])
def test_each_confirmation_shortens_a_suspicion_to_the_least_and_no_further(
    name: Profile, members: int
) -> None:
    settings = profile(name)
    times = [settings.suspicion_s(members, confirmed) for confirmed in range(6)]
    assert times == sorted(times, reverse=True)
    least = min(times)
    assert times[2:] == pytest.approx([least] * 4)
    assert least >= settings.suspicion_mult * settings.probe_interval_s
    if members <= 2:
        assert times[0] == pytest.approx(least)  # nobody is there who could confirm


@pytest.mark.parametrize(
    ("members", "copies"), [(1, 8), (3, 8), (10, 8), (99, 8), (100, 12), (1_000, 16), (10_000, 20)]
)
def test_a_statement_is_told_more_often_in_a_larger_cluster(members: int, copies: int) -> None:
    assert profile("lan").statement_copies(members) == copies


def test_lan_gives_more_time_to_answer_than_fast_in_every_respect() -> None:
    """What is shown of `fast` to be long enough is so of `lan`."""
    lan, fast = profile("lan"), profile("fast")
    assert lan.confirm_s > fast.confirm_s
    assert lan.confirmations > fast.confirmations
    assert lan.probe_timeout_max_s > fast.probe_timeout_max_s
    for members in (3, 10, 100, 1_000):
        for confirmed in range(4):
            shorter_s = 1.9 * fast.suspicion_s(members, confirmed)
            assert lan.suspicion_s(members, confirmed) > shorter_s


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_keep_what_the_protocol_builds_upon(name: Profile) -> None:
    settings = profile(name)
    assert 0 < settings.probe_timeout_min_s <= settings.probe_timeout_max_s
    # A helper's answer and its nack have to come before the interval ends, and a request of a
    # node at its worst health has to be one that helpers accept.
    assert settings.probe_timeout_max_s < settings.probe_interval_s * settings.nack_share
    assert settings.probe_interval_s * settings.health_max <= 120.0
    assert 0 < settings.nack_share < 1
    assert settings.accusers_min >= 2
    assert settings.confirm_pings >= 2
    assert settings.protocol_min <= settings.protocol_max
    assert settings.packet_max_bytes <= 1_232
