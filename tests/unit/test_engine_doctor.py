"""What `netctl doctor` and `netctl status` are told."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from netd.engine.doctor import examine
from netd.engine.settings import Reload
from netd.model.condition import Condition
from netd.model.errors import Unavailable
from netd.model.views import Finding, PlannedOperation, Status
from netd.plan.facts import Facts, ForeignChain
from netd.plan.objects import HOST, Bridge, Sysctl
from netd.plan.operations import Operation
from netd.plan.ports import Family
from tests.unit.engine_fixture import FACTS, Host

HEALTHY = replace(
    FACTS,
    capabilities=FACTS.capabilities | {"ipv6", "netns-cookie"},
    sysctls={"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"},
)
STATUS = Status(
    node="node-1",
    version="1",
    ready=True,
    members=1,
    networks=1,
    endpoints=0,
    drift=0,
    capabilities=(),
)
DOCKER = ForeignChain(
    table="ip filter",
    chain="FORWARD",
    verdict="policy drop",
    program="Docker",
    hook="DOCKER-USER",
)


def findings(
    facts: Facts = HEALTHY,
    status: Status = STATUS,
    planned: tuple[PlannedOperation, ...] = (),
    retired: int = 0,
    reload: Reload = Reload(),  # noqa: B008 - never changes
) -> list[Finding]:
    both: frozenset[Family] = frozenset({4, 6})
    return list(
        examine(
            facts,
            status,
            planned,
            reload=reload,
            owners={"n"},
            retired=retired,
            forwarded=both,
        )
    )


def test_a_healthy_host_is_all_ok() -> None:
    found = findings()
    assert {finding.level for finding in found} == {"ok"}
    assert len({finding.check for finding in found}) >= 8


Case = tuple[Callable[[], list[Finding]], str, str, str]

CASES: dict[str, Case] = {
    "old kernel": (
        lambda: findings(replace(HEALTHY, kernel="5.4.0-100-generic")),
        "kernel-version",
        "error",
        "newer kernel",
    ),
    "no veth": (
        lambda: findings(replace(HEALTHY, capabilities=HEALTHY.capabilities - {"veth"})),
        "kernel-features",
        "error",
        "modprobe veth",
    ),
    "no ifb": (
        lambda: findings(replace(HEALTHY, capabilities=HEALTHY.capabilities - {"ifb"})),
        "kernel-features",
        "warning",
        "modprobe ifb",
    ),
    "no forwarding": (
        lambda: findings(replace(HEALTHY, sysctls={"net/ipv4/ip_forward": "0"})),
        "forwarding",
        "error",
        "sysctl -w net.ipv4.ip_forward=1",
    ),
    "bridge-nf": (
        lambda: findings(
            replace(HEALTHY, sysctls={**HEALTHY.sysctls, "net/bridge/bridge-nf-call-iptables": "1"})
        ),
        "bridge-netfilter",
        "warning",
        "sysctl -w net.bridge.bridge-nf-call-iptables=0",
    ),
    "bridge-nf with foreign chains": (
        lambda: findings(
            replace(
                HEALTHY,
                sysctls={**HEALTHY.sysctls, "net/bridge/bridge-nf-call-iptables": "1"},
                foreign_chains=(DOCKER,),
            )
        ),
        "bridge-netfilter",
        "error",
        "net.bridge.bridge-nf-call-iptables=0",
    ),
    "NetworkManager": (
        lambda: findings(replace(HEALTHY, managers=frozenset({"NetworkManager"}))),
        "network-managers",
        "warning",
        "/usr/lib/NetworkManager/conf.d/10-netd.conf",
    ),
    "drift": (
        lambda: findings(
            planned=(
                PlannedOperation(verb="add", object="link x", ns="", owner="n", reason="missing"),
            )
        ),
        "drift",
        "warning",
        "netctl reconcile",
    ),
    "leftovers": (lambda: findings(retired=1001), "leftovers", "warning", "journalctl"),
    "a refused configuration": (
        lambda: findings(reload=Reload(refused="no such key")),
        "configuration",
        "error",
        "netd config check",
    ),
    "settings that need a restart": (
        lambda: findings(reload=Reload(needs_restart=("networks.zone",))),
        "configuration",
        "warning",
        "systemctl restart netd",
    ),
    "foreign chain": (
        lambda: findings(
            replace(HEALTHY, foreign_chains=(DOCKER,)),
            replace(
                STATUS,
                conditions=(
                    Condition(code="foreign-x", severity="error", detail="drops", remedy="hook"),
                ),
            ),
        ),
        "foreign-firewall",
        "error",
        "hook",
    ),
}


@pytest.mark.parametrize(("look", "check", "level", "remedy"), CASES.values(), ids=CASES.keys())
def test_each_trouble_has_a_remedy(
    look: Callable[[], list[Finding]], check: str, level: str, remedy: str
) -> None:
    found = [finding for finding in look() if finding.level != "ok"]
    assert [(finding.check, finding.level) for finding in found] == [(check, level)]
    assert remedy in found[0].remedy


async def test_the_doctor_sees_drift_and_changes_nothing(host: Host) -> None:
    await host.network("blue")
    await host.quiet()  # or a pass that is due repairs it
    host.kernel.events = "silent"
    host.kernel.by_hand.delete_link("nd-blue")
    text = host.text()
    drift = next(finding for finding in await host.engine.doctor() if finding.check == "drift")
    assert "link nd-blue" in drift.detail
    assert host.text() == text


async def test_links_of_nobody_are_leftovers(host: Host) -> None:
    await host.network("blue")
    await host.quiet()
    host.kernel.events = "silent"
    stray = Bridge(owner="f" * 16, name="nd-stray", mac="0e:00:00:00:00:01")
    await host.kernel.apply([Operation(verb="add", object=stray, reason="test")], {})
    found = [finding for finding in await host.engine.doctor() if finding.check == "leftovers"]
    assert [finding.level for finding in found] == ["warning"]
    assert "1 links" in found[0].detail
    assert "nd-stray" in found[0].detail


def test_remedies_against_managers_are_those_of_the_installation() -> None:
    page = (Path(__file__).parents[2] / "OPERATIONS.md").read_text()
    facts = replace(HEALTHY, managers=frozenset({"NetworkManager", "systemd-networkd"}))
    remedies = [f.remedy for f in findings(facts) if f.check == "network-managers"]
    assert len(remedies) == 2
    assert all(remedy.split(" && ")[0] in page for remedy in remedies)


async def test_status_counts(host: Host) -> None:
    await host.network("blue")
    await host.attach("blue", "web")
    status = host.engine.status()
    assert (status.node, status.version, status.ready) == ("node-1", "1", True)
    assert (status.networks, status.endpoints, status.members, status.drift) == (1, 1, 1, 0)
    assert status.boot_id == FACTS.boot_id
    assert "bridge" in status.capabilities
    await host.engine.prove_progress()


async def test_the_host_is_the_only_member(host: Host) -> None:
    member, *others = host.engine.cluster.members()
    assert (member.name, member.address, member.state, others) == (
        "node-1",
        "192.0.2.10",
        "alive",
        [],
    )
    await host.restart()
    assert host.engine.cluster.members()[0].id == member.id


async def test_a_foreign_chain_matters_where_something_is_forwarded(
    new_host: Callable[[], Host],
) -> None:
    host = new_host()
    host.boot(replace(FACTS, foreign_chains=(DOCKER,)))
    await host.start()
    assert host.engine.status().conditions == ()
    await host.network("blue")
    await host.engine.reconcile()
    condition = host.engine.status().conditions[0]
    assert "FORWARD of table ip filter (Docker)" in condition.detail
    assert "DOCKER-USER" in condition.remedy
    await host.engine.delete_network("blue")
    await host.engine.reconcile()
    assert host.engine.status().conditions == ()


async def test_settings_can_change_while_it_runs(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/30",))
    endpoint = await host.attach("blue", "web")
    await host.engine.detach(endpoint.id)
    other = replace(host.settings, quarantine_s=0.0, node="other", zone="other")
    await host.engine.configure(other)
    assert (await host.attach("blue", "db")).addresses == endpoint.addresses
    assert host.engine.status().node == "node-1"


async def test_the_guard_follows_the_settings(host: Host) -> None:
    await host.network("blue")
    guarded = host.text()
    await host.engine.configure(replace(host.settings, forward_guard=False))
    await host.quiet()
    assert host.text() != guarded
    await host.engine.configure(host.settings)
    await host.quiet()
    assert host.text() == guarded


async def test_forwarding_is_managed_from_when_it_is_asked_for(
    new_host: Callable[[], Host],
) -> None:
    host = new_host()
    managing = host.settings
    host.settings = replace(managing, manage_forwarding=False)
    await host.start()
    await host.network("blue")
    sysctl = (HOST, "sysctl", "net/ipv4/ip_forward")
    forwarding = Sysctl(name="net/ipv4/ip_forward", value="1")
    assert host.state().get(sysctl) is None
    await host.engine.configure(managing)
    await host.quiet()
    assert host.state()[sysctl] == forwarding
    await host.engine.configure(host.settings)  # left on, and left alone from now on
    await host.quiet()
    host.kernel.by_hand.set_sysctl("net/ipv4/ip_forward", "0")
    await host.quiet()
    assert await host.engine.plan() == ()


async def test_settings_that_cannot_be_recorded_are_not_in_force(
    new_host: Callable[[], Host],
) -> None:
    host = new_host()
    managing = host.settings
    host.settings = replace(managing, manage_forwarding=False)
    await host.start()
    await host.network("blue")
    before = host.state()
    host.store.full = True
    with pytest.raises(Unavailable):
        await host.engine.configure(managing)
    await host.engine.reconcile()
    assert host.state() == before


def test_a_reload_is_told_in_words() -> None:
    assert Reload().text() == ""
    both = Reload(refused="no such key", needs_restart=("node.name", "networks.zone"))
    assert both.text() == (
        "the last reload was refused: no such key; restart netd for: node.name, networks.zone"
    )
