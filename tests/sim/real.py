"""How the real core is made."""

from netd.gossip.core import Gossip
from netd.gossip.ring import Ring
from netd.gossip.settings import Settings
from netd.gossip.values import Identity, Randomness
from tests.sim.core import Core, Verify


def real_core(
    identity: Identity,
    settings: Settings,
    ring: Ring,
    *,
    cluster_id: bytes,
    verify: Verify,
    random: Randomness,
    now_s: float,
    wall_s: float,
) -> Core:
    """With packets sealed as they are outside of simulations."""
    return Gossip(
        identity,
        settings,
        ring,
        cluster_id=cluster_id,
        verify=verify,
        random=random,
        now_s=now_s,
        wall_s=wall_s,
    )
