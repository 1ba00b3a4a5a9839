"""All instances that can be seen from here, and who follows them."""

from collections import defaultdict
from collections.abc import Callable

from msgspec.structs import replace

from netd.engine.interfaces import Cluster, ClusterChange, MemberChange, Record, RecordChange
from netd.engine.services.node_checks import NodeChecks
from netd.engine.services.records import TABLE, encode, read
from netd.indexes import discard
from netd.model.service import Service
from netd.model.views import Member

Follower = Callable[[str, Service | None], None]
"""Is told an instance's id and how it is now; None: it is gone."""


class Catalogue:
    """Instances of this host, and those of the records of other members that are alive.

    An id is used by one host. Where two came to use it (while they could not hear each other),
    the instance that was registered first is the one that all hosts see. What is seen has the
    status that its node leaves it. Nothing that another member sends makes it raise.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._held: defaultdict[str, dict[str, Service]] = defaultdict(dict)  # by id and owner
        self._visible: dict[str, Service] = {}
        self._of_name: defaultdict[str, dict[str, Service]] = defaultdict(dict)
        self._of_owner: defaultdict[str, set[str]] = defaultdict(set)  # ids
        self._nodes: dict[str, str] = {}  # names of members
        self._hosts: dict[str, str] = {}  # names of members that are alive, in lower case
        self._host_followers: list[Callable[[str], object]] = []
        self._node_checks = NodeChecks()
        self._published: dict[str, bytes] = {}
        self._followers: list[Follower] = []
        self._stop: Callable[[], None] = lambda: None
        self.ignored = 0  # records that could not be read

    def start(self) -> None:
        """Follow the cluster, from what is so now."""
        self._stop = self._cluster.watch(self._changed)

    def stop(self) -> None:
        self._stop()

    # What is asked

    def all(self) -> tuple[Service, ...]:
        return tuple(self._visible.values())

    def find(self, service_id: str) -> Service | None:
        return self._visible.get(service_id)

    def named(self, name: str) -> tuple[Service, ...]:
        """The instances of a service, whether they are well or not."""
        return tuple(self._of_name.get(name, {}).values())

    def on_node(self, service: Service) -> Service:
        """An instance as its node has it be."""
        return self._node_checks.applied(service)

    def other_holder(self, service_id: str) -> str:
        """The name of another host that has an instance of this id; "" without one."""
        holders = self._held.get(service_id, {})
        others = sorted(owner for owner in holders if owner != self._cluster.id)
        return holders[others[0]].node if others else ""

    def has_host(self, node: str) -> bool:
        """Whether a host of this name is alive."""
        return node.lower() in self._hosts.values()

    def subscribe_hosts(self, follow: Callable[[str], object]) -> None:
        """Tell `follow` the name of each host that is alive from now on, or is no more."""
        self._host_followers.append(follow)

    def subscribe(self, follow: Follower) -> Callable[[], None]:
        """Tell `follow` of all there are, then of each change; the result stops it."""
        self._followers.append(follow)
        for service in self.all():
            follow(service.id, service)
        return lambda: self._followers.remove(follow)

    # Instances of this host

    def put(self, service: Service) -> None:
        """Show an own instance, or how it is now, to this host and all others."""
        value = encode(service)
        if self._published.get(service.id) != value:
            self._cluster.publish([Record(table=TABLE, key=service.id, value=value)])
            self._published[service.id] = value
        self._hold(self._cluster.id, service.id, service)

    def drop(self, service_id: str) -> None:
        """An own instance is no more."""
        if self._published.pop(service_id, None) is not None:
            self._cluster.publish([Record(table=TABLE, key=service_id, value=None)])
        self._hold(self._cluster.id, service_id, None)

    # What others say

    def _changed(self, change: ClusterChange) -> None:
        if isinstance(change, MemberChange):
            self._note_host(change.member)
        match change:
            case MemberChange(member=Member(state="left", id=gone)):
                self._nodes.pop(gone, None)
            case MemberChange(member=member) if self._nodes.get(member.id) != member.name:
                self._nodes[member.id] = member.name
                if member.id != self._cluster.id:
                    self._renamed(member.id, member.name)
            case RecordChange(table=table, owner=owner) if table == TABLE:
                if owner != self._cluster.id:
                    self._recorded(owner, change.key, change.value)

    def _note_host(self, member: Member) -> None:
        before = self._hosts.pop(member.id, None)
        if member.state in ("alive", "suspect"):
            self._hosts[member.id] = member.name.lower()
        if self._hosts.get(member.id) != before:
            for follow in self._host_followers:
                follow(member.name)

    def _renamed(self, owner: str, name: str) -> None:
        for service_id in sorted(self._of_owner.get(owner, ())):
            self._hold(owner, service_id, replace(self._held[service_id][owner], node=name))

    def _recorded(self, owner: str, key: str, value: bytes | None) -> None:
        service = None if value is None else read(key, value)
        self.ignored += value is not None and service is None
        if service is not None:
            service = replace(service, node=self._nodes.get(owner, ""))
        self._hold(owner, key, service)

    def _hold(self, owner: str, service_id: str, service: Service | None) -> None:
        holders = self._held[service_id]
        if service is None:
            holders.pop(owner, None)
            discard(self._of_owner, owner, service_id)
        else:
            holders[owner] = service
            self._of_owner[owner].add(service_id)
        if not holders:
            del self._held[service_id]
        self._settle(service_id)

    def _settle(self, service_id: str) -> None:
        """Show the one that was registered first."""
        holders = self._held.get(service_id)
        if not holders:
            self._show(service_id, None)
            return
        first = min(holders, key=lambda holder: (holders[holder].created_at, holder))
        self._show(service_id, self._node_checks.applied(holders[first]))

    def _show(self, service_id: str, service: Service | None) -> None:
        before = self._visible.get(service_id)
        if service == before:
            return
        if service is None:
            del self._visible[service_id]
        else:
            self._visible[service_id] = service
        if before is not None and (service is None or service.name != before.name):
            del self._of_name[before.name][service_id]
            if not self._of_name[before.name]:
                del self._of_name[before.name]
        if service is not None:
            self._of_name[service.name][service_id] = service
        for follow in tuple(self._followers):
            follow(service_id, service)
        for affected in sorted(self._node_checks.changed(before, service)):
            self._settle(affected)
