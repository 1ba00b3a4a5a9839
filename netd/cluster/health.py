"""What `doctor` and metrics are told of the cluster."""

from collections.abc import Mapping, Sequence
from typing import Final

from netd.cluster.addresses import text
from netd.cluster.running import Running
from netd.engine.interfaces import ClusterHealth, ProblemChange
from netd.gossip.settings import PROTOCOL_MAX, PROTOCOL_MIN

_REFUSED: Final = "refused_"
_QUEUED: Final = "_queued"


def cluster_health(
    running: Running | None, problems: Sequence[ProblemChange], unanswered: Mapping[str, str]
) -> ClusterHealth:
    """`unanswered` is what is not answered beside the node's own addresses to join."""
    if running is None:
        return ClusterHealth(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            problems=tuple(problems),
            unanswered=unanswered,
        )
    report = running.report
    secured = not running.secret.is_open
    refused = {
        name.replace(_REFUSED, "").replace("udp_", ""): count
        for name, count in running.counters().items()
        if _REFUSED in name
    }
    return ClusterHealth(
        bound=text(running.bound),
        advertised=text(running.advertised),
        secured=secured,
        primary=running.node.core.ring.primary.hex() if secured else "",
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        peers=report.peers,
        problems=tuple(problems),
        unanswered={**report.unanswered, **unanswered},
        refused=refused,
        queued={
            name.removesuffix(_QUEUED): count
            for name, count in report.levels.items()
            if name.endswith(_QUEUED)
        },
    )
