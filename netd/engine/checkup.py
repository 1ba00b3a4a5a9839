"""Use case `doctor`: looks at everything, and has it examined."""

from collections.abc import Callable, Iterable

from netd.engine.cluster import Membership
from netd.engine.cluster_doctor import examine_cluster
from netd.engine.doctor import examine, examine_objects, examine_registry
from netd.engine.explain import Explainer
from netd.engine.host import Host
from netd.engine.parts import Parts
from netd.engine.reconciler import Reconciler
from netd.engine.settings import Reload
from netd.engine.tunnel_doctor import examine_tunnels, try_tunnels
from netd.model.endpoint import Endpoint
from netd.model.network import Network
from netd.model.service import Service
from netd.model.views import Finding, Status
from netd.plan.compile import forwarded_families
from netd.plan.objects import HOST_OWNER


class Checkup:
    def __init__(
        self,
        parts: Parts,
        host: Host,
        membership: Membership,
        reconciler: Reconciler,
        explainer: Explainer,
    ) -> None:
        self._parts = parts
        self._host = host
        self._membership = membership
        self._reconciler = reconciler
        self._explainer = explainer

    async def run(
        self,
        status: Callable[[], Status],
        reload: Reload,
        objects: Callable[[], Iterable[Network | Endpoint | Service]],
    ) -> tuple[Finding, ...]:
        """Look, then ask for `status` and for the `objects` that may have conditions."""
        parts, intent = self._parts, self._parts.intent
        await self._host.look()
        await self._membership.look()
        planned = await self._reconciler.plan()
        seen = status()
        of_host = examine(
            parts.facts,
            seen,
            planned,
            reload=reload,
            owners={HOST_OWNER, *intent.networks, *intent.records},
            retired=parts.reaper.waiting,
            forwarded=forwarded_families(intent.networks.values()),
        )
        of_cluster = examine_cluster(self._membership.health(), self._membership.members(), seen)
        trials = await try_tunnels(parts.kernel, self._explainer.directory())
        of_tunnels = examine_tunnels(trials, parts.settings.vxlan_port)
        of_objects = examine_objects(objects())
        of_registry = examine_registry(parts.registry.state())
        return of_host + of_objects + of_cluster + of_tunnels + of_registry
