"""What the parts of Consul's API share."""

from collections.abc import Callable
from typing import NamedTuple

from netd.registry.catalog.catalog import Catalog
from netd.registry.catalog.daemon import Daemon
from netd.registry.catalog.records import Instance, Node
from netd.registry.consul.coordinates import Coordinates
from netd.registry.consul.forms import Forms
from netd.registry.consul.options import Options
from netd.registry.consul.reads import Reads
from netd.registry.consul.registrar import Registrar
from netd.registry.consul.writing import Writing
from netd.registry.http.caller import Callers

# Seconds there and back between two nodes; None where that is not known.
Distance = Callable[[str, str], float | None]


class Parts(NamedTuple):
    """`distance` is between nodes, by their names in lower case; it orders what `coordinates`
    show, unless somebody knows better. What an agent would change goes by `registrar`, what is
    changed past any agent by `writing`.
    """

    catalog: Catalog
    reads: Reads
    forms: Forms
    daemon: Daemon
    registrar: Registrar
    writing: Writing
    callers: Callers
    datacenter: str
    coordinates: Coordinates
    distance: Distance

    def is_wanted(self, node: Node, options: Options) -> bool:
        """Whether `node-meta` asks for it."""
        return all(node.meta.get(key) == value for key, value in options.node_meta)

    def nearest(self, options: Options) -> Callable[[Instance | Node], float] | None:
        """A key to sort by what is near to the node that is asked for, if one is. Those of which
        nothing is known are last, in the order that they have.
        """
        if not options.near:
            return None
        own = self.catalog.own_node.lower()
        near = own if options.near in ("_agent", "_ip") else options.near.lower()

        def key(each: Instance | Node) -> float:
            name = (each.node if isinstance(each, Instance) else each.name).lower()
            if name == near:
                return 0.0
            distance_s = self.distance(near, name)
            return float("inf") if distance_s is None else distance_s

        return key
