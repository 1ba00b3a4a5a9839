"""Kernel objects of overlay networks: the tunnel, and who is behind it.

Nothing is learned from packets: every entry here follows from the records of other hosts.
"""

from typing import Final, Literal

from netd.plan.objects import Key, Link, Object

ALL_HOSTS: Final = "00:00:00:00:00:00"
"""The MAC of forwarding entries for what goes to all hosts, of which there are several."""


class Vxlan(Link, frozen=True, kw_only=True):
    """A VXLAN link as a port of the bridge `master`. `port` is the UDP port of all tunnels.

    It neither learns nor floods unknown unicast; ARP and neighbour solicitations from the
    bridge are answered by the bridge. With `flood`, broadcast and multicast go to the hosts
    that have a forwarding entry for `ALL_HOSTS`. `family` is the underlay's. The kernel fixes
    it, `vni` and `port` when the link is made. `quiet` is false where an observation finds that
    it learns, floods unknown unicast, or lets pass what the bridge can answer.
    """

    rank = 30
    vni: int
    port: int
    mac: str
    master: str
    family: Literal[4, 6] = 4
    flood: bool = False
    quiet: bool = True

    def text(self) -> str:
        flood = " flood" if self.flood else ""
        return (
            f"link {self.name} type vxlan id {self.vni} dstport {self.port} IPv{self.family} "
            f"address {self.mac} mtu {self.mtu} master {self.master}{flood} up"
        )


class FdbEntry(Object, frozen=True, kw_only=True):
    """Frames to `mac` leave by the VXLAN `link` to the host at `destination`, its address.

    In the kernel these are two entries: the bridge's, which leads to the link, and the link's,
    which leads to the host. Of `ALL_HOSTS` there is only the latter, one for each host. Where
    an observation finds one half only, it is not `bridged`, or its destination is "".
    """

    rank = 85
    link: str
    mac: str
    destination: str
    bridged: bool = True

    @property
    def key(self) -> Key:
        return fdb_key(self.ns, self.link, self.mac, self.destination)

    @property
    def link_key(self) -> Key | None:
        return (self.ns, "link", self.link)

    def text(self) -> str:
        return f"fdb {self.mac} dev {self.link} dst {self.destination}"


def fdb_key(ns: str, link: str, mac: str, destination: str) -> Key:
    """The key of a `FdbEntry`."""
    if mac == ALL_HOSTS:
        return (ns, "fdb", link, mac, destination)
    return (ns, "fdb", link, mac)


class Neighbour(Object, frozen=True, kw_only=True):
    """A permanent neighbour entry: `address`, on the bridge `link`, has the MAC `mac`.

    The host itself uses it, and the bridge answers containers' ARP and solicitations from it.
    """

    rank = 86
    link: str
    address: str
    mac: str

    @property
    def key(self) -> Key:
        return (self.ns, "neighbour", self.link, self.address)

    @property
    def link_key(self) -> Key | None:
        return (self.ns, "link", self.link)

    def text(self) -> str:
        return f"neighbour {self.address} dev {self.link} address {self.mac}"
