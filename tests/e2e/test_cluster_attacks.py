"""What does not belong to the cluster stays outside, and what happens to keys costs nobody."""

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from netd.client.errors import ApiError
from netd.cluster import identity, snapshot
from netd.cluster.identity import NodeKey
from netd.cluster.secret import load
from netd.cluster.tokens import JoinToken
from tests.e2e.cluster_lab import PORT, Cluster, ClusterHost
from tests.e2e.lab import Namespace, fill_disk
from tests.lab.waiting import wait_for

PACKETS = 30
SPEAKERS = 150  # connections that say next to nothing
TCP_MAX_S = 5.0  # a join with a token, while they hold the port

_LISTEN = """
import socket, sys
address, count = sys.argv[1], int(sys.argv[2])
listening = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
print("ready", flush=True)
while count:
    packet = listening.recv(65536)
    header = 4 * (packet[0] & 15)
    port = int.from_bytes(packet[header + 2 : header + 4], "big")
    if packet[9] == 17 and port == 7940 and packet[16:20] == socket.inet_aton(address):
        print(packet[header + 8 :].hex(), flush=True)
        count -= 1
"""
_SHOOT = """
import socket, sys
gun = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for line in sys.stdin:
    gun.sendto(bytes.fromhex(line), (sys.argv[1], 7940))
"""
# Sends one byte of a handshake (RFC 8446, 5.1) on each connection, now and then.
_WHISPER = """
import socket, sys, time
hello = bytes.fromhex("1603010200010001fc0303")
voices = [socket.create_connection((sys.argv[1], 7940)) for _ in range(int(sys.argv[2]))]
print("ready", flush=True)
for byte in hello:
    for voice in voices:
        try:
            voice.send(bytes([byte]))
        except OSError:
            pass
    time.sleep(0.3)
print("done", flush=True)
time.sleep(60)
"""
_BABBLE = """
import os, socket, sys
for size in (0, 1, 100, 100_000):
    for data in (os.urandom(size), b"GET / HTTP/1.0\\r\\n\\r\\n", bytes(size)):
        with socket.create_connection((sys.argv[1], 7940)) as voice:
            try:
                voice.sendall(data)
                voice.shutdown(socket.SHUT_WR)
                while voice.recv(65536):
                    pass
            except OSError:
                pass
"""


def shoot(space: Namespace, target: ClusterHost, packets: list[bytes]) -> None:
    """Send packets to the target's gossip port."""
    subprocess.run(
        space.wrap(sys.executable, "-c", _SHOOT, target.address),
        input="".join(f"{packet.hex()}\n" for packet in packets),
        text=True,
        check=True,
        timeout=60,
    )


def overhear(host: ClusterHost, count: int) -> list[bytes]:
    """So many packets that others send to the host, as they come."""
    done = subprocess.Popen(
        host.wrap(sys.executable, "-c", _LISTEN, host.address, str(count)),
        stdout=subprocess.PIPE,
        text=True,
    )
    told, _ = done.communicate(timeout=60)
    ready, *lines = told.splitlines()
    assert ready == "ready"
    return [bytes.fromhex(line) for line in lines]


def refused(host: ClusterHost) -> dict[str, float]:
    """Packets and streams that changed nothing, by reason."""
    named = host.metrics("netd_cluster_packets_refused_total")
    return {re.findall(r'"(.*)"', name)[0]: value for name, value in named.items()}


def seen(cluster: Cluster) -> list[dict[str, tuple[str, int, int, str]]]:
    """All that packets could change of members, by each host."""
    return [
        {
            member["id"]: tuple(
                member[field] for field in ("state", "epoch", "incarnation", "address")
            )
            for member in host.client.members()
        }
        for host in cluster.hosts
    ]


def await_refused(host: ClusterHost, before: dict[str, float], reason: str, count: int) -> None:
    wait_for(
        lambda: refused(host).get(reason, 0) - before.get(reason, 0) >= count,
        what=f"{count} refused as {reason}",
        show=lambda: refused(host),
    )


# Packets and streams of strangers


def test_junk_at_the_port_changes_nothing(cluster: Cluster) -> None:
    target = cluster.hosts[0]
    with cluster.guest("stranger") as stranger:
        genuine = overhear(target, PACKETS)
        views, counts = seen(cluster), refused(target)
        revisions = {host: host.revision for host in cluster.hosts}
        for reason, packets in junk(genuine).items():
            shoot(stranger, target, packets)
            await_refused(target, counts, reason, len(packets))
        stranger.run(sys.executable, "-c", _BABBLE, target.address)
        await_refused(target, counts, "stream_handshake", 10)
        assert seen(cluster) == views
        for host in cluster.hosts:
            assert host.events(revisions[host]) == []
            assert host.metrics().get("netd_cluster_core_errors_total", 0) == 0
            assert host.client.status()["ready"]
        assert "Traceback" not in target.log.read_text()
        cluster.await_whole(deadline_s=5)


def junk(genuine: list[bytes]) -> dict[str, list[bytes]]:
    """Packets that have to be refused, by the reason. `genuine` have arrived already."""
    twisted = [packet[:-1] + bytes([packet[-1] ^ 1]) for packet in genuine]
    return {
        "replay": genuine,
        "tag": twisted,
        "truncated": [packet[:40] for packet in genuine] + [b"", b"\0"],
        "format": [bytes([9]) + packet[1:] for packet in genuine] + [os.urandom(1200)],
        "cluster": [packet[:1] + b"\0\0\0\0" + packet[5:] for packet in genuine],
        "key": [packet[:5] + b"\0\0\0\0" + packet[9:] for packet in genuine],
        "too_long": [os.urandom(size) for size in (2_100, 9_000, 60_000)],
    }


def test_packets_for_another_host_change_nothing(cluster: Cluster) -> None:
    """They are genuine and new to the target, but nothing that it has not heard or would hear."""
    first, second, *others = cluster.hosts
    genuine = overhear(first, PACKETS)
    views = seen(cluster)
    revisions = {host: host.revision for host in cluster.hosts}
    with cluster.guest("stranger") as stranger:
        for target in (second, *others):
            shoot(stranger, target, genuine)
    assert seen(cluster) == views
    for host in cluster.hosts:
        assert host.events(revisions[host]) == []
    cluster.await_whole(deadline_s=5)


def test_silent_connections_keep_nobody_out(cluster: Cluster) -> None:
    target = cluster.hosts[0]
    with cluster.guest("stranger") as stranger, cluster.guest("guest") as guest:
        before = {host: host.revision for host in cluster.hosts}
        whisper = stranger.start_program(
            sys.executable, "-c", _WHISPER, target.address, str(SPEAKERS)
        )
        assert whisper.stdout is not None
        assert whisper.stdout.readline() == "ready\n"
        guest.flags = ["--profile", "fast"]
        guest.up()
        token = target.netctl("member", "token").splitlines()[0]
        began_s = time.monotonic()
        guest.netctl("member", "join", "--token-file", "-", feed=token)
        assert time.monotonic() - began_s < TCP_MAX_S
        cluster.await_whole([*cluster.hosts, guest])
        took_s = slowest_call(target)
        assert took_s < 0.5
        assert whisper.stdout.readline() == "done\n"
        counts = refused(target)
        assert counts.get("stream_address", 0) > 0
        await_refused(target, {}, "stream_deadline", 10)
        wait_for(
            lambda: target.metrics()["netd_cluster_stream_strangers"] == 0,
            what="their places are free again",
        )
        for host in cluster.hosts:
            types = {event["type"] for event in host.events(before[host])}
            assert types <= {"member.joined", "token.issued"}
        guest.netctl("member", "leave")


def slowest_call(host: ClusterHost) -> float:
    """The longest of some calls of the API, in seconds."""
    slowest_s = 0.0
    for _ in range(50):
        began_s = time.monotonic()
        host.client.members()
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    return slowest_s


# Keys and tokens


def test_another_key_opens_nothing(cluster: Cluster) -> None:
    target = cluster.hosts[0]
    views = seen(cluster)
    with cluster.guest("guest") as guest:
        guest.flags = ["--cluster-key", str(cluster.make_key("other.key")), "--profile", "fast"]
        guest.up()
        counts = refused(target)
        told = guest.netctl("member", "join", target.address, code=1)
        assert target.address in told
        assert "not a member of this cluster" in told
        await_refused(target, counts, "stream_handshake", 1)
        assert list(guest.members()) == [guest.id]
        shoot(guest, target, [foreign_packet(guest)])
        await_refused(target, counts, "cluster", 1)
    assert seen(cluster) == views


def foreign_packet(host: ClusterHost) -> bytes:
    """A packet as it begins in the cluster whose key the host has; the rest is of no account."""
    secret = load(Path(host.flags[1]))
    key = NodeKey.open(host.state_dir)
    return b"\1" + secret.cluster_id[:4] + os.urandom(4) + key.id + os.urandom(60)


def test_a_token_lets_in_as_often_as_it_says(cluster: Cluster) -> None:
    issuer, other, *_ = cluster.hosts
    with cluster.guest("guest-1") as one, cluster.guest("guest-2") as two:
        for guest in (one, two):
            guest.flags = ["--profile", "fast"]
            guest.up()
        told = one.netctl("member", "join", issuer.address, code=1)
        assert "netctl member token" in told
        for wrong in ("nonsense", "netd1.AAAA", "netd1." + "A" * 200):
            told = one.netctl("member", "join", "--token-file", "-", feed=wrong, code=2)
            assert "'netctl member token'" in told.replace("`", "'")
        token = issuer.netctl("member", "token").splitlines()[0]
        forged = with_other_secret(token)
        told = one.netctl("member", "join", "--token-file", "-", feed=forged, code=2)
        assert "does not know the token" in told
        one.netctl("member", "join", "--token-file", "-", feed=token)
        cluster.await_whole([*cluster.hosts, one])
        told = two.netctl("member", "join", "--token-file", "-", feed=token, code=2)
        assert "used up" in told
        short = issuer.netctl("member", "token", "--expires", "1s").splitlines()[0]
        expires_s = time.monotonic() + 1.1
        time.sleep(max(0.0, expires_s - time.monotonic()))  # that it passes is what is tested
        told = two.netctl("member", "join", "--token-file", "-", feed=short, code=2)
        assert "expired" in told
        # Only the issuer redeems it, whoever is asked.
        elsewhere = led_to(other, issuer.netctl("member", "token").splitlines()[0])
        told = two.netctl("member", "join", "--token-file", "-", feed=elsewhere, code=2)
        assert "only its issuer redeems it" in told
        assert list(two.members()) == [two.id]
        token = issuer.netctl("member", "token", "--uses", "2").splitlines()[0]
        two.netctl("member", "join", "--token-file", "-", feed=token)
        cluster.await_whole([*cluster.hosts, one, two])
        # The key has come to stay.
        two.restart()
        cluster.await_whole([*cluster.hosts, one, two])
        for guest in (one, two):
            guest.netctl("member", "leave")


def with_other_secret(token: str) -> str:
    """The token as somebody would make it who knows only what everybody may know of it."""
    return msgspec.structs.replace(JoinToken.parse(token), secret=os.urandom(32)).text()


def led_to(host: ClusterHost, token: str) -> str:
    """The token as if the host had issued it."""
    addresses = ((host.address, PORT),)
    return msgspec.structs.replace(JoinToken.parse(token), addresses=addresses).text()


def test_keys_are_rotated_and_no_probe_fails(cluster: Cluster) -> None:
    first, second, *_ = cluster.hosts
    old = first.client.keys()[0]["id"]
    failed = {host: failures(host) for host in cluster.hosts}
    for host in (first, second):
        new = host.netctl("key", "rotate").splitlines()[0]
        await_only_key(cluster.hosts, new)
        assert new != old
    assert {host: failures(host) for host in cluster.hosts} == failed


def failures(host: ClusterHost) -> tuple[float, ...]:
    """Probes that failed, packets under keys that are not known, accusations of this host."""
    metrics = host.metrics()
    names = ("probes_failed", "refused_key", "refutations")
    return tuple(metrics.get(f"netd_cluster_{name}_total", 0) for name in names)


def await_only_key(hosts: list[ClusterHost], key_id: str) -> None:
    everybody = sorted(host.node for host in hosts)
    wait_for(
        lambda: all(
            [(key["id"], sorted(key["holders"]), sorted(key["users"])) for key in keys]
            == [(key_id, everybody, everybody)]
            for keys in (host.client.keys() for host in hosts)
        ),
        what=f"{key_id} the only key everywhere",
        show=lambda: [host.client.keys() for host in hosts],
    )


@pytest.mark.parametrize("restarted", [False, True])
def test_a_host_that_missed_a_rotation_catches_up(cluster: Cluster, restarted: bool) -> None:
    *others, away = cluster.hosts
    cluster.isolate(away)
    cluster.await_seen("dead", [away], others)
    others[0].netctl("key", "rotate")
    new = others[0].netctl("key", "rotate").splitlines()[0]  # the key that it has is forgotten
    if restarted:
        away.kill()
        away.up()
    cluster.heal()
    cluster.await_whole(deadline_s=60)
    await_only_key(cluster.hosts, new)


# Ends at any time, and disks without room


def test_a_daemon_may_be_killed_at_any_moment(cluster: Cluster) -> None:
    first, *_, victim = cluster.hosts
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    secret = load(cluster.key_file)
    epoch = 0
    for turn in range(8):
        if not victim.running:
            victim.launch_only()
        if turn % 2:
            victim.await_ready()
            if len(victim.client.keys()) < 3:
                victim.client.install_key()
            else:
                drop_keys(victim)
        time.sleep(chance.uniform(0, 1.2))  # a moment that nobody has chosen
        victim.kill()
        # What is there is whole: of before or of after.
        assert NodeKey.open(victim.state_dir).id.hex()
        later = int((victim.state_dir / identity.EPOCH_FILE).read_text())
        assert later >= epoch
        epoch = later
        for name in (snapshot.PEERS_FILE, snapshot.RING_FILE):
            path = victim.state_dir / name
            if path.exists():
                json.loads(path.read_bytes())
        ring = snapshot.load_ring(victim.state_dir, secret.cluster_id)
        assert ring is None or ring.is_sound()
    victim.up()
    cluster.await_whole()
    assert "is not used" not in victim.log.read_text()
    assert "is damaged" not in victim.log.read_text()
    wait_for(lambda: drop_keys(first), what="the keys that were installed are gone")


def drop_keys(host: ClusterHost) -> bool:
    """Remove all keys but the primary one; False when a member may still be using one."""
    keys = host.client.keys()
    try:
        for key in keys:
            if not key["primary"]:
                host.client.remove_key(key["id"])
    except ApiError as error:
        if error.code != "conflict":
            raise
        return False
    return True


def test_a_full_disk_does_not_end_a_membership(cluster: Cluster) -> None:
    first = cluster.hosts[0]
    with cluster.guest("guest") as guest:
        guest.state_dir.mkdir()
        mount = f'mount -t tmpfs -o size=512k none {guest.state_dir} && exec "$@"'
        guest.around = ("unshare", "--mount", "sh", "-ec", mount, "sh")
        guest.up()
        guest.netctl("member", "join", first.address)
        everybody = [*cluster.hosts, guest]
        cluster.await_whole(everybody)
        ballast = Path(f"/proc/{guest.daemon_pid}/root{guest.state_dir}/ballast")
        fill_disk(ballast)
        told = guest.netctl("key", "install", code=1)
        assert "cannot be written" in told
        told = guest.netctl("member", "token", code=1)
        assert "cannot be written" in told
        before = first.revision
        new = first.netctl("key", "rotate").splitlines()[0]
        await_only_key(everybody, new)
        wait_for(
            lambda: "kept in memory only" in guest.log.read_text(), what="the log tells of the disk"
        )
        types = {event["type"] for event in first.events(before)}
        assert not types & {"member.suspect", "member.dead"}
        ballast.unlink()
        guest.netctl("member", "token")
        guest.netctl("member", "leave")
