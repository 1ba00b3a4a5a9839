"""Five daemons in five namespaces: they join, fail, come back, are cut off and misconfigured."""

import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import netd
from netd.client.client import Client
from tests.e2e.cluster_lab import Cluster, ClusterHost
from tests.lab.waiting import wait_for

# `fast` is to tell a crash of one of five within 5.5 s; a machine with more to do gets longer.
DETECTED_S = 55.0
HEALED_S = 30.0  # of a cluster that was parted, however long
WINDOW_S = 10.0
QUIET_EVENTS = 12  # of one host in a window, while something is wrong that stays so
# A node sends and answers two probes a second each way, and compares what it has now and then.
QUIET_PACKETS = 400


# Joining


def test_hosts_join_by_hand(tmp_path: Path) -> None:
    with ExitStack() as stack:
        cluster = Cluster(stack, tmp_path, 5, profile="fast")
        for host in cluster.hosts:
            config = host.folder / "netd.toml"
            config.write_text(f'[node]\ntags = {{ rack = "r-{host.node}" }}\n')
            host.flags += ["--config", str(config)]
        cluster.start()
        one, two, three, four, five = cluster.hosts
        assert "host-2" not in one.netctl("member", "ls")
        said = two.netctl("member", "join", one.address)
        assert said == f"{one.address}\nthe cluster has 2 members; alive: host-2,host-1\n"
        three.netctl("member", "join", two.address)
        cluster.await_whole([one, two, three])
        before = one.revision
        # One address of several is enough, and whom one has joined has joined the other too.
        said = four.netctl("member", "join", "198.18.99.99:7", f"{three.address}:7940")
        assert "198.18.99.99:7: " in said
        five.netctl("member", "join", four.address)
        cluster.await_whole()
        for host in cluster.hosts:
            check_member_list(host, cluster)
        joined = [event["name"] for event in one.events(before) if event["type"] == "member.joined"]
        assert sorted(joined) == ["host-4", "host-5"]
        assert one.client.status()["members"] == 5
        said = one.netctl("member", "join", "198.18.99.99:7", code=1)
        assert "198.18.99.99:7" in said


def check_member_list(host: ClusterHost, cluster: Cluster) -> None:
    """Once each other was probed: all have addresses, versions, tags, times and names."""

    def is_complete() -> bool:
        return all(
            member["rtt_ms"] is not None and member["tags"] == {"rack": f"r-{member['name']}"}
            for member in host.client.members()
        )

    wait_for(is_complete, what=f"times and tags on {host}", show=host.client.members)
    members = host.client.members()
    assert members[0]["name"] == host.node
    assert {member["name"]: member["address"] for member in members} == {
        other.node: f"{other.address}:7940" for other in cluster.hosts
    }
    assert {member["version"] for member in members} == {netd.__version__}
    assert all(0 < member["rtt_ms"] < 1000 for member in members[1:])
    table = host.netctl("member", "ls")
    for other in cluster.hosts:
        assert f"rack=r-{other.node}" in table
        assert host.resolves(other) == [other.address]


def test_a_host_without_a_key_is_not_reachable_for_others(cluster: Cluster) -> None:
    with cluster.guest("open") as host:
        host.flags = ["--bind", f"{host.address}:7940"]
        host.launch_only()
        assert host.await_end() == 78
        told = host.log.read_text()
        assert "without a key" in told
        assert "--cluster-key FILE" in told
        assert "netctl key generate" in told
        host.flags = ["--bind", "127.0.0.1:7940"]
        host.up()
        assert host.client.members()[0]["address"] == "127.0.0.1:7940"


# Failing and coming back


def test_a_killed_host_is_seen_dead_and_comes_back(cluster: Cluster) -> None:
    *others, victim = cluster.hosts
    identity = victim.members()[victim.id]
    revisions = {host: host.revision for host in others}
    victim.kill()
    cluster.await_seen("dead", [victim], others, DETECTED_S)
    for host in others:
        assert host.resolves(victim) == []
        assert "host-5" in host.doctor("cluster-members")
        dead = [event for event in host.events(revisions[host]) if event["type"] == "member.dead"]
        assert [event["object"] for event in dead] == [identity["id"]]
    victim.up()
    cluster.await_whole()
    await_names(others, victim)
    for host in others:
        again = host.members()[identity["id"]]
        assert again["epoch"] > identity["epoch"]
        assert again["name"] == "host-5"


def await_names(hosts: list[ClusterHost], *of: ClusterHost) -> None:
    """Wait until the node names lead to the addresses that the hosts have."""
    wait_for(
        lambda: all(host.resolves(other) == [other.address] for host in hosts for other in of),
        what=f"names of {of} on {hosts}",
    )


def test_a_quick_restart_does_not_touch_the_name(cluster: Cluster) -> None:
    *others, restarted = cluster.hosts
    name = "host-5.node.netd.internal"
    for attempt in range(5):
        before = others[0].revision
        with Client(others[0].socket) as client, client.names(watch=True) as names:
            for line in names:
                if line["op"] == "sync":
                    break
            restarted.kill()
            restarted.up()
            cluster.await_whole()
            died = any(event["type"] == "member.dead" for event in others[0].events(before))
            mark = publish_mark(others[0], f"mark-{attempt}")
            changes = []
            for line in names:
                if line["record"]["name"] == mark:
                    break
                changes.append(line)
        if not died:  # else the machine was too busy to start a daemon in time
            assert [line for line in changes if line["record"]["name"] == name] == []
            return
    pytest.fail("the daemon never was back before it was missed")


def publish_mark(host: ClusterHost, name: str) -> str:
    """Have a name appear, after all changes of names until now."""
    host.client.create_network(name=name, driver="bridge")
    endpoint = host.attach(name, host.container(), name="mark")
    host.client.detach(endpoint["id"])
    host.client.delete_network(name)
    return f"mark.{name}.netd.internal"


def test_a_host_comes_back_with_another_address(cluster: Cluster) -> None:
    *others, moved = cluster.hosts
    identity = moved.id
    moved.stop_daemon()
    moved.move(cluster.new_address())
    moved.up()
    cluster.await_whole()
    await_names(others, moved)
    assert moved.id == identity
    for host in others:
        assert [m["name"] for m in host.client.members()].count("host-5") == 1
        assert host.conditions() == set()


def test_a_host_comes_back_without_its_disk(cluster: Cluster) -> None:
    *others, host = cluster.hosts
    before = host.id
    host.kill()
    host.lose_disk()
    host.up()
    host.netctl("member", "join", others[0].address)
    assert host.id != before
    wait_for(
        lambda: all(
            other.members()[before]["state"] == "dead" and other.conditions() == set()
            for other in others
        ),
        what="the old identity dead, without a condition",
        show=lambda: [(other.states(), other.conditions()) for other in others],
    )
    cluster.await_whole()
    await_names(others, host)


def test_a_host_that_was_stopped_accuses_nobody(cluster: Cluster) -> None:
    *others, stopped = cluster.hosts
    before = stopped.revision
    incarnation = stopped.members()[stopped.id]["incarnation"]
    end_s = time.monotonic() + 30
    stopped.stop()
    cluster.await_seen("dead", [stopped], others, DETECTED_S)
    time.sleep(max(0.0, end_s - time.monotonic()))  # to be stopped is what is tested
    stopped.cont()
    cluster.await_whole(deadline_s=HEALED_S)
    for host in cluster.hosts:
        assert host.members()[stopped.id]["incarnation"] > incarnation
    told = [event for event in stopped.events(before) if event["type"] == "member.dead"]
    assert told == []


def test_a_host_leaves_and_joins_again(cluster: Cluster) -> None:
    *others, leaving = cluster.hosts
    identity = leaving.id
    revisions = {host: host.revision for host in others}
    told = {host: host.doctor("cluster-members") for host in others}
    leaving.netctl("member", "leave")
    took_s = cluster.await_seen("left", [leaving], others)
    assert took_s < 15  # it takes about one
    assert list(leaving.members()) == [identity]
    for host in others:
        assert host.resolves(leaving) == []
        assert host.doctor("cluster-members") == told[host]
        events = host.events(revisions[host])
        types = {event["type"] for event in events if event["object"] == identity}
        assert types == {"member.left"}
    leaving.netctl("member", "leave")  # once more changes nothing
    leaving.restart()
    assert list(leaving.members()) == [identity]  # it does not come back by itself
    leaving.netctl("member", "join", others[1].address)
    cluster.await_whole()
    await_names(others, leaving)
    assert leaving.id == identity


# Cut off


def test_two_parts_of_a_cluster_find_each_other_again(cluster: Cluster) -> None:
    few, many = cluster.hosts[:2], cluster.hosts[2:]
    pids = [host.daemon_pid for host in cluster.hosts]
    cluster.part(few, many)
    cluster.await_seen("dead", many, few, DETECTED_S)
    cluster.await_seen("dead", few, many, DETECTED_S)
    assert few[0].resolves(few[1]) == [few[1].address]
    assert few[0].resolves(many[0]) == []
    assert many[0].resolves(few[0]) == []
    cluster.heal()
    cluster.await_whole(deadline_s=HEALED_S)
    await_names(cluster.hosts, *cluster.hosts)
    assert [host.daemon_pid for host in cluster.hosts] == pids


def test_a_host_on_its_own_goes_on_serving(cluster: Cluster) -> None:
    *others, alone = cluster.hosts
    cluster.isolate(alone)
    cluster.await_seen("dead", [alone], others, DETECTED_S)
    cluster.await_seen("dead", others, [alone], DETECTED_S)
    alone.client.create_network(name="blue", driver="bridge")
    container = alone.container()
    endpoint = alone.attach("blue", container, name="web")
    assert container.pings(endpoint["gateways"][0])
    assert alone.resolves(alone) == [alone.address]
    assert alone.resolves(others[0]) == []
    alone.client.detach(endpoint["id"])
    alone.client.delete_network("blue")
    cluster.heal()
    cluster.await_whole(deadline_s=HEALED_S)
    await_names(cluster.hosts, *cluster.hosts)


def test_one_way_loss_between_two_kills_nobody(cluster: Cluster) -> None:
    one, two, *others = cluster.hosts
    revisions = {host: host.revision for host in cluster.hosts}
    cluster.cut(one, two, both_ways=False)
    counted = {host: probes(host) for host in (one, two)}
    wait_for(  # some rounds of probes, in which each has asked the other
        lambda: all(probes(host) > before + 15 for host, before in counted.items()),
        what="probes",
    )
    for host in cluster.hosts:
        dead = [event for event in host.events(revisions[host]) if event["type"] == "member.dead"]
        assert dead == []
    cluster.await_seen("alive", cluster.hosts, others)


def probes(host: ClusterHost) -> float:
    return host.metrics()["netd_cluster_probes_total"]


@pytest.mark.parametrize(("blocked", "open_"), [("udp", "tcp"), ("tcp", "udp")])
def test_doctor_names_a_blocked_port(cluster: Cluster, blocked: str, open_: str) -> None:
    *others, behind = cluster.hosts
    revisions = {host: host.revision for host in others}
    behind.drop(f"{blocked} dport 7940")
    wait_for(
        lambda: all(f"7940/{blocked}" in host.doctor("cluster-ports") for host in others),
        what=f"port 7940/{blocked} of {behind} in doctor",
        show=lambda: [host.doctor("cluster-ports") for host in others],
    )
    for host in others:
        told = host.doctor("cluster-ports")
        assert f"host-5 at {behind.address}: port 7940/{blocked} does not answer" in told
        assert f"7940/{open_} does" in told
        assert told.count("does not answer") == 1
        types = {event["type"] for event in host.events(revisions[host])}
        assert "member.dead" not in types
    behind.mend()
    wait_for(
        lambda: all(host.doctor("cluster-ports") == "" for host in others),
        what="doctor sees that the port is open",
        show=lambda: [host.doctor("cluster-ports") for host in others],
    )


def test_doctor_names_a_clock_that_is_off(cluster: Cluster, tmp_path: Path) -> None:
    """The daemon's own view of the time is changed: no namespace has a clock of its own."""
    *others, late = cluster.hosts
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n_time = time.time\ntime.time = lambda: _time() + 30\n"
    )
    late.stop_daemon()
    paths = (str(tmp_path), os.environ.get("PYTHONPATH", ""))
    late.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    try:
        late.up()
    finally:
        del late.environment["PYTHONPATH"]
    wait_for(
        lambda: all("host-5" in host.doctor("cluster-clock") for host in others),
        what="the clock in doctor",
    )
    told = others[0].doctor("cluster-clock")
    assert "the clock of host-5 is 30.0 s ahead of that of host-1" in told
    assert abs(others[0].members()[late.id]["clock_offset_ms"] - 30_000) < 1000
    cluster.await_whole()
    late.restart()
    cluster.await_whole()
    wait_for(
        lambda: all(host.doctor("cluster-clock") == "" for host in others),
        what="the clock is right again",
    )


# Wrongly set up


def check_that_it_is_quiet(hosts: list[ClusterHost]) -> None:
    """Fail when something goes to and fro between the hosts without end."""
    revisions = {host: host.revision for host in hosts}
    sent = {host: packets_sent(host) for host in hosts}
    time.sleep(WINDOW_S)  # what happens in it is counted
    for host in hosts:
        events = host.events(revisions[host])
        assert len(events) <= QUIET_EVENTS, events
        assert packets_sent(host) - sent[host] <= QUIET_PACKETS


def packets_sent(host: ClusterHost) -> float:
    return host.metrics()["netd_cluster_packets_sent_total"]


def test_two_hosts_of_one_name(cluster: Cluster) -> None:
    *others, holder = cluster.hosts
    with cluster.guest("host-5") as guest:
        guest.up()
        guest.netctl("member", "join", others[0].address)
        cluster.await_whole([*cluster.hosts, guest])
        both = [*cluster.hosts, guest]
        wait_for(
            lambda: all("cluster-duplicate-name" in host.conditions() for host in both),
            what="a condition on all",
            show=lambda: [(host, host.conditions()) for host in both],
        )
        for host in both:
            told = host.doctor("cluster-problems")
            assert "host-5" in told
            assert holder.address in told
            assert guest.address in told
            assert "node.name" in told
        winner = min((holder, guest), key=lambda host: host.id)
        wait_for(
            lambda: all(host.resolves(holder) == [winner.address] for host in both),
            what="all choose the same one",
        )
        check_that_it_is_quiet(both)
        guest.netctl("member", "leave")
        wait_for(
            lambda: all(host.conditions() == set() for host in [*cluster.hosts, guest]),
            what="no condition any more",
            show=lambda: [(host, host.conditions()) for host in both],
        )
        await_names(others, holder)


def test_a_copied_state_folder(cluster: Cluster) -> None:
    *others, original = cluster.hosts
    identity = original.id
    with cluster.guest("host-5") as copy:
        original.stop_daemon()
        shutil.copytree(original.state_dir, copy.state_dir)
        original.up()
        cluster.await_whole()
        copy.up()
        copy.netctl("member", "join", others[0].address)
        pair = [original, copy]
        wait_for(
            lambda: any("cluster-cloned-identity" in host.conditions() for host in pair),
            what="a condition on one of the two",
            show=lambda: [(host, host.conditions()) for host in (*others, *pair)],
        )
        check_that_it_is_quiet([*others, *pair])
        for host in others:
            assert list(host.members()).count(identity) == 1
        shown = [host for host in pair if "cluster-cloned-identity" in host.conditions()]
        for host in shown:
            assert "identity.key" in host.doctor("cluster-problems")
        copy.kill()
    original.restart()
    cluster.await_whole()
    await_names(others, original)
    wait_for(
        lambda: all(host.conditions() == set() for host in cluster.hosts),
        what="no condition any more",
        show=lambda: [(host, host.conditions()) for host in cluster.hosts],
    )
