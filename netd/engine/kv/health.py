"""What sessions depend on: members of the cluster and checks of services."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from netd.engine.interfaces import Clock, Cluster, ClusterChange, MemberChange
from netd.engine.services.catalogue import Catalogue
from netd.model.errors import Invalid
from netd.model.kv import NODE_CHECK, Session, SessionSpec
from netd.model.service import Service

SETTLE_S = 60.0  # after a start, until a member that was not seen since is taken for gone
_GONE = ("dead", "left")


class Health:
    """As this host sees it. `changed` is called when something has become worse."""

    def __init__(self, cluster: Cluster, catalogue: Catalogue, clock: Clock) -> None:
        self._cluster = cluster
        self._catalogue = catalogue
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._stops: list[Callable[[], None]] = []
        self.changed: Callable[[], None] = lambda: None

    def start(self) -> None:
        self._stops = [
            self._cluster.watch(self._member_changed),
            self._catalogue.subscribe(self._service_changed),
        ]

    def stop(self) -> None:
        for stop in self._stops:
            stop()
        self._stops = []

    def check(self, spec: SessionSpec) -> None:
        """Raise `Invalid` for a session that would end at once."""
        seen = self._look()
        if spec.node not in seen.living:
            raise Invalid(f"there is no living member {spec.node!r}", field="node")
        for check_id in _checks(spec.node_checks, spec.service_checks):
            critical = seen.critical.get((spec.node, check_id))
            if critical is None:
                raise Invalid(f"{spec.node} has no check {check_id!r}", field="service_checks")
            if critical:
                raise Invalid(f"check {check_id!r} is critical", field="service_checks")

    def lost(self, sessions: Iterable[Session]) -> list[str]:
        """Those of the sessions that are to end."""
        seen = self._look()
        # After a start of this host, others are known again when they have answered.
        settled = self._clock.monotonic_s() - self._began_s >= SETTLE_S
        return [session.id for session in sessions if seen.is_lost(session, settled=settled)]

    def _look(self) -> "_Seen":
        members = self._cluster.members()
        critical: dict[tuple[str, str], bool] = {}
        for service in self._catalogue.all():
            for check in service.checks:
                # Unique in an instance only, so the instance may stand before it.
                for name in (check.id, f"{service.id}/{check.id}"):
                    key = (service.node, name)
                    critical[key] = critical.get(key, False) or check.status == "critical"
        return _Seen(
            frozenset(member.name for member in members),
            frozenset(member.name for member in members if member.state not in _GONE),
            critical,
        )

    def _member_changed(self, change: ClusterChange) -> None:
        if isinstance(change, MemberChange) and change.member.state in _GONE:
            self.changed()

    def _service_changed(self, service_id: str, service: Service | None) -> None:
        critical = service is not None and any(
            check.status == "critical" for check in service.checks
        )
        if critical or service is None:
            self.changed()


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Names of members and of those that live; whether checks are critical, by node and id."""

    members: frozenset[str]
    living: frozenset[str]
    critical: Mapping[tuple[str, str], bool]

    def is_lost(self, session: Session, *, settled: bool) -> bool:
        if NODE_CHECK in session.node_checks and session.node not in self.living:
            return settled or session.node in self.members
        for check_id in _checks(session.node_checks, session.service_checks):
            if self.critical.get((session.node, check_id), settled):
                return True
        return False


def _checks(node_checks: tuple[str, ...], service_checks: tuple[str, ...]) -> list[str]:
    """Those that are checks of services: only one check of a node itself is known."""
    return [check for check in (*node_checks, *service_checks) if check != NODE_CHECK]
