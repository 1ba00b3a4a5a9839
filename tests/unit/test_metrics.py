"""What Prometheus reads of the cluster."""

from prometheus_client import CollectorRegistry, generate_latest

from netd.api.metrics import register_cluster
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
