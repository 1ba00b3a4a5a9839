"""Peers and the keyring on disk: whole, of this cluster, or not used."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netd.cluster import files, snapshot
from netd.cluster.snapshot import Peer
from netd.gossip.ring import Ring, key_id
from netd.model.errors import Unavailable

CLUSTER = bytes(range(8))
OTHER = bytes(8)
PEERS = (Peer("0" * 32, "192.0.2.1", 7940), Peer("f" * 32, "2001:db8::1", 7941))


def new_ring() -> Ring:
    keys = (os.urandom(32), os.urandom(32))
    return Ring(keys=keys, primary=key_id(keys[1]), stamp=1_800_000_000_000, author=b"a" * 16)


def test_peers_are_found_again(tmp_path: Path) -> None:
    assert snapshot.load_peers(tmp_path, CLUSTER) == ()
    snapshot.store_peers(tmp_path, CLUSTER, PEERS)
    assert snapshot.load_peers(tmp_path, CLUSTER) == PEERS
    assert PEERS[1].address == ("2001:db8::1", 7941)
    assert snapshot.load_peers(tmp_path, OTHER) == ()
    snapshot.forget_peers(tmp_path)
    snapshot.forget_peers(tmp_path)
    assert snapshot.load_peers(tmp_path, CLUSTER) == ()


def test_so_many_peers_are_kept_as_can_be_read_again(tmp_path: Path) -> None:
    longest = "2001:db8:1111:2222:3333:4444:5555:6666"
    many = [Peer(f"{n:032x}", longest, 65535) for n in range(snapshot.PEERS_MAX + 10)]
    snapshot.store_peers(tmp_path, CLUSTER, many)
    assert len(snapshot.load_peers(tmp_path, CLUSTER)) == snapshot.PEERS_MAX


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"null",
        b'{"cluster":"0001020304050607","peers":[["id"]]}',
        b'{"cluster":"0001020304050607","peers":[{"id":"x","host":"h","port":1}]}',
        b'{"cluster":"0001020304050607","peers":[{"id":"' + b"0" * 32 + b'","host":"h","port":0}]}',
        b" " * (2 << 20),
        b"\xff\xfe\x00",
    ],
)
def test_damaged_files_are_told_of_and_not_used(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "peers.json").write_bytes(damage)
    (tmp_path / "keyring.json").write_bytes(damage)
    assert snapshot.load_peers(tmp_path, CLUSTER) == ()
    assert snapshot.load_ring(tmp_path, CLUSTER) is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    snapshot.store_peers(tmp_path, CLUSTER, PEERS)
    assert snapshot.load_peers(tmp_path, CLUSTER) == PEERS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.data())
def test_torn_and_changed_files_never_raise(tmp_path: Path, data: st.DataObject) -> None:
    snapshot.store_peers(tmp_path, CLUSTER, PEERS)
    snapshot.store_ring(tmp_path, CLUSTER, new_ring())
    for name in ("peers.json", "keyring.json"):
        path = tmp_path / name
        whole = bytearray(path.read_bytes())
        cut = data.draw(st.integers(0, len(whole) - 1))
        whole[cut] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    peers = snapshot.load_peers(tmp_path, CLUSTER)
    assert len(peers) <= len(PEERS)
    ring = snapshot.load_ring(tmp_path, CLUSTER)
    assert ring is None or ring.is_sound()


def test_the_keyring_is_found_again_for_the_owner_alone(tmp_path: Path) -> None:
    assert snapshot.load_ring(tmp_path, CLUSTER) is None
    ring = new_ring().with_key(os.urandom(32), (1_900_000_000_000, b"b" * 16))
    snapshot.store_ring(tmp_path, CLUSTER, ring)
    assert snapshot.load_ring(tmp_path, CLUSTER) == ring
    assert snapshot.load_ring(tmp_path, OTHER) is None
    assert (tmp_path / "keyring.json").stat().st_mode & 0o777 == 0o600


def test_a_keyring_without_its_primary_key_or_with_a_short_one_is_not_used(tmp_path: Path) -> None:
    ring = new_ring()
    for wrong in (
        Ring(keys=ring.keys[:1], primary=ring.primary),
        Ring(keys=(*ring.keys, b"short"), primary=ring.primary),
        Ring(keys=(), primary=ring.primary),
    ):
        snapshot.store_ring(tmp_path, CLUSTER, wrong)
        assert snapshot.load_ring(tmp_path, CLUSTER) is None


def test_a_keyring_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = new_ring()
    snapshot.store_ring(tmp_path, CLUSTER, ring)

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "replace", full)
    with pytest.raises(Unavailable, match="No space left"):
        snapshot.store_ring(tmp_path, CLUSTER, new_ring())
    assert snapshot.load_ring(tmp_path, CLUSTER) == ring
