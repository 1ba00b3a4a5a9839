"""Whole nodes on loopback: they meet by key and by token, leave, restart, and keep their files."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from netd.cluster import attempts, by_token, files, participation, secret
from netd.cluster.addresses import Place, parse
from netd.cluster.running import Running
from netd.cluster.tokens import JoinToken
from netd.engine.interfaces import MemberChange, Record, RecordChange
from netd.gossip.settings import PROTOCOL_MAX
from netd.model.errors import Conflict, Invalid, NotFound, Unavailable
from tests.unit.service_lab import Lab, Watched, joined, key_ids, new_lab, sees, states, until


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with new_lab(tmp_path) as made:
        yield made


# Members


async def test_nodes_with_one_key_meet_and_see_each_other(lab: Lab) -> None:
    a, b = await lab.pair()
    c = await lab.start("c", seeds=(parse(a.health().bound),))
    for here in (a, b, c):
        for name in "abc":
            await sees(here, name)
    await until(lambda: all(member.rtt_ms is not None for member in a.members()))
    own, other, _ = a.members()
    assert (own.id, own.name, own.address) == (a.id, "a", a.health().advertised)
    assert own.rtt_ms == 0
    assert own.epoch > 0
    assert (other.id, other.address, other.version) == (b.id, b.health().bound, "1.2.3")
    assert other.protocol is not None
    assert other.protocol.current == PROTOCOL_MAX
    health = a.health()
    assert health.secured
    assert health.primary == a.keys()[0].id
    assert {peer.name for peer in health.peers} == {"b", "c"}
    assert health.unanswered == {}
    assert a.counters()["packets_received"] > 0
    assert a.levels()["members"] == 3


async def test_nodes_with_other_keys_do_not_meet(lab: Lab) -> None:
    a = await lab.start("a")
    other = lab.folder / "other.key"
    other.write_text(secret.generate())
    other.chmod(0o600)
    b = await lab.start("b", key_file=other)
    (result,) = await b.join([a.health().bound], None)
    assert "not a member of this cluster" in result.error
    assert list(states(a)) == ["a"]
    assert list(states(b)) == ["b"]


async def test_without_keys_nodes_meet_on_loopback(lab: Lab) -> None:
    a, b = await lab.start("a", key=False), await lab.start("b", key=False)
    assert await joined(a, b)
    await sees(b, "a")
    assert not a.health().secured
    assert a.keys() == ()
    for change in (a.install_key(None), a.issue_token(60, 1)):
        with pytest.raises(Unavailable, match="no key"):
            await change


async def test_seeds_that_start_later_are_found(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    a = await lab.start("a", seeds=(Place("127.0.0.1", port),))
    place = f"127.0.0.1:{port}"
    await until(lambda: place in a.health().unanswered)
    assert "Connect" in a.health().unanswered[place]
    await lab.start("b", bind=("127.0.0.1", port))
    await sees(a, "b")
    await until(lambda: not a.health().unanswered)


async def test_each_address_to_join_is_answered_for(lab: Lab) -> None:
    a, b = await lab.start("a"), await lab.start("b")
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"127.0.0.1:{server.getsockname()[1]}"
    results = await b.join([nobody, a.health().bound], None)
    assert [result.address for result in results] == [nobody, a.health().bound]
    assert "Connect" in results[0].error
    assert results[1].error == ""
    with pytest.raises(Invalid) as refused:
        await b.join([nobody, "no address"], None)
    assert refused.value.field == "addresses[1]"
    with pytest.raises(Invalid):
        await b.join([nobody] * 1000, None)


async def test_a_node_that_is_killed_is_dead_to_the_others_and_back_after_its_start(
    lab: Lab,
) -> None:
    a, b = await lab.pair()
    c = await lab.start("c")
    assert await joined(c, a)
    for here in (a, b):
        await sees(here, "c")
    c_seen = Watched(a)
    c.publish([Record(table="t", key="k", value=b"1")])
    await until(lambda: (c.id, "k") in c_seen.records())
    await c.close()
    await sees(a, "c", "dead")
    await until(lambda: (c.id, "k") not in c_seen.records())
    # Back at another port, by the peers that it knew.
    again = await lab.open("c")
    assert again.id == c.id
    again.publish([Record(table="t", key="k", value=b"2")])
    await again.start()
    await sees(a, "c")
    await until(lambda: c_seen.records().get((c.id, "k")) == b"2")
    epochs = [
        change.member.epoch
        for change in c_seen.changes
        if isinstance(change, MemberChange) and change.member.id == c.id
    ]
    assert epochs == sorted(epochs)
    assert epochs[0] < epochs[-1]


# Leaving


async def test_a_node_that_leaves_is_on_its_own_and_can_come_back(lab: Lab) -> None:
    a, b = await lab.pair()
    watched = Watched(b)
    a.publish([Record(table="t", key="k", value=b"1")])
    b.publish([Record(table="t", key="mine", value=b"2")])
    await until(lambda: (a.id, "k") in watched.records())
    await b.leave()
    await sees(a, "b", "left")
    assert list(states(b)) == ["b"]
    assert b.health().bound == ""
    assert b.keys() == ()
    await until(lambda: watched.records() == {(b.id, "mine"): b"2"})
    await b.leave()  # does nothing
    a_seen = Watched(a)
    assert await joined(b, a)
    await sees(a, "b")
    await sees(b, "a")
    await until(lambda: a_seen.records().get((b.id, "mine")) == b"2")
    await until(lambda: watched.records().get((a.id, "k")) == b"1")


async def test_a_node_that_has_left_does_not_come_back_by_itself(lab: Lab) -> None:
    a, b = await lab.pair()
    await until((lab.folder / "b" / "peers.json").exists)
    await b.leave()
    await b.close()
    assert not (lab.folder / "b" / "peers.json").exists()
    again = await lab.start("b")
    assert again.counters().get("joins", 0) == 0
    assert list(states(again)) == ["b"]
    await sees(a, "b", "left")


# Tokens


async def test_a_token_brings_a_node_in_for_good(lab: Lab) -> None:
    a = await lab.start("a")
    b = await lab.start("b", key=False, bind=None)
    assert b.health().bound == ""
    with pytest.raises(Unavailable, match=r"no key of a cluster.*--cluster-key"):
        await b.join([a.health().bound], None)
    issued = await a.issue_token(60, 1)
    await b.close()
    b = await lab.start("b", key=False)  # open, on loopback
    results = await b.join([], issued.token)
    assert [(result.address, result.error) for result in results] == [(a.health().bound, "")]
    await sees(a, "b")
    stored = lab.folder / "b" / "cluster.key"
    assert stored.read_text().strip() == lab.key_file.read_text().strip()
    assert stored.stat().st_mode & 0o777 == 0o600
    c = await lab.start("c", key=False)
    with pytest.raises(Invalid, match="used up") as refused:
        await c.join([], issued.token)
    assert refused.value.field == "token"
    await b.close()
    again = await lab.start("b", key=False, bind=("127.0.0.1", 0))
    assert again.health().secured
    await sees(again, "a")


async def test_only_the_issuer_redeems_and_it_may_have_restarted(lab: Lab) -> None:
    a, b = await lab.pair()
    issued = await a.issue_token(60, 2)
    port = parse(a.health().bound).port
    other = JoinToken.parse(issued.token)
    elsewhere = JoinToken(
        cluster_id=other.cluster_id,
        authority_public_key=other.authority_public_key,
        secret=other.secret,
        expires_s=other.expires_s,
        addresses=((parse(b.health().bound).host, parse(b.health().bound).port),),
    )
    c = await lab.start("c", key=False)
    with pytest.raises(Invalid, match="only its issuer"):
        await c.join([], elsewhere.text())
    await a.close()
    with pytest.raises(Unavailable, match="issuer cannot be reached"):
        await c.join([], issued.token)
    await lab.start("a", bind=("127.0.0.1", port))
    await c.join([], issued.token)
    await sees(b, "c")


async def test_a_token_is_redeemed_exactly_as_often_as_it_says(lab: Lab) -> None:
    a = await lab.start("a")
    issued = await a.issue_token(60, 3)
    joiners = [await lab.start(f"j{n}", key=False) for n in range(8)]
    outcomes = await asyncio.gather(
        *(joiner.join([], issued.token) for joiner in joiners), return_exceptions=True
    )
    assert sum(isinstance(outcome, tuple) for outcome in outcomes) == 3
    assert sum(isinstance(outcome, Invalid) for outcome in outcomes) == 5
    assert a.counters()["token_redeemed"] == 3
    assert sum((lab.folder / f"j{n}" / "cluster.key").exists() for n in range(8)) == 3


async def test_a_token_of_another_cluster_is_a_conflict(lab: Lab) -> None:
    a = await lab.start("a")
    key = lab.folder / "other.key"
    key.write_text(secret.generate())
    key.chmod(0o600)
    b = await lab.start("b", key_file=key)
    issued = await a.issue_token(60, 1)
    with pytest.raises(Conflict, match="another cluster"):
        await b.join([], issued.token)
    with pytest.raises(Invalid, match="join token"):
        await b.join([], "netd1.x")
    await lab.start("c", key=False)
    assert a.counters().get("token_redeemed", 0) == 0


async def test_a_token_in_a_file_is_redeemed_once_its_issuer_is_there(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_token, "AGAIN_S", 0.05)
    a = await lab.start("a")
    issued = await a.issue_token(60, 1)
    port = parse(a.health().bound).port
    await a.close()
    token_file = lab.folder / "token"
    token_file.write_text(issued.token)
    token_file.chmod(0o600)
    b = await lab.start("b", key=False, token_file=token_file)
    await until(lambda: "cannot be reached" in b.health().unanswered.get(str(token_file), ""))
    a = await lab.start("a", bind=("127.0.0.1", port))
    await sees(a, "b")
    await until(lambda: not b.health().unanswered)
    await b.close()
    b = await lab.start("b", key=False, token_file=token_file)  # used up, but needed no more
    await sees(b, "a")


async def test_a_token_is_used_once_though_the_port_is_taken_at_first(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_token, "AGAIN_S", 0.05)
    a = await lab.start("a")
    issued = await a.issue_token(60, 1)
    token_file = lab.folder / "token"
    token_file.write_text(issued.token)
    token_file.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = ("127.0.0.1", other.getsockname()[1])
        b = await lab.start("b", key=False, token_file=token_file, bind=bind)
        await until(lambda: f"port {bind[1]}" in b.health().unanswered.get(str(token_file), ""))
        with pytest.raises(Unavailable, match=f"port {bind[1]}"):
            await b.join([], issued.token)
    await sees(a, "b")
    await until(lambda: not b.health().unanswered)
    assert a.counters()["token_redeemed"] == 1


async def test_after_its_token_was_used_a_host_asks_until_the_issuer_answers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_token, "AGAIN_S", 0.05)
    a = await lab.start("a")
    token_file = lab.folder / "token"
    token_file.write_text((await a.issue_token(60, 1)).token)
    token_file.chmod(0o600)
    lost = ["no answer", "no answer"]
    join = Running.join

    async def join_later(self: Running, place: Place) -> str:
        return lost.pop() if lost else await join(self, place)

    monkeypatch.setattr(Running, "join", join_later)
    b = await lab.start("b", key=False, token_file=token_file)
    await until(lambda: "no answer" in b.health().unanswered.get(str(token_file), ""))
    await sees(a, "b")
    await until(lambda: not b.health().unanswered)


# Keys


async def test_keys_are_rotated_everywhere(lab: Lab) -> None:
    a, b = await lab.pair()
    (old,) = a.keys()
    new = await a.install_key(None)
    assert not new.primary
    await until(lambda: new.id in key_ids(b))
    await until(lambda: a.keys()[1].holders == ("a", "b"))
    assert (await a.use_key(new.id)).primary
    await until(lambda: b.keys()[0].id == new.id)
    await until(lambda: a.keys()[0].users == ("a", "b"))
    with pytest.raises(Conflict, match="in use"):
        await a.remove_key(new.id)
    await a.remove_key(old.id)
    await until(lambda: key_ids(b) == [new.id])
    with pytest.raises(NotFound, match=old.id):
        await a.use_key(old.id)
    await sees(a, "b")
    # What is on disk is what is used, also after a restart.
    path = lab.folder / "b" / "keyring.json"
    await until(lambda: len(json.loads(path.read_bytes())["ring"]["keys"]) == 1)
    await b.close()
    again = await lab.start("b")
    assert key_ids(again) == [new.id]
    await sees(again, "a")
    assert key_ids(again) == [new.id]


async def test_a_key_of_another_length_or_one_that_cannot_be_stored_is_refused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await lab.start("a")
    with pytest.raises(Invalid) as refused:
        await a.install_key(b"short")
    assert refused.value.field == "secret"
    known = os.urandom(32)
    first = await a.install_key(known)
    assert (await a.install_key(known)).id == first.id

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "replace", full)
        with pytest.raises(Unavailable, match="No space left"):
            await a.install_key(os.urandom(32))
    assert len(a.keys()) == 2


async def test_members_that_lack_a_key_are_named(lab: Lab) -> None:
    a, b = await lab.pair()
    running = b._participation.running
    assert running is not None
    core = running.node.core
    monkey = core._keys  # type: ignore[attr-defined]
    monkey.hear = lambda *_args: None  # this node hears of no new ring
    await until(lambda: set(a.keys()[0].holders) == {"a", "b"})
    new = await a.install_key(None)
    with pytest.raises(Conflict, match=r"do not have the key yet: b"):
        await a.use_key(new.id)


# Records and watchers


async def test_records_reach_the_others_and_own_ones_at_once(lab: Lab) -> None:
    a, b = await lab.pair()
    told_a, told_b = Watched(a), Watched(b)
    a.publish([Record(table="t", key=f"k{n}", value=b"%d" % n) for n in range(50)])
    await until(lambda: len(told_a.records()) == 50)
    await until(lambda: told_b.records() == told_a.records())
    a.publish([Record(table="t", key=f"k{n}", value=None) for n in range(49)])
    await until(lambda: told_b.records() == {(a.id, "k49"): b"49"})
    late = Watched(b)
    assert late.records() == {(a.id, "k49"): b"49"}
    tables = {change.table for change in told_b.changes if isinstance(change, RecordChange)}
    assert tables == {"t"}  # nothing of the protocol's own


@pytest.mark.parametrize(
    "record",
    [
        Record(table="", key="k", value=b""),
        Record(table="t" * 33, key="k", value=b""),
        Record(table="t", key="k" * 256, value=b""),
        Record(table="t", key="k", value=bytes((64 << 10) + 1)),
        Record(table="t", key="k", value=b"", scope=b"short"),
    ],
)
async def test_records_that_are_too_large_are_refused(lab: Lab, record: Record) -> None:
    a = await lab.start("a")
    with pytest.raises(Invalid):
        a.publish([Record(table="t", key="good", value=b"1"), record])
    assert Watched(a).records() == {}


async def test_what_is_published_before_the_start_is_there_from_the_first_moment(
    lab: Lab,
) -> None:
    a = await lab.start("a")
    watched = Watched(a)
    b = await lab.open("b", seeds=(parse(a.health().bound),))
    b.publish([Record(table="t", key="k", value=b"1")])
    await b.start()
    await until(lambda: watched.records())
    names = [
        change.member.name if isinstance(change, MemberChange) else "record"
        for change in watched.changes
        if not (isinstance(change, MemberChange) and change.member.id == a.id)
    ]
    assert names[:2] == ["b", "record"]


# On its own


async def test_on_its_own_a_node_is_its_only_member_and_opens_no_socket(lab: Lab) -> None:
    a = await lab.start("a", key=False, bind=None)
    (own,) = a.members()
    assert (own.id, own.name, own.state, own.address) == (a.id, "a", "alive", "")
    a.publish([Record(table="t", key="k", value=b"1")])
    assert Watched(a).records() == {(a.id, "k"): b"1"}
    assert a.health().bound == ""
    assert a.keys() == ()
    assert a.counters() == {}
    assert a.levels() == {}
    assert [thread.name for thread in threading.enumerate() if thread.name == "gossip"] == []
    for change in (a.issue_token(60, 1), a.install_key(None), a.use_key("00000000")):
        with pytest.raises(Unavailable, match="no key"):
            await change
    await a.leave()


# Files


async def test_peers_are_kept_and_a_full_disk_stops_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await lab.pair()
    path = lab.folder / "a" / "peers.json"
    await until(path.exists)
    assert [peer["id"] for peer in json.loads(path.read_bytes())["peers"]] == [b.id]
    replace = files.replace

    def full(path: Path, data: bytes) -> None:
        if path.name == "peers.json":
            raise OSError(28, "No space left on device")
        replace(path, data)

    monkeypatch.setattr(files, "replace", full)
    c = await lab.start("c")
    assert await joined(c, a)
    await sees(b, "c")
    await until(lambda: "peers are not kept" in caplog.text)
    assert [peer["id"] for peer in json.loads(path.read_bytes())["peers"]] == [b.id]


async def test_garbage_in_the_state_folder_stops_no_start(lab: Lab) -> None:
    folder = lab.folder / "a"
    folder.mkdir()
    for name in ("peers.json", "keyring.json", "tokens.json", "epoch"):
        (folder / name).write_bytes(b"\xff garbage")
    a = await lab.start("a")
    assert a.health().secured


async def test_a_taken_port_is_told_and_nothing_is_left_behind(lab: Lab) -> None:
    a = await lab.start("a")
    before = set(threading.enumerate())
    place = parse(a.health().bound)
    with pytest.raises(Unavailable, match=f"port {place.port}: Address already in use"):
        await lab.open("b", bind=(place.host, place.port))
    assert set(threading.enumerate()) <= before


async def test_an_unsafe_configuration_is_refused(lab: Lab) -> None:
    with pytest.raises(Invalid, match="without a key"):
        await lab.open("a", key=False, bind=("0.0.0.0", 0))


# Isolation from the engine's loop


async def test_a_stalled_engine_does_not_make_a_dead_node(lab: Lab) -> None:
    a, b = await lab.pair()
    assert a._participation.running is not None
    acknowledged = a.counters().get("packets_received", 0)
    time.sleep(2.5)  # the loop of both engines stands still
    assert a.counters()["packets_received"] > acknowledged + 4
    assert states(a) == {"a": "alive", "b": "alive"}
    assert states(b) == {"a": "alive", "b": "alive"}
    await asyncio.sleep(0)
    assert set(states(a).values()) == {"alive"}


async def test_closing_in_the_middle_of_joining_ends_both(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "JOIN_S", 30.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        a = await lab.start("a")
        waiting = asyncio.ensure_future(a.join([f"127.0.0.1:{mute.getsockname()[1]}"], None))
        await until(lambda: a.levels().get("calls_made"))
        await a.close()
        (result,) = await waiting
        assert "stopped taking part" in result.error
    with pytest.raises(Unavailable, match="being stopped"):
        await a.join(["127.0.0.1:1"], None)


async def test_the_address_of_a_host_that_has_moved_is_told_anew(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participation, "ADDRESS_CHECK_S", 0.05)
    a = await lab.start("a", bind=("0.0.0.0", 0), advertise=None)
    first = a.health().advertised
    monkeypatch.setattr("netd.cluster.running.advertised", lambda _bound, _seeds: "127.0.0.9")
    monkeypatch.setattr(participation, "has", lambda _host: False)
    await until(lambda: a.health().advertised.startswith("127.0.0.9:"))
    assert first != a.health().advertised
    b = await lab.start("b")
    (result,) = await b.join([f"127.0.0.1:{parse(a.health().bound).port}"], None)
    assert result.error == ""


async def test_a_host_that_has_moved_and_cannot_enter_again_tries_until_it_can(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participation, "ADDRESS_CHECK_S", 0.05)
    a = await lab.start("a", bind=("0.0.0.0", 0), advertise=None)
    tried = asyncio.Event()

    def full(_directory: Path) -> int:
        tried.set()
        raise Unavailable("no space left")

    with monkeypatch.context() as broken:
        broken.setattr("netd.cluster.running.identity.next_epoch", full)
        broken.setattr("netd.cluster.running.advertised", lambda _bound, _seeds: "127.0.0.9")
        broken.setattr(participation, "has", lambda _host: False)
        for _ in range(2):
            async with asyncio.timeout(10):
                await tried.wait()
            tried.clear()
        assert a.health().bound == ""
    await until(lambda: a.health().bound)
