"""Sealed packets: what is not exactly what a member has sent in this run changes nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.gossip import sealing
from netd.gossip.replay import WINDOW
from netd.gossip.ring import Ring, key_id
from netd.gossip.sealing import OVERHEAD_BYTES, Opened, Refused, Seal

ONE, OTHER = bytes([1]) * 16, bytes([2]) * 16
CLUSTER = b"cluster1"
OLD, NEW = bytes([3]) * 32, bytes([4]) * 32
RING = Ring.first(OLD)


def seal(sender: bytes = ONE, epoch: int = 5, cluster: bytes = CLUSTER, ring: Ring = RING) -> Seal:
    return Seal(sender, epoch, cluster, ring)


def reason(opened: Opened | Refused) -> str:
    assert isinstance(opened, Refused)
    return opened.reason


@given(st.binary(max_size=1_200), st.integers(min_value=0, max_value=(1 << 48) - 1))
def test_what_is_sealed_is_opened_by_others(payload: bytes, epoch: int) -> None:
    packet = seal(epoch=epoch).seal(payload)
    assert len(packet) == len(payload) + OVERHEAD_BYTES
    assert seal(OTHER).open(packet) == Opened(ONE, epoch, payload)


def test_a_changed_bit_anywhere_is_refused_and_the_packet_itself_still_opened_after() -> None:
    receiver = seal(OTHER)
    packet = seal().seal(b"payload")
    for position in range(len(packet) * 8):
        changed = bytearray(packet)
        changed[position // 8] ^= 1 << position % 8
        assert isinstance(receiver.open(bytes(changed)), Refused)
    assert isinstance(receiver.open(packet), Opened)


def test_a_packet_cut_anywhere_is_refused() -> None:
    receiver = seal(OTHER)
    packet = seal().seal(b"payload")
    for length in range(len(packet)):
        found = reason(receiver.open(packet[:length]))
        assert found == ("truncated" if length < OVERHEAD_BYTES else "tag")
    assert reason(receiver.open(packet + b"\0")) == "tag"


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    assert isinstance(seal(OTHER).open(noise), Refused)


def test_refusals_say_why() -> None:
    receiver = seal(OTHER)
    packet = seal().seal(b"")
    assert reason(receiver.open(b"\x02" + packet[1:])) == "format"
    assert reason(receiver.open(seal(cluster=b"cluster2").seal(b""))) == "tag"
    assert reason(receiver.open(seal(cluster=b"strange!").seal(b""))) == "cluster"
    unknown = receiver.open(seal(ring=Ring.first(NEW)).seal(b""))
    assert unknown == Refused("key", ONE)
    assert reason(seal(ONE).open(packet)) == "own"
    assert isinstance(receiver.open(packet), Opened)
    assert reason(receiver.open(packet)) == "replay"


def test_another_key_of_the_same_name_does_not_open() -> None:
    forged = Ring(keys=(NEW,), primary=key_id(NEW))
    packet = bytearray(seal(ring=forged).seal(b"payload"))
    packet[5:9] = key_id(OLD)
    assert reason(seal(OTHER).open(bytes(packet))) == "tag"


def test_a_later_run_ends_an_earlier_one_and_starts_counting_anew() -> None:
    receiver, early, late = seal(OTHER), seal(epoch=5), seal(epoch=6)
    assert isinstance(receiver.open(early.seal(b"1")), Opened)
    kept = early.seal(b"2")
    assert receiver.open(late.seal(b"3")) == Opened(ONE, 6, b"3")
    assert receiver.open(kept) == Refused("epoch", ONE)
    early.renew(7)
    assert receiver.open(early.seal(b"4")) == Opened(ONE, 7, b"4")


def test_a_forged_later_epoch_does_not_end_the_run() -> None:
    receiver, sender = seal(OTHER), seal()
    packet = bytearray(sender.seal(b"1"))
    packet[25:31] = b"\xff" * 6
    assert reason(receiver.open(bytes(packet))) == "tag"
    assert isinstance(receiver.open(sender.seal(b"2")), Opened)


def test_packets_out_of_order_are_opened_within_the_window() -> None:
    receiver, sender = seal(OTHER), seal()
    packets = [sender.seal(b"%d" % number) for number in range(WINDOW + 1)]
    assert isinstance(receiver.open(packets[-1]), Opened)
    assert isinstance(receiver.open(packets[1]), Opened)
    assert reason(receiver.open(packets[0])) == "replay"


def test_keys_change_while_packets_are_under_way() -> None:
    receiver, sender = seal(OTHER), seal()
    under_way = sender.seal(b"old")
    both = Ring(keys=(OLD, NEW), primary=key_id(NEW))
    for user in (receiver, sender):
        user.use(both)
    assert isinstance(receiver.open(sender.seal(b"new")), Opened)
    assert isinstance(receiver.open(under_way), Opened)
    receiver.use(Ring.first(NEW))
    late = seal().seal(b"removed")
    assert receiver.open(late) == Refused("key", ONE)
    assert isinstance(receiver.open(sender.seal(b"new")), Opened)


def test_no_nonce_is_used_twice_with_one_key() -> None:
    """Also when keys come, go and come back, and when the run goes on in a new epoch."""
    sender, seen = seal(), set[bytes]()
    rings = [RING, Ring(keys=(OLD, NEW), primary=key_id(NEW)), Ring.first(NEW), RING]
    for epoch in (5, 6):
        if epoch == 6:
            sender.renew(epoch)
        for ring in rings:
            sender.use(ring)
            for _ in range(3):
                header = sender.seal(b"x")[: OVERHEAD_BYTES - 16]
                assert header not in seen  # key, epoch and counter
                seen.add(header)


def test_only_a_later_epoch_can_be_gone_on_in() -> None:
    sender = seal(epoch=5)
    for epoch in (4, 5):
        with pytest.raises(ValueError, match="later"):
            sender.renew(epoch)


def test_what_is_kept_of_senders_is_bounded_and_strangers_leave_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealing, "SENDERS_MAX", 8)
    receiver = seal(OTHER)
    for number in range(3, 53):
        assert isinstance(receiver.open(seal(bytes([number]) * 16).seal(b"")), Opened)
        assert len(receiver._senders) <= 8
    kept = dict(receiver._senders)
    receiver.open(seal(bytes([99]) * 16, ring=Ring.first(NEW)).seal(b""))
    receiver.open(seal(bytes([98]) * 16).seal(b"")[:-1])
    assert receiver._senders == kept
    for sender in list(kept):
        receiver.forget(sender, 4)  # it has come back since
        assert sender in receiver._senders
        receiver.forget(sender, 5)
    assert not receiver._senders
