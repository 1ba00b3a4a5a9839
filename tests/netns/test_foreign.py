"""Forward chains of others that drop are found, and let pass by Docker's own hook."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netd.kernel.foreign import DockerUserHook, observe_foreign
from netd.kernel.nft import Nftables
from netd.plan.facts import ForeignChain
from netd.plan.firewall import ruleset
from netd.plan.operations import Operation
from tests.netns.conftest import Container, run
from tests.netns.host_lab import Lab
from tests.netns.test_publish import tcp_source

IPTABLES = ("iptables-nft", "iptables-legacy")
FAMILY = {"iptables-nft": "ip filter", "iptables-legacy": "ip filter (legacy)"}


@pytest.fixture
def nft() -> Iterator[Nftables]:
    adapter = Nftables()
    yield adapter
    adapter.close()


def observed(nft: Nftables) -> list[ForeignChain]:
    return list(observe_foreign(nft.query))


def docker(*programs: str) -> None:
    """The chains that Docker Engine makes in the filter table."""
    for program in programs:
        for name in ("DOCKER", "DOCKER-USER", "DOCKER-FORWARD"):
            run(program, "-N", name)
        run(program, "-A", "DOCKER-FORWARD", "-i", "docker0", "-j", "ACCEPT")
        run(program, "-A", "DOCKER-USER", "-j", "RETURN")
        run(program, "-A", "FORWARD", "-j", "DOCKER-USER")
        run(program, "-A", "FORWARD", "-j", "DOCKER-FORWARD")
        run(program, "-P", "FORWARD", "DROP")


def test_nothing_is_found_where_nothing_drops(nft: Nftables) -> None:
    assert observed(nft) == []
    run("iptables-nft", "-A", "FORWARD", "-s", "10.0.0.0/8", "-j", "DROP")
    run("iptables-legacy", "-A", "FORWARD", "-i", "eth7", "-j", "REJECT")
    run("iptables-legacy", "-A", "FORWARD", "-m", "limit", "--limit", "1/s", "-j", "REJECT")
    run("iptables-nft", "-P", "INPUT", "DROP")
    run("nft", "add table ip6 t; add chain ip6 t c { type filter hook forward priority 0 ; }")
    assert observed(nft) == []


def test_netds_own_chain_is_not_foreign(nft: Nftables) -> None:
    add = Operation(verb="add", object=ruleset(forward_guard=True), reason="test")
    assert nft.apply([add]) == []
    assert observed(nft) == []


@pytest.mark.parametrize("program", IPTABLES)
def test_docker_is_found_with_its_hook(nft: Nftables, program: str) -> None:
    docker(program)
    assert observed(nft) == [
        ForeignChain(
            table=FAMILY[program],
            chain="FORWARD",
            verdict="policy drop",
            program="Docker",
            hook="DOCKER-USER",
        )
    ]


@pytest.mark.parametrize("program", IPTABLES)
def test_a_last_rule_that_rejects_is_found(nft: Nftables, program: str) -> None:
    run(program, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
    run(program, "-A", "FORWARD", "-m", "comment", "--comment", "no more", "-j", "REJECT")
    (chain,) = observed(nft)
    assert (chain.verdict, chain.program, chain.hook) == ("last rule rejects", "unknown", "")


@pytest.mark.parametrize("program", IPTABLES)
def test_ufw_is_found_where_its_chain_drops(nft: Nftables, program: str) -> None:
    for name in ("ufw-before-forward", "ufw-reject-forward", "ufw-skip"):
        run(program, "-N", name)
        run(program, "-A", "FORWARD", "-j", name)
    run(program, "-A", "ufw-reject-forward", "-j", "ufw-skip")
    run(program, "-A", "ufw-skip", "-j", "DROP")
    (chain,) = observed(nft)
    assert (chain.table, chain.verdict, chain.program) == (
        FAMILY[program],
        "last rule drops",
        "ufw",
    )


def test_firewalld_is_found(nft: Nftables) -> None:
    run(
        "nft",
        "table inet firewalld { chain filter_FORWARD_IN_ZONES { "
        'iifname "eth0" accept; }; chain filter_FORWARD { '
        "type filter hook forward priority 10; policy accept; "
        "ct state established,related accept; "
        'iifname "lo" accept; '
        "jump filter_FORWARD_IN_ZONES; "
        "reject with icmpx type admin-prohibited; } ; }",
    )
    assert observed(nft) == [
        ForeignChain(
            table="inet firewalld",
            chain="filter_FORWARD",
            verdict="last rule rejects",
            program="firewalld",
        )
    ]


FIREWALLD = """
table inet firewalld {
    chain filter_FWD_public { reject with icmpx admin-prohibited; }
    chain filter_FWD_trusted { accept; }
    chain filter_FORWARD_ZONES { %s goto filter_FWD_public; }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
}
"""


@pytest.mark.parametrize(
    ("zones", "drops"),
    [
        ("", True),
        ('iifname "nd-blue" goto filter_FWD_trusted;', True),
        ('iifname "nd-*" goto filter_FWD_trusted;', False),
    ],
)
def test_firewalld_that_trusts_our_bridges_is_none_that_drops(
    nft: Nftables, zones: str, drops: bool
) -> None:
    """What firewalld 1.3 makes of `--zone=trusted --add-interface=nd-+`; see tests/vm."""
    run("nft", FIREWALLD % zones)
    assert bool(observed(nft)) == drops


@pytest.mark.parametrize("family", ["ip", "ip6", "inet", "bridge"])
def test_a_policy_of_any_table_is_found(nft: Nftables, family: str) -> None:
    chain = "{ type filter hook forward priority 0 ; policy drop ; }"
    run("nft", f"add table {family} mine; add chain {family} mine forwarded {chain}")
    (found,) = observed(nft)
    assert (found.table, found.chain, found.verdict) == (
        f"{family} mine",
        "forwarded",
        "policy drop",
    )


@pytest.mark.parametrize("program", IPTABLES)
def test_rules_for_netds_bridges_settle_it(nft: Nftables, program: str) -> None:
    docker(program)
    run(program, "-I", "FORWARD", "-i", "nd-+", "-j", "ACCEPT")
    assert len(observed(nft)) == 1
    run(program, "-I", "FORWARD", "-o", "nd-+", "-i", "eth0", "-j", "ACCEPT")
    assert len(observed(nft)) == 1
    run(program, "-I", "FORWARD", "-o", "nd-+", "-j", "ACCEPT")
    assert observed(nft) == []


def test_a_loop_of_jumps_ends(nft: Nftables) -> None:
    """nft refuses loops; a walk must end all the same, whatever a listing says."""
    rule = {"rule": {"expr": [{"jump": {"target": "a"}}]}}
    base = {"family": "ip", "table": "t", "name": "a", "hook": "forward", "policy": "drop"}

    def run_json(command: str) -> list[dict[str, Any]]:
        return [{"chain": base}] if command == "list chains" else [rule]

    (found,) = observe_foreign(run_json)
    assert found.verdict == "policy drop"


def test_a_chain_that_nft_cannot_name_is_judged_by_its_policy(nft: Nftables) -> None:
    """`fwd` is a word of nft's language, which other makers of chains need not mind."""
    base = {"family": "ip", "table": "t", "name": "fwd", "hook": "forward", "policy": "drop"}

    def run_json(command: str) -> list[dict[str, Any]]:
        return [{"chain": base}] if command == "list chains" else nft.query(command)

    (found,) = observe_foreign(run_json)
    assert found.verdict == "policy drop"


def test_the_hook_is_installed_once_and_removed(nft: Nftables) -> None:
    hook = DockerUserHook()
    assert hook.install() == 0  # no Docker, nothing to do
    docker("iptables", "ip6tables")
    before = run("iptables-save") + run("ip6tables-save")
    assert len(observed(nft)) == 2
    assert hook.install() == 8
    assert observed(nft) == []
    assert hook.install() == 0
    run("iptables", "-F", "DOCKER-USER")
    assert hook.install() == 4
    run("iptables", "-A", "DOCKER-USER", "-j", "RETURN")
    assert hook.remove() == 8
    assert hook.remove() == 0
    after = run("iptables-save") + run("ip6tables-save")
    assert rules(after) == rules(before)


def test_dockers_chains_stop_netds_traffic_and_the_hook_lets_it_pass(
    container: Callable[[], Container],
) -> None:
    lab = Lab(container)
    docker("iptables")
    lan = lab.places["lan"].addresses[4]
    assert tcp_source(lab, "blue1", lan, 80, "lan", 80) is None
    assert DockerUserHook().install() == 4
    assert tcp_source(lab, "blue1", lan, 80, "lan", 80) == lab.uplink[4]
    assert tcp_source(lab, "red1", lab.places["blue1"].addresses[4], 80, "blue1", 80) is None
    lab.nft.close()


def test_the_hook_opens_no_unpublished_port_of_dockers_containers(
    container: Callable[[], Container],
) -> None:
    lab = Lab(container)
    docker("iptables")
    there = {"docker0": "172.17.0", "br-0123456789ab": "172.18.0", "docker_gwbridge": "172.19.0"}
    for number, (bridge, prefix) in enumerate(there.items()):
        run("ip", "link", "add", bridge, "up", "type", "bridge")
        gateways = {4: f"{prefix}.1", 6: f"fd01:{number}::1"}
        for family, length in ((4, 24), (6, 64)):
            run("ip", "address", "add", f"{gateways[family]}/{length}", "dev", bridge)
        addresses = {4: f"{prefix}.2", 6: f"fd01:{number}::2"}
        lab._join(f"in-{number}", container(), addresses, gateways, bridge)
        run("iptables", "-A", "DOCKER", "-d", f"{prefix}.2", "-p", "tcp", "--dport", "80",
            "-j", "ACCEPT")  # fmt: skip
        run("iptables", "-A", "DOCKER", "!", "-i", bridge, "-o", bridge, "-j", "DROP")
        established = ("-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
        run("iptables", "-A", "DOCKER-FORWARD", "-o", bridge, *established)
        run("iptables", "-A", "DOCKER-FORWARD", "-o", bridge, "-j", "DOCKER")
        run("iptables", "-A", "DOCKER-FORWARD", "-i", bridge, "-j", "ACCEPT")
    assert DockerUserHook().install() == 4
    for number, prefix in enumerate(there.values()):
        there_is = (f"{prefix}.2", 80, f"in-{number}", 80)
        assert tcp_source(lab, "open1", *there_is) is not None, "it is published"
        unpublished = (f"{prefix}.2", 81, f"in-{number}", 81)
        assert tcp_source(lab, "open1", *unpublished) is None
    lab.nft.close()


def test_rules_of_an_earlier_netd_are_replaced() -> None:
    docker("iptables")
    before = rules(run("iptables-save"))
    for direction in ("-i", "-o"):
        comment = ("-m", "comment", "--comment", "netd", "-j", "ACCEPT")
        run("iptables", "-I", "DOCKER-USER", direction, "nd-+", *comment)
    assert DockerUserHook().install() == 4
    listed = run("iptables", "-S", "DOCKER-USER").splitlines()
    assert [line.split()[-1] for line in listed[1:]] == [
        "RETURN",
        "RETURN",
        "ACCEPT",
        "ACCEPT",
        "RETURN",
    ]
    assert DockerUserHook().remove() == 4
    assert rules(run("iptables-save")) == before


def rules(saved: str) -> list[str]:
    return [line for line in saved.splitlines() if line.startswith("-A")]
