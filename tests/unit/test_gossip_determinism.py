"""The same inputs give the same bytes, whatever the seed of Python's hashes is."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from netd.gossip.values import GLOBAL
from tests.unit.gossip_cores import Lab, address_of

SCOPES = [b"scope--1", b"scope--2", b"scope--3"]


def story() -> str:
    """Joins, records, a partition, departures, a rotation; and a hash of all that was said."""
    lab = Lab()
    digest = hashlib.sha256()
    counted = 0

    def passes(source: tuple[str, int], to: tuple[str, int]) -> bool:
        nonlocal counted
        counted += 1
        return counted % 7 != 0  # some loss

    cores = lab.cluster(7)
    _listen(lab, digest)
    for number, core in enumerate(cores):
        for scope in SCOPES[number % 3 :]:
            core.subscribe(scope, lab.now_s)
            core.publish(scope, "t", f"k{number}", bytes([number]), lab.now_s)
        core.publish(GLOBAL, "t", f"k{number}", bytes([number]), lab.now_s)
    lab.packets = passes
    lab.run(10.0)
    key = cores[0].install_key(bytes([9]) * 32, lab.now_s)
    lab.run(5.0)
    cores[0].use_key(key, lab.now_s)
    lab.cut(cores[:4], cores[4:])
    lab.run(60.0)
    for core in cores[:3]:
        core.unsubscribe(SCOPES[2], lab.now_s)
    lab.heal()
    lab.run(60.0)
    cores[6].leave(lab.now_s)
    (again,) = lab.add(2, epoch=2)
    again.join([address_of(1), address_of(3)], lab.now_s)
    lab.run(20.0)
    for core in cores:
        for event in lab.events[core.id]:
            digest.update(repr(event).encode())
        digest.update(repr(sorted(core.counters.items())).encode())
    return f"{digest.hexdigest()} {lab.sent} {lab.calls}"


def _listen(lab: Lab, digest: "hashlib._Hash") -> None:
    """Have every packet and request that is sent from now on go into the digest."""
    for core in lab.cores.values():
        take = core.take

        def heard(take=take):  # type: ignore[no-untyped-def]
            output = take()
            for datagram in output.datagrams:
                digest.update(repr(datagram).encode())
            for call in output.calls:
                digest.update(repr(call).encode())
            return output

        core.take = heard  # type: ignore[method-assign]


def _told_with(hash_seed: str) -> str:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", "from tests.unit.test_gossip_determinism import *; print(story())"],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    ).stdout.strip()


def test_hashes_do_not_matter() -> None:
    told = story()
    assert told == story()
    assert int(told.split()[1]) > 2_000
    for seed in ("1", "77"):
        assert _told_with(seed) == told
