"""A node's key and its epoch, over restarts, lost disks and damaged files."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from netd.cluster import identity
from netd.cluster.identity import NodeKey, next_epoch, verify
from netd.model.errors import Unavailable


def test_a_key_is_made_once_and_kept_for_the_owner_alone(tmp_path: Path) -> None:
    first = NodeKey.open(tmp_path)
    second = NodeKey.open(tmp_path)
    assert first.id == second.id
    assert first.public_key == second.public_key
    assert len(first.id) == 16
    assert first.id == hashlib.blake2b(first.public_key, digest_size=16).digest()
    assert (tmp_path / "identity.key").stat().st_mode & 0o777 == 0o600
    assert NodeKey.open(_folder(tmp_path / "other")).id != first.id


def test_signatures_are_of_the_key_and_of_the_message(tmp_path: Path) -> None:
    key = NodeKey.open(tmp_path)
    other = NodeKey.open(_folder(tmp_path / "other"))
    signature = key.sign(b"message")
    assert len(signature) == 64
    assert verify(key.public_key, b"message", signature)
    assert not verify(key.public_key, b"massage", signature)
    assert not verify(other.public_key, b"message", signature)
    assert not verify(b"no key", b"message", signature)
    assert not verify(key.public_key, b"message", b"")


@pytest.mark.parametrize("damage", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_key_is_not_replaced_but_told_with_a_remedy(
    tmp_path: Path, damage: bytes
) -> None:
    NodeKey.open(tmp_path)
    path = tmp_path / "identity.key"
    path.write_bytes(damage)
    with pytest.raises(Unavailable, match=f"damaged.*rm {path}"):
        NodeKey.open(tmp_path)
    assert path.read_bytes() == damage


def test_every_part_of_a_key_file_is_a_damaged_one(tmp_path: Path) -> None:
    NodeKey.open(tmp_path)
    path = tmp_path / "identity.key"
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(Unavailable, match="damaged"):
            NodeKey.open(tmp_path)


def test_a_key_that_others_may_change_is_refused(tmp_path: Path) -> None:
    NodeKey.open(tmp_path)
    (tmp_path / "identity.key").chmod(0o622)
    with pytest.raises(Unavailable, match="chmod 600"):
        NodeKey.open(tmp_path)


def test_a_disk_that_takes_no_key_or_epoch_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        NodeKey.open(tmp_path)
    with pytest.raises(Unavailable, match="No space left"):
        next_epoch(tmp_path)


def test_an_epoch_is_the_time_and_always_above_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_ms = time.time_ns() // 1_000_000
    first = next_epoch(tmp_path)
    assert before_ms <= first <= before_ms + 60_000
    monkeypatch.setattr(time, "time_ns", lambda: 0)  # a clock that went back to 1970
    assert next_epoch(tmp_path) == first + 1
    assert next_epoch(tmp_path) == first + 2
    assert next_epoch(tmp_path, above=first + 100) == first + 101
    assert next_epoch(tmp_path, above=5) == first + 102


@pytest.mark.parametrize("damage", [b"", b"12x", b"-5", b"\xff\xfe", b"9" * 40, b"1" * 1000])
def test_for_a_damaged_epoch_the_clock_stands_in(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "epoch"
    path.write_bytes(damage)
    before_ms = time.time_ns() // 1_000_000
    assert next_epoch(tmp_path) >= before_ms
    assert int(path.read_text()) >= before_ms


def test_an_epoch_is_durable_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next_epoch(tmp_path)

    def cut(_path: Path, _target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            next_epoch(tmp_path)
    assert (tmp_path / "epoch").read_text() == f"{first}\n"
    assert next_epoch(tmp_path) > first


def test_there_is_an_end_to_epochs(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no epoch above"):
        next_epoch(tmp_path, above=identity.EPOCH_MAX)
    assert next_epoch(tmp_path) < identity.EPOCH_MAX


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
