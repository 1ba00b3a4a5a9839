"""Two that differ compare, and become equal; large differences go over a stream."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netd.gossip.core import Gossip
from netd.gossip.messages import (
    Compare,
    Delta,
    Introduce,
    LogRow,
    LogRows,
    MemberRow,
    MemberRows,
    Message,
    Ping,
    Query,
    TooDifferent,
    Want,
)
from netd.gossip.tree import Tree, differing, fingerprint, packed
from netd.gossip.values import GLOBAL, State
from tests.unit.gossip_cores import (
    START_S,
    Lab,
    Puppet,
    core_of,
    identity_of,
    introduced,
    table,
)

OWNERS = [Puppet(number) for number in range(10, 22)]
PEER = Puppet(3)

known = st.fixed_dictionaries(
    {
        number: st.tuples(
            st.sampled_from(["unknown", "alive", "refuted", "suspect", "accused", "dead", "left"]),
            st.integers(0, 4),  # versions of its log
            st.sampled_from([1, 1, 1, 2]),  # epoch
        )
        for number in range(10, 16)
    }
)


def _teach(core: Gossip, what: dict[int, tuple[str, int, int]]) -> None:
    for number, (state, versions, epoch) in what.items():
        puppet = Puppet(number, epoch=epoch)
        if state == "unknown":
            continue
        said: list[Message] = [puppet.introduction]
        accusers = (bytes(16), b"\x01" * 16)
        if versions:
            records = [(v, f"k{v % 2}", b"%d" % v) for v in range(1, versions + 1)]
            said.append(puppet.delta(*records, news=False))
        match state:
            case "refuted":
                said.append(puppet.alive(2))
            case "suspect":
                said.append(puppet.suspect(0, accusers[0]))
            case "accused":
                said.append(puppet.suspect(1, accusers[1]))
            case "dead":
                said += [puppet.suspect(0, *accusers), puppet.dead(0, *accusers)]
            case "left":
                said.append(puppet.left(0))
        for message in said:
            PEER.say(core, message, now_s=core._parts.now_s)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(known, known)
def test_any_two_become_equal_by_comparing(
    one_knows: dict[int, tuple[str, int, int]], other_knows: dict[int, tuple[str, int, int]]
) -> None:
    """By packets of comparisons alone: nobody probes, nothing is told as news."""
    lab = Lab()
    one, other = lab.cluster(2)
    for core, what in ((one, one_knows), (other, other_knows)):
        introduced(core, PEER, now_s=lab.now_s)
        _teach(core, what)
        core._parts.timers._heap.clear()
        core.take()
    for _ in range(12):
        for core, peer in ((one, other), (other, one)):
            member = core.member(peer.id)
            assert member is not None
            for tree in (0, 1):
                core._post.send(member.address, Compare(tree, core._repair._leaves(tree, member)))
            lab.run(1.1)
    assert table(one).keys() == table(other).keys()
    assert one._digests(other.member(one.id))[1] == other._digests(one.member(other.id))[1]
    for node, (epoch, _, state, _) in table(one).items():
        theirs = table(other)[node]
        assert theirs[0] == epoch
        assert (theirs[2] == State.LEFT) is (state == State.LEFT)
    logs = [
        {log: (s.head.epoch, s.head.version) for log, s in core._replica.items() if s.head}
        for core in (one, other)
    ]
    assert logs[0] == logs[1]


def test_equal_ones_compare_nothing() -> None:
    lab = Lab()
    cores = lab.cluster(3)
    lab.run(10.0)
    before = [core.counters["comparisons"] for core in cores]
    lab.run(60.0)
    assert [core.counters["comparisons"] for core in cores] == before


def _scene() -> Gossip:
    core = core_of(identity_of(1))
    introduced(core, PEER)
    core.take()
    return core


def test_a_difference_that_a_change_explains_is_left_alone_unless_it_stays() -> None:
    core = _scene()
    core.publish(GLOBAL, "t", "k", b"v", START_S)
    compared = []
    for _ in range(3):
        heard = PEER.say(core, Ping(1, core.id, core._parts.members.tree.root, 7), now_s=START_S)
        compared.append([m.tree for m in heard if isinstance(m, Compare)])
    assert compared == [[], [], [1]]
    # And not again before its interval is over.
    heard = PEER.say(core, Ping(1, core.id, core._parts.members.tree.root, 7), now_s=START_S)
    assert not [m for m in heard if isinstance(m, Compare)]


def test_a_comparison_that_finds_no_difference_is_not_answered() -> None:
    core = _scene()
    leaves = packed([core._parts.members.tree])
    assert not _rows(PEER.say(core, Compare(0, leaves), now_s=START_S))


def _rows(messages: list[Message]) -> list[MemberRows | LogRows]:
    return [m for m in messages if isinstance(m, MemberRows | LogRows)]


def test_rows_are_told_of_the_leaves_that_differ_and_of_all_in_them() -> None:
    core = _scene()
    introduced(core, *OWNERS)
    tree = Tree()
    for member in core.members():
        if member.id != OWNERS[0].id:
            tree.flip(member.id[0], member.fingerprint)
    (rows,) = _rows(PEER.say(core, Compare(0, packed([tree])), now_s=START_S))
    assert rows.leaves == OWNERS[0].id[:1]
    in_leaf = [m.id for m in core.members() if m.id[0] == OWNERS[0].id[0]]
    assert [row.id for row in rows.rows if isinstance(row, MemberRow)] == in_leaf


def test_what_the_other_does_not_know_is_told_and_what_it_knows_better_asked_for() -> None:
    core = _scene()
    introduced(core, *OWNERS[:2])
    core._news.clear()
    first, second = OWNERS[:2]
    row = MemberRow(second.id, 1, 3, State.ALIVE, ())
    heard = PEER.say(core, MemberRows(first.id[:1], (row,)), now_s=START_S)
    told = {m.public_key for m in heard if isinstance(m, Introduce)}
    assert first.identity.public_key in told
    assert second.identity.public_key not in told
    assert [m.ids for m in heard if isinstance(m, Query)] == [(second.id,)]


def test_logs_are_sent_and_asked_for_by_rows() -> None:
    core = _scene()
    introduced(core, *OWNERS[:2])
    first, second = OWNERS[:2]
    PEER.say(core, first.delta((1, "k", b"v"), (2, "l", b"v"), news=False), now_s=START_S)
    PEER.say(core, second.delta((1, "k", b"v"), news=False), now_s=START_S)
    core._news.clear()
    rows = (LogRow(first.id, GLOBAL, 1, 1), LogRow(second.id, GLOBAL, 1, 5))
    heard = PEER.say(core, LogRows(b"", rows), now_s=START_S)
    deltas = [(m.owner, m.start, m.end, m.news) for m in heard if isinstance(m, Delta)]
    assert deltas == [(first.id, 1, 2, False)]
    wants = [m.rows for m in heard if isinstance(m, Want)]
    assert wants == [(LogRow(second.id, GLOBAL, 1, 1),)]


def _large() -> Gossip:
    core = _scene()
    core._replica.write(GLOBAL, "t", "k", b"v")
    puppets = [Puppet(number) for number in range(100, 500)]
    introduced(core, *puppets)
    for puppet in puppets:
        core._replica.apply(puppet.delta((1, "k", bytes(200))))
    core._news.clear()
    core.take()
    return core


def test_a_comparison_of_logs_that_differ_widely_is_answered_by_a_stream() -> None:
    core = _large()
    heard = PEER.say(core, Compare(1, bytes(1024)), now_s=START_S)
    assert heard == [TooDifferent(1)]
    PEER.say(core, TooDifferent(1), now_s=START_S)
    core.receive(PEER.packet(TooDifferent(1)), PEER.address, START_S)
    assert core.levels()["calls"] == 1


def test_whoever_has_next_to_nothing_is_sent_to_a_stream_and_not_flooded() -> None:
    core = _large()
    core.receive(PEER.packet(LogRows(bytes(range(256)), ())), PEER.address, START_S)
    output = core.take()
    assert len(output.datagrams) <= 25
    assert TooDifferent(1) in PEER.heard(output)


def test_whoever_knows_nobody_is_told_in_bounded_portions() -> None:
    core = _large()
    told = set()
    for _ in range(40):
        core.receive(PEER.packet(MemberRows(bytes(range(256)), ())), PEER.address, START_S)
        output = core.take()
        assert len(output.datagrams) <= 34
        told |= {m.public_key for m in PEER.heard(output) if isinstance(m, Introduce)}
    assert len(told) == 402


def test_a_large_difference_between_two_is_gone_soon() -> None:
    lab = Lab()
    one, other = lab.cluster(2)
    puppets = [Puppet(number) for number in range(100, 400)]
    for puppet in puppets:
        introduced(one, puppet, now_s=lab.now_s)
        one._replica.apply(puppet.delta((1, "k", bytes(200))))
    for core in (one, other):
        core._parts.timers._heap.clear()
        core.take()
    for _ in range(12):
        member = other.member(one.id)
        assert member is not None
        for tree in (0, 1):
            other._post.send(member.address, Compare(tree, other._repair._leaves(tree, member)))
        lab.run(1.1)
    assert len(list(other.members())) == len(list(one.members())) == 302
    assert len(other._replica) == len(one._replica) == 302
    assert 0 < lab.calls < 20


nodes = st.binary(min_size=2, max_size=2)


@given(st.sets(nodes), st.sets(nodes))
def test_trees_tell_the_leaves_that_differ(one: set[bytes], other: set[bytes]) -> None:
    trees = []
    for items in (one, other):
        tree = Tree()
        for item in sorted(items):
            tree.flip(item[0], fingerprint(item))
        trees.append(tree)
    expected = {item[0] for item in one ^ other}
    assert set(differing(packed([trees[0]]), packed([trees[1]]))) == expected
    assert (trees[0].root == trees[1].root) is (one == other)
    for item in one:
        trees[0].flip(item[0], fingerprint(item))
    assert trees[0].root == 0
