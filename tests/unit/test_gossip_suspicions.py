"""From a suspicion to a verdict: how long it takes, and what it takes."""

import pytest

from netd.gossip.core import Gossip
from netd.gossip.messages import Ack, Message, Ping, PingRequest
from netd.gossip.settings import Settings, profile
from netd.gossip.values import State
from tests.unit.gossip_cores import (
    START_S,
    Lab,
    Puppet,
    core_of,
    identity_of,
    introduced,
    states,
    values,
)

LAN = profile("lan")
# The prober is kept out: what is accused here is accused by the test.
SILENT = Settings(members_repair_s=1e9, logs_repair_s=1e9, reconnect_s=1e9)
TARGET = Puppet(2)
OTHERS = [Puppet(number) for number in range(3, 9)]
ACCUSERS = [bytes([number]) * 16 for number in (0x10, 0x20, 0x30, 0x40)]


class Scene:
    """A core that does not probe by itself, among members of which none answers."""

    def __init__(self, settings: Settings = SILENT) -> None:
        self.core = core_of(identity_of(1), settings)
        introduced(self.core, TARGET, *OTHERS)
        self.core._parts.timers._heap.clear()  # those that probe, and spread the introductions
        self.now_s = START_S
        self.sent: list[tuple[float, Puppet, Message]] = []

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.core.next_timer_s() <= end_s:
            self.now_s = max(self.now_s, self.core.next_timer_s())
            self.core.advance(self.now_s)
            self.take()
        self.now_s = end_s

    def take(self) -> None:
        output = self.core.take()
        for puppet in (TARGET, *OTHERS):
            self.sent += [(self.now_s, puppet, message) for message in puppet.heard(output)]

    def tell(self, *messages: Message, by: Puppet = OTHERS[0]) -> None:
        self.core.receive(by.packet(*messages), by.address, self.now_s)
        self.take()

    @property
    def state(self) -> State:
        member = self.core.member(TARGET.id)
        assert member is not None
        return member.state

    @property
    def unreachable(self) -> bool:
        member = self.core.member(TARGET.id)
        assert member is not None
        return member.unreachable

    def until(self, state: State, limit_s: float = 200.0) -> float:
        """How long it takes."""
        began_s = self.now_s
        while self.state != state:
            assert self.core.next_timer_s() < began_s + limit_s
            self.run(self.core.next_timer_s() - self.now_s)
        return self.now_s - began_s

    def confirms_after(self) -> float:
        """When the target is asked for the last time, from now on."""
        began_s = self.now_s
        self.sent.clear()
        while not any(to is TARGET and isinstance(m, Ping) for _, to, m in self.sent):
            self.run(self.core.next_timer_s() - self.now_s)
        return self.now_s - began_s


@pytest.mark.parametrize("confirmed", [0, 1, 2, 3])
def test_each_further_accuser_shortens_a_suspicion(confirmed: int) -> None:
    scene = Scene()
    scene.tell(TARGET.suspect(0, ACCUSERS[0]))
    for number in range(confirmed):
        scene.tell(TARGET.suspect(0, ACCUSERS[number + 1]))
    scene.tell(TARGET.suspect(0, ACCUSERS[0]))  # again: no confirmation
    expected_s = LAN.suspicion_s(8, confirmed) - LAN.confirm_s
    assert scene.confirms_after() == pytest.approx(expected_s)


def test_who_is_accused_by_two_at_once_is_not_confirmed_by_that() -> None:
    scene = Scene()
    scene.tell(TARGET.suspect(0, *ACCUSERS[:2]))
    assert scene.confirms_after() == pytest.approx(LAN.suspicion_s(8, 0) - LAN.confirm_s)


def test_an_accuser_that_comes_late_ends_a_suspicion_that_is_over_by_then() -> None:
    scene = Scene()
    scene.tell(TARGET.suspect(0, ACCUSERS[0]))
    scene.run(LAN.suspicion_s(8, 2) + 0.5)
    scene.tell(TARGET.suspect(0, ACCUSERS[1]), TARGET.suspect(0, ACCUSERS[2]))
    assert scene.confirms_after() == pytest.approx(0.0, abs=0.1)


def test_a_confirmation_asks_three_times_with_the_suspicion_and_by_helpers() -> None:
    scene = Scene()
    scene.tell(TARGET.suspect(0, ACCUSERS[0]))
    scene.confirms_after()
    began_s = scene.now_s
    scene.run(LAN.confirm_s * 0.9)
    pings = [(at_s, m) for at_s, to, m in scene.sent if to is TARGET and isinstance(m, Ping)]
    times = [at_s - began_s for at_s, _ in pings]
    assert times == pytest.approx([0.0, LAN.confirm_s / 4, LAN.confirm_s / 2])
    said = [m for _, to, m in scene.sent if to is TARGET]
    assert said.count(TARGET.suspect(0, ACCUSERS[0])) >= 3
    requests = [m for _, _, m in scene.sent if isinstance(m, PingRequest)]
    assert len(requests) == LAN.helpers
    assert {(m.target, m.wait_ms) for m in requests} == {(TARGET.id, 1_000)}


def test_silence_makes_this_node_an_accuser_and_two_are_a_death() -> None:
    scene = Scene()
    scene.tell(TARGET.suspect(0, ACCUSERS[0]))
    took_s = scene.until(State.DEAD)
    assert took_s == pytest.approx(LAN.suspicion_s(8, 0))
    member = scene.core.member(TARGET.id)
    assert member is not None
    assert member.accusers == {ACCUSERS[0], scene.core.id}
    assert scene.core.counters["deaths"] == 1


def test_an_answer_during_confirmation_is_no_death() -> None:
    for relayed in (False, True):
        scene = Scene()
        scene.tell(TARGET.suspect(0, *ACCUSERS[:2]))
        scene.confirms_after()
        (ping,) = {m for _, to, m in scene.sent if to is TARGET and isinstance(m, Ping)}
        scene.run(LAN.confirm_s / 2)
        ack = Ack(ping.sequence, TARGET.id, 0, 0, 0)
        scene.tell(ack, by=OTHERS[1] if relayed else TARGET)
        scene.run(LAN.confirm_s)
        assert scene.state == State.SUSPECT
        assert not scene.unreachable
        # A suspicion that is never refuted is looked into again, and silence then is a death.
        again_s = scene.until(State.DEAD)
        assert again_s == pytest.approx(LAN.suspicion_s(2, 0) + LAN.confirm_s / 2, abs=0.01)


def test_a_refutation_ends_it_at_any_time() -> None:
    for wait_s in (0.0, LAN.suspicion_s(8, 0) - 0.9, LAN.suspicion_s(8, 0) - 0.1):
        scene = Scene()
        scene.tell(TARGET.suspect(0, *ACCUSERS[:2]))
        scene.run(wait_s)
        scene.tell(TARGET.alive(1))
        assert scene.state == State.ALIVE
        scene.run(200.0)
        assert scene.state == State.ALIVE
        assert scene.core.levels()["suspicions"] == 0


def test_a_lone_accuser_kills_nobody_and_hides_the_records() -> None:
    scene = Scene()
    scene.tell(TARGET.introduction, TARGET.delta((1, "key", b"value")), by=TARGET)
    assert len(values(scene.core)) == 1
    scene.tell(TARGET.suspect(0, scene.core.id))
    scene.run(200.0)
    assert scene.state == State.SUSPECT
    assert scene.unreachable
    assert values(scene.core) == {}
    # A packet of its shows that it can be reached.
    scene.tell(by=TARGET)
    assert len(values(scene.core)) == 1
    member = scene.core.member(TARGET.id)
    assert member is not None
    assert not member.unreachable


def test_a_second_accuser_of_whom_this_node_does_not_reach_is_enough_at_once() -> None:
    scene = Scene()
    scene.tell(TARGET.suspect(0, scene.core.id))
    scene.run(200.0)
    scene.tell(TARGET.suspect(0, ACCUSERS[0]))
    assert scene.state == State.DEAD


def test_a_new_incarnation_is_a_new_suspicion_with_its_full_time() -> None:
    scene = Scene()
    scene.tell(TARGET.suspect(0, scene.core.id))
    scene.run(200.0)
    assert scene.unreachable
    scene.tell(TARGET.suspect(1, ACCUSERS[0]), TARGET.suspect(1, ACCUSERS[1]))
    assert (scene.state, scene.unreachable) == (State.SUSPECT, False)
    assert scene.until(State.DEAD) == pytest.approx(LAN.suspicion_s(8, 1))


def test_a_death_of_one_who_is_suspected_here_is_believed() -> None:
    scene = Scene()
    scene.tell(TARGET.suspect(0, ACCUSERS[0]))
    scene.run(LAN.confirm_s)
    scene.tell(TARGET.dead(0, *ACCUSERS[:2]))
    assert scene.state == State.DEAD


def test_a_death_that_comes_close_behind_its_suspicion_is_confirmed_first() -> None:
    scene = Scene()
    scene.tell(TARGET.suspect(0, ACCUSERS[0]))
    scene.run(LAN.confirm_s / 2)
    scene.tell(TARGET.dead(0, *ACCUSERS[:2]))
    states = [scene.state]
    scene.run(LAN.confirm_s)
    states.append(scene.state)
    assert states == [State.SUSPECT, State.DEAD]


def test_a_death_with_one_accuser_is_a_suspicion() -> None:
    scene = Scene()
    scene.tell(TARGET.dead(0, ACCUSERS[0]), TARGET.dead(0, ACCUSERS[0]))
    assert scene.state == State.SUSPECT
    assert scene.confirms_after() == pytest.approx(LAN.suspicion_s(8, 0) - LAN.confirm_s)


def test_a_death_of_one_who_is_alive_here_is_confirmed_first_however_often_it_is_told() -> None:
    scene = Scene()
    for _ in range(5):
        scene.tell(TARGET.dead(0, *ACCUSERS[:2]))
        assert scene.state == State.SUSPECT
    pings = [at_s for at_s, to, m in scene.sent if to is TARGET and isinstance(m, Ping)]
    assert pings == [START_S]
    assert scene.until(State.DEAD) == pytest.approx(LAN.confirm_s)


def test_a_death_of_one_who_answers_is_not_believed_and_asked_about_each_time() -> None:
    scene = Scene()
    for _ in range(3):
        scene.tell(TARGET.dead(0, *ACCUSERS[:2]))
        scene.tell(by=TARGET)  # any packet of its
        scene.run(LAN.confirm_s + 0.1)
        assert scene.state == State.SUSPECT
    scene.tell(TARGET.alive(1))
    assert scene.state == State.ALIVE


def test_one_dead_node_is_found_by_all_in_the_time_that_the_profile_promises() -> None:
    for name in ("lan", "fast"):
        settings = profile(name)
        lab = Lab(settings=settings)
        cores = lab.cluster(8)
        crashed = cores.pop()
        lab.remove(crashed)
        began_s = lab.now_s
        while any(_state(core, crashed) != State.DEAD for core in cores):
            lab.run(0.1)
            assert lab.now_s < began_s + 30.0
        shortest_s = settings.suspicion_s(8, settings.confirmations)
        rounds_s = 4 * settings.probe_interval_s
        assert lab.now_s - began_s < shortest_s + rounds_s + settings.confirm_s


def test_a_deaf_node_kills_nobody() -> None:
    lab = Lab()
    cores = lab.cluster(6)
    deaf = cores[0]
    lab.packets = lambda _source, to: to != ("192.0.2.1", 7946)
    lab.streams = lambda source, to: ("192.0.2.1", 7946) not in (source, to)
    lab.run(120.0)
    for core in cores[1:]:
        for other in cores[1:]:
            assert State.DEAD not in states(lab.events[core.id], other.id)
    assert all(_state(deaf, other) == State.SUSPECT for other in cores[1:])


def test_the_last_of_two_shows_the_other_dead_and_holds_it_for_unreachable() -> None:
    lab = Lab()
    last, crashed = lab.cluster(2)
    lab.remove(crashed)
    lab.run(60.0)
    member = last.member(crashed.id)
    assert member is not None
    assert (member.state, member.unreachable) == (State.SUSPECT, True)
    assert last.shown(member) == State.DEAD


def _state(core: Gossip, other: Gossip) -> State:
    member = core.member(other.id)
    assert member is not None
    return member.state
