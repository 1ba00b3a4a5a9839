"""The failure detector: whom it asks when, whom it asks for help, and when it doubts itself."""

from itertools import pairwise

import pytest

from netd.gossip.codec import encode
from netd.gossip.core import Gossip
from netd.gossip.messages import Ack, Message, Nack, Ping, PingRequest
from netd.gossip.pings import WAITING_MAX
from netd.gossip.prober import HELPING_MAX
from netd.gossip.requests import Declined, StreamAck
from netd.gossip.settings import Settings, profile
from netd.gossip.values import Call, Datagram, NodeId, State
from tests.unit.gossip_cores import (
    START_S,
    Lab,
    Puppet,
    address_of,
    core_of,
    identity_of,
    introduced,
)

LAN = profile("lan")
QUIET = Settings(members_repair_s=1e9, logs_repair_s=1e9, reconnect_s=1e9)


class Scene:
    """One core among puppets: what it sends by packets and streams, and when."""

    def __init__(self, count: int, settings: Settings = QUIET) -> None:
        self.core = core_of(identity_of(1), settings)
        self.puppets = [Puppet(number) for number in range(2, 2 + count)]
        introduced(self.core, *self.puppets)
        self.now_s = START_S
        self.sent: list[tuple[float, Puppet, Message]] = []
        self.calls: list[tuple[float, Call]] = []

    def run(self, seconds: float) -> None:
        """Let time pass; nobody answers."""
        end_s = self.now_s + seconds
        while self.core.next_timer_s() <= end_s:
            self.now_s = max(self.now_s, self.core.next_timer_s())
            self.core.advance(self.now_s)
            self.take()
        self.now_s = end_s

    def take(self) -> None:
        output = self.core.take()
        for puppet in self.puppets:
            self.sent += [(self.now_s, puppet, message) for message in puppet.heard(output)]
        self.calls += [(self.now_s, call) for call in output.calls]

    def pings(self) -> list[tuple[float, Puppet, Ping]]:
        return [(at_s, to, m) for at_s, to, m in self.sent if isinstance(m, Ping)]

    def requests(self) -> list[tuple[float, Puppet, PingRequest]]:
        return [(at_s, to, m) for at_s, to, m in self.sent if isinstance(m, PingRequest)]

    def until_ping(self) -> tuple[Puppet, Ping]:
        self.sent.clear()
        self.calls.clear()
        while not self.pings():
            self.run(0.01)
        _, to, ping = self.pings()[0]
        return to, ping

    def state(self, puppet: Puppet) -> State:
        member = self.core.member(puppet.id)
        assert member is not None
        return member.state

    def ack(self, puppet: Puppet, ping: Ping, relayed_by: Puppet | None = None) -> None:
        speaker = relayed_by or puppet
        ack = Ack(ping.sequence, puppet.id, 0, 0, 0)
        self.core.receive(speaker.packet(ack), speaker.address, self.now_s)
        self.take()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_member_is_asked_in_two_rounds_less_one_at_the_latest(count: int) -> None:
    cores = Lab(settings=QUIET).cluster(1)
    core = cores[0]
    puppets = [Puppet(number) for number in range(2, 2 + count)]
    introduced(core, *puppets)
    asked: list[NodeId] = []
    now_s = START_S
    while len(asked) < 20 * count:
        now_s = max(now_s, core.next_timer_s())
        core.advance(now_s)
        output = core.take()
        for puppet in puppets:
            for message in puppet.heard(output):
                if isinstance(message, Ping) and message.target == puppet.id:
                    asked.append(puppet.id)
                    ack = Ack(message.sequence, puppet.id, 0, 0, 0)
                    core.receive(puppet.packet(ack), puppet.address, now_s)
    for puppet in puppets:
        places = [index for index, node in enumerate(asked) if node == puppet.id]
        gaps = [later - earlier for earlier, later in pairwise(places)]
        assert places[0] < 2 * count - 1
        assert max(gaps) <= 2 * count - 1


def test_a_ping_is_sent_again_then_helpers_and_a_stream_are_asked() -> None:
    scene = Scene(6)
    target, ping = scene.until_ping()
    began_s = scene.pings()[0][0]
    scene.run(LAN.probe_interval_s * 0.95)
    again = [(at_s, to) for at_s, to, m in scene.pings() if m.sequence == ping.sequence]
    assert [to for _, to in again] == [target, target]
    assert again[1][0] - again[0][0] == pytest.approx(LAN.probe_timeout_max_s / 2)
    requests = scene.requests()
    assert len({to.id for _, to, _ in requests}) == LAN.helpers
    assert target not in [to for _, to, _ in requests]
    for at_s, _, request in requests:
        assert at_s - began_s == pytest.approx(LAN.probe_timeout_max_s)
        assert (request.sequence, request.target) == (ping.sequence, target.id)
        assert request.wait_ms == 500
    ((at_s, call),) = scene.calls
    assert at_s - began_s == pytest.approx(LAN.probe_timeout_max_s)
    assert (call.to, call.node) == (target.address, target.id)
    assert scene.state(target) == State.ALIVE
    scene.run(0.1)
    assert scene.state(target) == State.SUSPECT


def test_an_answer_ends_a_probe_at_once() -> None:
    scene = Scene(6)
    target, ping = scene.until_ping()
    scene.ack(target, ping)
    scene.run(LAN.probe_interval_s * 0.9)
    assert [m for _, _, m in scene.pings()] == [ping]
    assert not scene.requests()
    assert not scene.calls


def test_an_answer_by_a_helper_or_by_a_stream_is_as_good() -> None:
    scene = Scene(6)
    target, ping = scene.until_ping()
    scene.run(0.6)
    scene.ack(target, ping, relayed_by=scene.requests()[0][1])
    scene.run(0.45)
    assert scene.state(target) == State.ALIVE

    target, ping = scene.until_ping()
    scene.run(0.6)
    ((_, call),) = scene.calls
    scene.core.complete(call.number, encode(StreamAck(target.introduction)), scene.now_s)
    scene.run(0.45)
    assert scene.state(target) == State.ALIVE
    member = scene.core.member(target.id)
    assert member is not None
    assert (member.udp_ok, member.tcp_ok) == (False, True)


def test_an_answer_for_another_probe_or_of_another_member_is_none() -> None:
    scene = Scene(6)
    target, ping = scene.until_ping()
    other = next(puppet for puppet in scene.puppets if puppet is not target)
    scene.ack(other, ping)
    scene.ack(target, Ping(ping.sequence + 1, target.id, 0, 0))
    scene.run(1.05)
    assert scene.state(target) == State.SUSPECT


def test_what_a_stream_says_that_is_no_answer_is_none_but_it_is_open() -> None:
    declined = encode(Declined("the node is leaving"))
    for reply, open_ in ((None, False), (b"nonsense", True), (declined, True)):
        scene = Scene(6)
        target, _ = scene.until_ping()
        scene.run(0.6)
        ((_, call),) = scene.calls
        scene.core.complete(call.number, reply, scene.now_s)
        scene.run(0.45)
        assert scene.state(target) == State.SUSPECT
        member = scene.core.member(target.id)
        assert member is not None
        assert member.tcp_ok is open_


def _failed_probe(scene: Scene, nacks: int, each: int = 1) -> int:
    """The health after a probe that fails while some helpers say that they got no answer."""
    _, ping = scene.until_ping()
    scene.run(0.6)
    for _, helper, _ in scene.requests()[:nacks]:
        scene.core.receive(
            helper.packet(*[Nack(ping.sequence)] * each), helper.address, scene.now_s
        )
    scene.run(0.45)
    return scene.core.levels()["health"]


@pytest.mark.parametrize("nacks", [0, 1, 2, 3])
def test_silent_helpers_make_a_node_doubt_itself(nacks: int) -> None:
    assert _failed_probe(Scene(6), nacks) == LAN.helpers - nacks


def test_repeated_nacks_and_those_of_strangers_count_for_nothing() -> None:
    """A health below zero would make intervals negative, and timers run for ever."""
    scene = Scene(6)
    _, ping = scene.until_ping()
    scene.run(0.6)
    helpers = [to for _, to, _ in scene.requests()]
    other = next(puppet for puppet in scene.puppets if puppet not in helpers)
    for speaker in (helpers[0], other, Puppet(99)):
        scene.core.receive(
            speaker.packet(*[Nack(ping.sequence)] * 50), speaker.address, scene.now_s
        )
    scene.run(0.45)
    assert scene.core.levels()["health"] == LAN.helpers - 1


def test_without_helpers_a_failed_probe_is_one_doubt_and_doubt_is_bounded() -> None:
    scene = Scene(1)
    scene.until_ping()
    scene.run(1.05)
    assert scene.core.levels()["health"] == 1
    scene.run(120.0)
    assert scene.core.levels()["health"] == LAN.health_max - 1


def test_doubt_stretches_intervals_and_answers_end_it() -> None:
    scene = Scene(6)
    assert _failed_probe(scene, 0) == 3
    scene.sent.clear()
    scene.run(8.0)
    times = sorted({at_s for at_s, _, m in scene.pings() if m.sequence % (1 << 32)})
    assert times[-1] - times[0] > 4.0 * LAN.probe_timeout_max_s
    for _ in range(LAN.health_max):
        target, ping = scene.until_ping()
        scene.ack(target, ping)
        scene.run(0.1)
    while scene.core.levels()["health"]:
        before = scene.core.levels()["health"]
        target, ping = scene.until_ping()
        scene.ack(target, ping)
        scene.until_ping()
        assert scene.core.levels()["health"] <= before


def test_the_timeout_follows_the_slowest_round_trip_within_bounds() -> None:
    lab = Lab()
    core, _ = lab.cluster(2)
    assert core._parts.probe_timeout_s() == LAN.probe_timeout_min_s
    core._parts.measured(0.05)
    assert core._parts.probe_timeout_s() == pytest.approx(0.2)
    core._parts.measured(3.0)
    assert core._parts.probe_timeout_s() == LAN.probe_timeout_max_s
    for _ in range(64):
        core._parts.measured(0.04)
    assert core._parts.probe_timeout_s() == pytest.approx(0.16)


def _helper() -> tuple[Gossip, Puppet, Puppet]:
    core, asker, target = core_of(identity_of(1), QUIET), Puppet(2), Puppet(3)
    introduced(core, asker, target)
    return core, asker, target


def test_round_trips_that_become_longer_than_the_timeout_are_learned() -> None:
    scene = Scene(6)
    for _ in range(3):  # it begins with a network that is quick
        to, ping = scene.until_ping()
        scene.run(0.001)
        scene.ack(to, ping)
        scene.run(0.5)
    assert scene.core._parts.probe_timeout_s() == LAN.probe_timeout_min_s
    asked_for_help = []
    for _ in range(6):
        to, ping = scene.until_ping()
        scene.run(0.15)
        scene.ack(to, ping)
        scene.run(0.5)
        asked_for_help.append(bool(scene.requests()))
    assert asked_for_help == [True, False, False, False, False, False]
    measured = [member.rtt_s for member in scene.core.members() if member.rtt_s is not None]
    assert max(measured) == pytest.approx(0.15, abs=0.02)


def test_an_answer_to_the_second_ping_makes_no_round_trip_longer() -> None:
    scene = Scene(3)
    for _ in range(3):
        to, ping = scene.until_ping()
        scene.run(0.26)  # the first is lost, the second sent at half the timeout
        scene.ack(to, ping)
        scene.run(0.5)
    assert {member.rtt_s for member in scene.core.members()} == {None}
    assert scene.core._parts.probe_timeout_s() == LAN.probe_timeout_max_s


def test_a_helper_pings_and_passes_the_answer_on() -> None:
    core, asker, target = _helper()
    request = PingRequest(7, target.id, 500)
    core.receive(asker.packet(request), asker.address, START_S)
    output = core.take()
    assert asker.heard(output) == []
    (ping,) = [m for m in target.heard(output) if isinstance(m, Ping)]
    assert ping.target == target.id
    core.receive(
        target.packet(Ack(ping.sequence, target.id, 0, 0, 0)), target.address, START_S + 0.1
    )
    heard = asker.heard(core.take())
    assert [m.sequence for m in heard if isinstance(m, Ack)] == [7]
    # It is over: no nack follows.
    assert not [m for m in _heard_until(core, asker, START_S + 2.0) if isinstance(m, Nack)]


def test_a_helper_without_an_answer_says_so_after_four_fifths_of_its_time() -> None:
    core, asker, target = _helper()
    core.receive(asker.packet(PingRequest(7, target.id, 500)), asker.address, START_S)
    core.take()
    before = _heard_until(core, asker, START_S + 0.399)
    after = _heard_until(core, asker, START_S + 0.401)
    assert not [m for m in before if isinstance(m, Nack)]
    assert [m.sequence for m in after if isinstance(m, Nack)] == [7]


def test_a_helper_that_knows_no_such_member_says_so_at_once() -> None:
    core, asker, _ = _helper()
    heard = asker.say(core, PingRequest(7, bytes(16), 500), now_s=START_S)
    assert [m for m in heard if isinstance(m, Nack)] == [Nack(7)]


def test_helping_is_bounded() -> None:
    """A member that asks for more than any cluster needs gets nacks, and takes no memory."""
    core, asker, target = _helper()
    nacks = 0
    for number in range(2_000):
        request = PingRequest(number, target.id, 120_000)
        core.receive(asker.packet(request), asker.address, START_S)
        nacks += Nack(number) in asker.heard(core.take())
    assert nacks == 2_000 - HELPING_MAX
    assert len(core._parts.timers._heap) < 4 * HELPING_MAX
    # Own probes still wait for their answers.
    assert len(core._pings._waiting) < WAITING_MAX


def _heard_until(core: Gossip, puppet: Puppet, end_s: float) -> list[Message]:
    found: list[Message] = []
    while core.next_timer_s() <= end_s:
        core.advance(core.next_timer_s())
        found += puppet.heard(core.take())
    return found


def test_pings_for_somebody_else_get_no_answer() -> None:
    core, asker, target = _helper()
    assert asker.say(core, Ping(1, target.id, 0, 0), now_s=START_S) == []
    assert core.counters["misdirected_pings"] == 1


def test_many_pings_of_a_suspect_get_small_answers() -> None:
    core, asker, target = _helper()
    core.receive(target.packet(asker.suspect(0, target.id)), target.address, START_S)
    core.take()
    core.receive(asker.packet(*[Ping(1, core.id, 0, 0)] * 25), asker.address, START_S)
    datagrams: list[Datagram] = core.take().datagrams
    assert max(len(datagram.data) for datagram in datagrams) <= LAN.packet_max_bytes


def test_a_node_that_was_stopped_accuses_nobody() -> None:
    lab = Lab()
    stopped, *others = lab.cluster(5)
    place = address_of(1)
    for pause_s in (1.0, 30.0, 120.0):
        del lab.cores[place]
        # The others do not run either: that it is suspected is another test's.
        paused = dict(lab.cores)
        lab.cores = {place: stopped}
        lab.now_s += pause_s
        lab.cores |= paused
        for other in others:
            other.advance(lab.now_s)
        lab.run(5.0)
        assert all(member.state == State.ALIVE for member in stopped.members())
        assert stopped.counters["probes_failed"] == 0
    assert stopped.counters["stalls"] == 3


def test_a_probe_of_a_run_that_is_over_accuses_nobody() -> None:
    scene = Scene(3)
    target, _ = scene.until_ping()
    scene.run(0.6)
    later = Puppet(int(target.identity.name.removeprefix("host-")), epoch=2)
    scene.core.receive(later.packet(later.introduction), later.address, scene.now_s)
    scene.run(0.45)
    assert scene.state(target) == State.ALIVE
