"""Keys as the engine has them: on a host of the cluster, or elsewhere."""

from collections.abc import Callable

from netd.engine.interfaces import Cluster, KeyListeners, KeyValues, SessionHealth
from netd.engine.kv.cases import KeyCases
from netd.engine.kv.changes import Changes
from netd.engine.kv.health import Health
from netd.engine.kv.keys import Keys
from netd.engine.parts import Parts
from netd.engine.services.catalogue import Catalogue

MakeKeys = Callable[[KeyListeners, SessionHealth], KeyValues]


def open_keys(
    parts: Parts, cluster: Cluster, catalogue: Catalogue, make: MakeKeys | None
) -> KeyCases:
    """With `make`, keys are what it makes."""
    changes = Changes()
    node = parts.settings.node
    if make is not None:
        health = Health(cluster, catalogue, parts.clock)
        return KeyCases(make(changes, health), changes, node)
    keys = Keys(
        parts.store,
        parts.clock,
        cluster,
        catalogue,
        changes,
        node=node,
        wanted=parts.settings.kv_holder,
    )
    return KeyCases(keys, changes, node)
