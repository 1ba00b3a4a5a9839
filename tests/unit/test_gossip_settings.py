"""The formulas of times and counts, and the bounds of the profiles."""

import pytest

from netd.gossip.settings import Profile, profile

PROFILES: list[Profile] = ["lan", "fast", "wan"]


@pytest.mark.parametrize(
    ("members", "shortest_s", "longest_s"),
    [(3, 4.0, 24.0), (10, 4.0, 24.0), (100, 8.0, 48.0), (1_000, 12.0, 72.0)],
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
