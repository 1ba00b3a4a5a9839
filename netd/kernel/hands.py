"""Changes to the fake kernel that others make: people, programs, the death of a container."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

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
        if mac is not None and isinstance(link, Bridge | Macvlan | VethPeer):
            link = replace(link, mac=mac)
        if owner is not None:
            link = replace(link, owner=owner)
        if master is not None and isinstance(link, Veth):
            link = replace(link, master=master or None, hairpin=False)
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

    def set_sysctl(self, name: str, value: str, ns: str = HOST) -> None:
        sysctl = Sysctl(ns=ns, name=name, value=value)
        if sysctl.key in self._kernel.simulation.objects:
            self._kernel.simulation.change(sysctl)
        else:
            self.put(sysctl)

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
        self._kernel.others_ports.add(port)

    def close(self, port: HeldPort) -> None:
        self._kernel.others_ports.discard(port)

    def send(self, port: HeldPort) -> None:
        """Somebody sends UDP to a host port: conntrack remembers the flow."""
        self._kernel.flows.append(port)
