"""What `netctl doctor` says of a cluster."""

from typing import Any

import pytest
from msgspec.structs import replace

from netd.engine.cluster_doctor import examine_cluster
from netd.engine.interfaces import ClusterHealth, PeerHealth
from netd.model.condition import Condition
from netd.model.views import Finding, Member
from tests.unit.engine_fixture import Host
from tests.unit.test_engine_doctor import STATUS

OWN = Member(
    id="1" * 32, name="host-1", address="10.0.0.1:7940", state="alive", rtt_ms=0.0, version="1.0"
)
OTHER = replace(
    OWN, id="2" * 32, name="host-2", address="10.0.0.2:7940", rtt_ms=0.4, since="2026-01-02"
)
PEER = PeerHealth(
    id=OTHER.id,
    name="host-2",
    address="10.0.0.2:7940",
    state="alive",
    udp_ok=True,
    tcp_ok=True,
    clock_offset_s=0.2,
    version="1.0",
    protocol_min=1,
    protocol_max=2,
)
HEALTH = ClusterHealth(
    bound="0.0.0.0:7940",
    advertised="10.0.0.1:7940",
    secured=True,
    primary="8f31c09a",
    protocol_min=1,
    protocol_max=2,
    peers=(PEER,),
)
CHECKS = [
    "cluster-members",
    "cluster-ports",
    "cluster-clock",
    "cluster-versions",
    "cluster-keys",
    "cluster-problems",
]


def findings(
    peer: dict[str, Any] | None = None,
    health: dict[str, Any] | None = None,
    member: dict[str, Any] | None = None,
) -> list[Finding]:
    peers = (replace(PEER, **(peer or {})),)
    seen = replace(HEALTH, **{"peers": peers, **(health or {})})
    return list(examine_cluster(seen, (OWN, replace(OTHER, **(member or {}))), STATUS))


def wrong(found: list[Finding]) -> Finding:
    """The one finding that is not ok; all other checks are there."""
    assert list(dict.fromkeys(finding.check for finding in found)) == CHECKS
    (finding,) = (finding for finding in found if finding.level != "ok")
    return finding


def test_a_healthy_cluster_is_all_ok() -> None:
    found = findings()
    assert [(finding.check, finding.level) for finding in found] == [(c, "ok") for c in CHECKS]
    assert found[0].detail == "alive: 1 and this host, at 10.0.0.1:7940"
    assert found[4].detail == "the primary key is 8f31c09a"


def test_a_host_on_its_own_is_all_ok() -> None:
    found = examine_cluster(ClusterHealth(), (OWN,), STATUS)
    assert [(finding.check, finding.level) for finding in found] == [(c, "ok") for c in CHECKS]
    assert found[0].detail == "this host is on its own"


Case = tuple[dict[str, Any], str, str, str, str]

CASES: dict[str, Case] = {
    "dead": (
        {"member": {"state": "dead"}, "peer": {"state": "dead", "udp_ok": False}},
        "cluster-members",
        "warning",
        "host-2 at 10.0.0.2:7940 is dead since 2026-01-02",
        "on host-2: systemctl start netd",
    ),
    "suspect": (
        {"member": {"state": "suspect"}},
        "cluster-members",
        "warning",
        "host-2 at 10.0.0.2:7940 does not answer since 2026-01-02",
        "on host-2: systemctl status netd",
    ),
    "unreachable": (
        {"member": {"reachable": False}},
        "cluster-members",
        "error",
        "host-2 at 10.0.0.2:7940 is alive, as others say, but does not answer this host",
        "ping 10.0.0.2",
    ),
    "no answer to join": (
        {"health": {"unanswered": {"db-1:7940": "no answer within 5 s"}}},
        "cluster-members",
        "warning",
        "joining by db-1:7940 has not succeeded: no answer within 5 s",
        "take it out of cluster.join",
    ),
    "UDP blocked": (
        {"peer": {"udp_ok": False}},
        "cluster-ports",
        "error",
        "host-2 at 10.0.0.2: port 7940/udp does not answer, 7940/tcp does",
        "on host-2: iptables -I INPUT -p udp --dport 7940 -j ACCEPT",
    ),
    "TCP blocked": (
        {"peer": {"tcp_ok": False, "address": "[fd00::2]:7000"}},
        "cluster-ports",
        "error",
        "host-2 at fd00::2: port 7000/tcp does not answer, 7000/udp does",
        "on host-2: iptables -I INPUT -p tcp --dport 7000 -j ACCEPT",
    ),
    "clock ahead": (
        {"peer": {"clock_offset_s": 3.21}},
        "cluster-clock",
        "warning",
        "the clock of host-2 is 3.2 s ahead of that of host-1",
        "timedatectl set-ntp true",
    ),
    "clock behind": (
        {"peer": {"clock_offset_s": -90.0}},
        "cluster-clock",
        "warning",
        "the clock of host-2 is 90.0 s behind that of host-1",
        "on host-2 and host-1: timedatectl set-ntp true",
    ),
    "another version": (
        {"peer": {"version": "0.9"}},
        "cluster-versions",
        "warning",
        "this host has netd 1.0, others 0.9 on host-2",
        "systemctl restart netd",
    ),
    "older protocol": (
        {"peer": {"protocol_min": 1, "protocol_max": 1}, "health": {"protocol_min": 2}},
        "cluster-versions",
        "error",
        "host-2 speaks the versions 1 to 1 of the protocol, host-1 2 to 2: they cannot talk",
        "upgrade netd on host-2",
    ),
    "newer protocol": (
        {"peer": {"protocol_min": 3, "protocol_max": 4}},
        "cluster-versions",
        "error",
        "host-2 speaks the versions 3 to 4",
        "upgrade netd on host-1",
    ),
    "no key": (
        {"health": {"secured": False, "primary": ""}},
        "cluster-keys",
        "error",
        "there is no key: everybody who reaches 0.0.0.0:7940 can enter the cluster",
        "netctl key generate --output /etc/netd/cluster.key",
    ),
    "primary key missing": (
        {"peer": {"keys_missing": ("8f31c09a", "aa")}},
        "cluster-keys",
        "error",
        "the key 8f31c09a, which this host sends with, is missing on host-2",
        "on host-2: netctl member join --token-file FILE 10.0.0.1:7940",
    ),
    "new key missing": (
        {"peer": {"keys_missing": ("aa",)}},
        "cluster-keys",
        "warning",
        "a key that this host has, and does not send with, is missing on host-2",
        "netctl key use",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_found_and_nothing_else(name: str) -> None:
    changes, check, level, detail, remedy = CASES[name]
    finding = wrong(findings(**changes))
    assert (finding.check, finding.level) == (check, level)
    assert finding.detail.startswith(detail)
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    "peer",
    [
        {"udp_ok": None},
        {"tcp_ok": None},
        {"udp_ok": False, "tcp_ok": False},
        {"udp_ok": False, "tcp_ok": None},
        {"clock_offset_s": None},
        {"clock_offset_s": -1.0},
        {"version": ""},
        {"protocol_min": 0, "protocol_max": 0},
        {"protocol_min": 2, "protocol_max": 3},
    ],
)
def test_what_is_not_known_is_not_wrong(peer: dict[str, Any]) -> None:
    assert {finding.level for finding in findings(peer)} == {"ok"}


@pytest.mark.parametrize("bound", ["127.0.0.1:7940", "[::1]:7940", ""])
def test_loopback_needs_no_key(bound: str) -> None:
    found = findings(health={"secured": False, "primary": "", "bound": bound})
    assert {finding.level for finding in found} == {"ok"}


def test_who_is_gone_is_not_asked_for_clock_version_and_keys() -> None:
    gone = {"state": "left", "udp_ok": False, "version": "0.1", "keys_missing": ("8f31c09a",)}
    found = findings(gone, member={"state": "left"})
    assert {finding.level for finding in found} == {"ok"}


@pytest.mark.parametrize("name", ["host-1", "host-2"])
def test_the_dead_member_that_a_host_was_before_it_was_replaced_is_no_finding(name: str) -> None:
    before = replace(OTHER, id="3" * 32, name=name, state="dead")
    found = examine_cluster(HEALTH, (OWN, OTHER, before), STATUS)
    assert {finding.level for finding in found} == {"ok"}
    assert found[0].detail == "alive: 1 and this host, at 10.0.0.1:7940"
    left = replace(OTHER, state="left")
    found = examine_cluster(HEALTH, (OWN, left, before), STATUS)
    assert {finding.level for finding in found} == {"ok"}


def test_many_hosts_are_counted_not_listed() -> None:
    peers = tuple(replace(PEER, name=f"host-{n}", version="0.9") for n in range(2, 12))
    found = examine_cluster(replace(HEALTH, peers=peers), (OWN, OTHER), STATUS)
    assert wrong(list(found)).detail == (
        "this host has netd 1.0, others 0.9 on host-2, host-3, host-4, host-5, host-6 and 5 more"
    )


def test_conditions_of_the_cluster_are_findings() -> None:
    condition = Condition(
        code="cluster-duplicate-name", severity="error", detail="two a", remedy="rename one"
    )
    status = replace(STATUS, conditions=(condition, replace(condition, code="foreign-x")))
    finding = wrong(list(examine_cluster(HEALTH, (OWN, OTHER), status)))
    assert finding == Finding(
        check="cluster-problems", level="error", detail="two a", remedy="rename one"
    )


async def test_doctor_looks_at_the_cluster_too(host: Host) -> None:
    other = host.mesh.node("node-2")
    await host.engine.cluster.join([other.address], None)
    other.becomes("dead")
    found = await host.engine.doctor()
    assert {finding.check for finding in found} > set(CHECKS)
    (member,) = (finding for finding in found if finding.check == "cluster-members")
    assert member.level == "warning"
    (key,) = (finding for finding in found if finding.check == "cluster-keys")
    assert key.level == "error"  # the nodes of this mesh have none
