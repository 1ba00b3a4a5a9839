"""What the engine needs of the world. Adapters implement these; the engine imports none."""

from netd.engine.interfaces.clock import Clock
from netd.engine.interfaces.cluster import (
    GLOBAL_SCOPE,
    Answer,
    ClaimChange,
    Cluster,
    ClusterChange,
    ClusterHealth,
    MemberChange,
    PeerHealth,
    ProblemChange,
    Record,
    RecordChange,
)
from netd.engine.interfaces.kernel import Kernel, Observation, Scope, Trigger, WatchedProcess
from netd.engine.interfaces.keys import KeyListeners, KeyValues, SessionHealth
from netd.engine.interfaces.networks import Decided, NetworkAuthority, Propose
from netd.engine.interfaces.store import Change, Snapshot, Store

__all__ = [
    "GLOBAL_SCOPE",
    "Answer",
    "Change",
    "ClaimChange",
    "Clock",
    "Cluster",
    "ClusterChange",
    "ClusterHealth",
    "Decided",
    "Kernel",
    "KeyListeners",
    "KeyValues",
    "MemberChange",
    "NetworkAuthority",
    "Observation",
    "PeerHealth",
    "ProblemChange",
    "Propose",
    "Record",
    "RecordChange",
    "Scope",
    "SessionHealth",
    "Snapshot",
    "Store",
    "Trigger",
    "WatchedProcess",
]
