"""What one node may tell, and what others keep of one that tells more."""

from netd.gossip.core import Gossip
from netd.gossip.messages import Delta, Head
from netd.gossip.settings import Settings
from netd.gossip.values import GLOBAL
from tests.unit.gossip_cores import Lab, Puppet, core_of, identity_of, introduced, values

SCOPE = b"scope--1"
OWNER, OTHER = Puppet(2), Puppet(3)
CODE = "records-exceeded"


def lab_of(**settings: int) -> tuple[Lab, Gossip, Gossip]:
    lab = Lab(settings=Settings(**settings))
    one, two = lab.cluster(2)
    return lab, one, two


def told(core: Gossip, owner: Gossip) -> dict[str, bytes | None]:
    return {key[3]: value for key, value in values(core).items() if key[0] == owner.id}


def test_what_does_not_fit_is_withheld_until_there_is_room() -> None:
    lab, one, two = lab_of(own_records_max=4)  # one of them is the keyring's
    for name in "abcde":
        one.publish(GLOBAL, "t", name, name.encode(), lab.now_s)
    lab.run(2.0)
    assert set(told(two, one)) == {"a", "b", "c"}
    assert one.levels()["records_withheld"] == 2
    assert "more to tell than 4 records" in one.problems[CODE, one.id]
    one.publish(GLOBAL, "t", "a", b"changed", lab.now_s)  # takes no room
    one.publish(GLOBAL, "t", "b", None, lab.now_s)
    lab.run(2.0)
    assert told(two, one) == {"a": b"changed", "c": b"c", "d": b"d"}
    one.publish(GLOBAL, "t", "e", None, lab.now_s)  # what was never told
    assert (CODE, one.id) not in one.problems
    assert two.problems == {}


def test_a_value_that_does_not_fit_any_more_is_gone_for_others() -> None:
    lab, one, two = lab_of(own_bytes_max=2_000)
    one.publish(GLOBAL, "t", "a", bytes(500), lab.now_s)
    one.publish(GLOBAL, "t", "b", bytes(500), lab.now_s)
    one.publish(GLOBAL, "t", "a", bytes(1_500), lab.now_s)
    lab.run(2.0)
    assert told(two, one) == {"b": bytes(500)}
    one.publish(GLOBAL, "t", "b", None, lab.now_s)
    lab.run(2.0)
    assert told(two, one) == {"a": bytes(1_500)}
    assert one.problems == {}


def test_all_scopes_count_together_and_one_that_is_left_makes_room() -> None:
    lab, one, two = lab_of(own_records_max=5)  # the keyring's, the attachment, and three
    for core in (one, two):
        core.subscribe(SCOPE, lab.now_s)
    lab.run(2.0)
    for name in "abcd":
        one.publish(SCOPE, "t", name, b"scoped", lab.now_s)
    one.publish(GLOBAL, "t", "e", b"global", lab.now_s)
    lab.run(2.0)
    assert set(told(two, one)) == {"a", "b", "c"}
    one.unsubscribe(SCOPE, lab.now_s)
    lab.run(2.0)
    assert told(two, one) == {"e": b"global"}
    assert one.levels()["records_withheld"] == 0


def test_tombstones_are_as_many_as_records_at_the_most() -> None:
    lab, one, two = lab_of(own_records_max=20)
    for number in range(200):
        one.publish(GLOBAL, "t", f"k{number}", b"v", lab.now_s)
        one.publish(GLOBAL, "t", f"k{number}", None, lab.now_s)
        lab.run(0.05)
    one.publish(GLOBAL, "t", "last", b"v", lab.now_s)
    lab.run(2.0)
    for core in (one, two):
        slot = core._replica.get((one.id, GLOBAL))
        assert slot is not None
        assert slot.current is not None
        assert slot.current.tombstones <= 20
    assert told(two, one) == {"last": b"v"}


# An owner that does not keep to it


def exceeded(**settings: int) -> Gossip:
    """A core to which one has told more than is kept: nine records of at most eight."""
    core = core_of(identity_of(1), Settings(own_records_max=4, kept_mult=2, **settings))
    introduced(core, OWNER, OTHER)
    say(core, OWNER.delta(*((number, f"k{number}", b"v") for number in range(1, 6))))
    say(core, OWNER.delta(*((number, f"k{number}", b"v") for number in range(6, 10)), start=5))
    return core


def say(core: Gossip, *messages: Delta | Head) -> None:
    OTHER.say(core, *messages, now_s=core._parts.now_s)


def version(core: Gossip) -> int:
    slot = core._replica.get((OWNER.id, GLOBAL))
    assert slot is not None
    assert slot.head is not None
    return slot.head.version


def names(core: Gossip) -> set[str]:
    return {key[3] for key in values(core) if key[0] == OWNER.id}


def test_of_more_than_is_kept_only_the_version_is_followed() -> None:
    core = exceeded()
    assert names(core) == {f"k{number}" for number in range(1, 6)}
    assert version(core) == 9
    assert "host-2 tells more than 8 records" in core.problems[CODE, OWNER.id]
    say(core, OWNER.delta((20, "k1", None), start=19))
    assert version(core) == 20
    assert len(names(core)) == 5


def test_who_lacks_it_is_told_that_it_is_withheld() -> None:
    core = exceeded()
    mark = OWNER.signer.mark(GLOBAL, 1, 9, 0, 0)
    late = exceeded()
    newer = OWNER.signer.mark(GLOBAL, 1, 12, 0, 0)
    say(late, Head(OWNER.id, GLOBAL, 1, 12, newer))
    assert version(late) == 12
    forged = OTHER.signer.mark(GLOBAL, 1, 15, 0, 0)
    say(late, Head(OWNER.id, GLOBAL, 1, 15, forged))
    assert version(late) == 12
    stranger = core_of(identity_of(1), Settings())
    introduced(stranger, OWNER, OTHER)
    stranger.take()
    OTHER.say(stranger, Head(OWNER.id, GLOBAL, 1, 9, mark), now_s=stranger._parts.now_s)
    assert core.counters["refused_records"] == 1


def test_a_new_run_is_heard_again() -> None:
    core = exceeded()
    run = Puppet(2, epoch=2)
    OTHER.say(core, run.introduction, now_s=core._parts.now_s)
    say(core, run.delta((1, "k1", b"new"), end=1, baseline=1))
    assert names(core) == {"k1"}
    assert core.problems == {}
