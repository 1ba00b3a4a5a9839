"""What Prometheus reads of the cluster."""

from prometheus_client import CollectorRegistry, generate_latest

from netd.api.metrics import register_addresses, register_cluster, register_registry
from netd.model.directory import Count, RegistryState
from netd.model.views import AddressLevels
from tests.unit.memory_cluster import Mesh


async def test_members_have_their_state_and_refused_packets_their_reason_as_label() -> None:
    mesh = Mesh()
    node, other, third = (mesh.node(name) for name in ("host-1", "host-2", "host-3"))
    await node.join([other.address, third.address], None)
    third.becomes("dead")
    refused = {"replay": 2, "key": 1}
    registry = CollectorRegistry()
    register_cluster(registry, node.members, lambda: refused)
    lines = generate_latest(registry).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'netd_cluster_members_by_state{state="alive"} 2.0',
        'netd_cluster_members_by_state{state="suspect"} 0.0',
        'netd_cluster_members_by_state{state="dead"} 1.0',
        'netd_cluster_members_by_state{state="left"} 0.0',
        'netd_cluster_packets_refused_total{reason="key"} 1.0',
        'netd_cluster_packets_refused_total{reason="replay"} 2.0',
    ]
    refused["replay"] = 3
    assert b'{reason="replay"} 3.0' in generate_latest(registry)


def test_addresses_of_overlays_have_their_network_and_family_as_labels() -> None:
    levels = [
        AddressLevels(network="blue", family=4, owned=32, free=30),
        AddressLevels(network="blue", family=6, owned=1 << 62, free=1 << 62),
    ]
    registry = CollectorRegistry()
    register_addresses(registry, lambda: levels)
    lines = generate_latest(registry).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'netd_overlay_addresses_owned{family="ipv4",network="blue"} 32.0',
        'netd_overlay_addresses_owned{family="ipv6",network="blue"} 4.611686018427388e+18',
        'netd_overlay_addresses_free{family="ipv4",network="blue"} 30.0',
        'netd_overlay_addresses_free{family="ipv6",network="blue"} 4.611686018427388e+18',
    ]


def exposed(state: RegistryState) -> list[str]:
    registry = CollectorRegistry()
    register_registry(registry, lambda: state)
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("# HELP")]


def test_what_the_registry_has_counted_is_told_with_its_labels() -> None:
    counts = (
        Count(name="dns_answers_total", labels={"rcode": "NOERROR", "type": "A"}, value=7),
        Count(name="dns_answers_total", labels={"rcode": "SERVFAIL"}, value=2),
        Count(name="dns_clients", value=3),
    )
    state = RegistryState(
        wanted=True,
        connected=True,
        behind=1,
        listening=("127.0.0.54:53",),
        problems={"[::1]:53": "in use"},
        counts=counts,
    )
    assert exposed(state) == [
        "# TYPE netd_registry_connected gauge",
        "netd_registry_connected 1.0",
        "# TYPE netd_registry_sockets gauge",
        "netd_registry_sockets 1.0",
        "# TYPE netd_registry_sockets_failed gauge",
        "netd_registry_sockets_failed 1.0",
        "# TYPE netd_registry_lines_behind gauge",
        "netd_registry_lines_behind 1.0",
        "# TYPE netd_registry_dns_answers_total counter",
        'netd_registry_dns_answers_total{rcode="NOERROR",type="A"} 7.0',
        'netd_registry_dns_answers_total{rcode="SERVFAIL",type=""} 2.0',
        "# TYPE netd_registry_dns_clients gauge",
        "netd_registry_dns_clients 3.0",
    ]


def test_a_count_that_prometheus_could_not_read_spoils_nothing_else() -> None:
    names = ("connected", "a b", "", "x" * 65, "Ä", "a\n")
    bad = [Count(name=name, value=1) for name in names]
    bad += [Count(name="fine", labels={"not fine": ""}, value=1)]
    state = RegistryState(wanted=True, connected=False, counts=(*bad, Count(name="good", value=1)))
    lines = exposed(state)
    assert len(lines) == 10
    assert lines[-1] == "netd_registry_good 1.0"
