"""What container runtimes are offered."""

from netd.daemon.settings.values import (
    Table,
    WrongValue,
    check_absolute,
    check_socket,
    network_of,
)
from netd.model.errors import Invalid
from netd.model.names import check_network_name


class Docker(Table, frozen=True):
    """The network and IPAM driver `netd` of Docker Engines. `socket` is where they look for it.

    `api` is the engine's own socket, where netd hears the names of containers; "" for nowhere.
    """

    enabled: bool = False
    socket: str = "/run/docker/plugins/netd.sock"
    api: str = "/run/docker.sock"

    def __post_init__(self) -> None:
        check_socket("socket", self.socket)
        if self.api:
            check_socket("api", self.api)


class Cni(Table, frozen=True):
    """What runtimes that speak CNI are offered once netd is ready, see CNI.md.

    `conflist` is the file that is installed for them, "" for none, and `name` the network's name
    in it. Containers come to the network called `network`; without one to a bridge network of this
    host, with `subnets`, or with subnets chosen. `masquerade` off: its containers keep their
    addresses on the way out and are reached at them. `withdraw`: the file goes when netd stops.
    """

    conflist: str = ""
    name: str = "netd"
    network: str = ""
    subnets: tuple[str, ...] = ()
    masquerade: bool = True
    withdraw: bool = False

    def __post_init__(self) -> None:
        if self.conflist:
            check_absolute("conflist", self.conflist)
            if not self.conflist.endswith(".conflist"):
                raise WrongValue("conflist", f"{self.conflist!r} does not end with .conflist")
        for key, name in (("name", self.name), ("network", self.network)):
            try:
                if name or key == "name":
                    check_network_name(name)
            except Invalid as error:
                raise WrongValue(key, error.detail) from None
        if self.network and (self.subnets or not self.masquerade):
            raise WrongValue("network", f"network {self.network!r} has its own subnets and options")
        for subnet in self.subnets:
            network_of("subnets", subnet)
