"""Changes to the fake kernel that others make: people, programs, the death of a container."""

import errno
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from netd.kernel.refusal import Refused
from netd.kernel.simulated_tunnels import as_port, without_half
from netd.kernel.simulation import OtherLink
from netd.model.endpoint import Sandbox
from netd.plan.objects import (
    HOST,
    Address,
    Bridge,
    Link,
    Macvlan,
    Object,
    Route,
    Ruleset,
    Sysctl,
    Veth,
    VethPeer,
)
from netd.plan.ports import HeldPort
from netd.plan.tunnels import FdbEntry, Neighbour, Vxlan

if TYPE_CHECKING:
    from netd.kernel.fake import FakeKernel


class Hands:
    """All these changes leave netd's tag alone and send triggers, as the kernel's would."""

    def __init__(self, kernel: "FakeKernel") -> None:
        self._kernel = kernel

    def put(self, obj: Object) -> None:
        """Make an object without netd's tag. Raises `Refused`."""
        self._kernel.simulation.add(obj, tagged=False)

    def add_link(self, name: str, *, kind: str = "bridge", ns: str = HOST) -> None:
        self.put(OtherLink(ns=ns, name=name, kind=kind))

    def delete_link(self, name: str, ns: str = HOST) -> None:
        self._kernel.simulation.delete((ns, "link", name))

    def rename_link(self, name: str, new: str, ns: str = HOST) -> None:
        self._kernel.simulation.rename(ns, name, new)

    def set_link(
        self,
        name: str,
        ns: str = HOST,
        *,
        up: bool | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        master: str | None = None,
        owner: str | None = None,
    ) -> None:
        """Change a link; `master=""` takes it off its bridge, `owner=""` spoils netd's tag."""
        link: Link = self._kernel.simulation.link(ns, name)
        if up is not None:
            link = replace(link, up=up)
        if mtu is not None:
            link = replace(link, mtu=mtu)
        if mac is not None and isinstance(link, Bridge | Macvlan | VethPeer | Vxlan):
            link = replace(link, mac=mac)
        if owner is not None:
            link = replace(link, owner=owner)
        if master is not None and isinstance(link, Veth):
            link = replace(link, master=master or None, hairpin=False)
        elif master is not None and isinstance(link, Vxlan):
            link = as_port(link, master)
        elif master is not None and isinstance(link, OtherLink):
            link = replace(link, master=master or None)
        self._kernel.simulation.change(link)

    def add_address(self, link: str, address: str, ns: str = HOST) -> None:
        self.put(Address(ns=ns, link=link, address=address))

    def delete_address(self, link: str, address: str, ns: str = HOST) -> None:
        self._kernel.simulation.delete((ns, "address", link, address))

    def add_route(
        self, destination: str, link: str, gateway: str | None = None, ns: str = HOST
    ) -> None:
        self.put(Route(ns=ns, destination=destination, link=link, gateway=gateway))

    def delete_route(self, destination: str, link: str, ns: str = HOST, table: int = 254) -> None:
        route = Route(ns=ns, destination=destination, link=link, table=table)
        self._kernel.simulation.delete(route.key)

    def delete_rule(self, source: str, table: int, ns: str = HOST) -> None:
        self._kernel.simulation.delete((ns, "rule", source, str(table)))

    def spoil_port(self, name: str) -> None:
        """`ip link set NAME type bridge_slave neigh_suppress off`"""
        tunnel = self._kernel.simulation.link(HOST, name)
        assert isinstance(tunnel, Vxlan)
        self._kernel.simulation.change(replace(tunnel, quiet=False))

    def set_fdb_entry(self, link: str, mac: str, destination: str) -> None:
        """`bridge fdb replace MAC dev LINK dst DESTINATION self master static`"""
        self._set(FdbEntry(link=link, mac=mac, destination=destination))

    def delete_fdb_half(self, half: Literal["bridge", "link"], entry: FdbEntry) -> None:
        """`bridge fdb del MAC dev LINK master`, or `self`"""
        simulation = self._kernel.simulation
        found = simulation.objects.get(entry.key)
        if not isinstance(found, FdbEntry):
            raise Refused(errno.ENOENT)
        left = without_half(found, half)
        if left is None:
            simulation.delete(entry.key)
        else:
            simulation.become(found, left)

    def set_neighbour(self, link: str, address: str, mac: str) -> None:
        self._set(Neighbour(link=link, address=address, mac=mac))

    def delete_neighbour(self, link: str, address: str) -> None:
        self._kernel.simulation.delete((HOST, "neighbour", link, address))

    def _set(self, obj: Object) -> None:
        if obj.key in self._kernel.simulation.objects:
            self._kernel.simulation.change(obj)
        else:
            self.put(obj)

    def set_sysctl(self, name: str, value: str, ns: str = HOST) -> None:
        self._set(Sysctl(ns=ns, name=name, value=value))

    def flush_ruleset(self, ns: str = HOST) -> None:
        """`nft flush ruleset`"""
        for ruleset in self._kernel.simulation.of_type(Ruleset):
            if ruleset.ns == ns:
                self._kernel.simulation.delete(ruleset.key)

    def end_namespace(self, sandbox: Sandbox) -> None:
        """The container's last process ends: the namespace goes with all that is in it."""
        self._kernel.namespace_ended(sandbox)

    def replace_namespace(self, sandbox: Sandbox) -> Sandbox:
        """The namespace ends, and a new one appears at the same path."""
        self.end_namespace(sandbox)
        return self._kernel.container(path=sandbox.path, pid=sandbox.pid)

    def listen(self, port: HeldPort) -> None:
        """Another program binds a port."""
        self._kernel.ports.others.add(port)

    def close(self, port: HeldPort) -> None:
        self._kernel.ports.others.discard(port)

    def send(self, port: HeldPort) -> None:
        """Somebody sends UDP to a host port: conntrack remembers the flow."""
        self._kernel.flows.append(port)
