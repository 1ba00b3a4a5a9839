"""Words for scenarios about overlay networks."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.lab import Lab
from tests.lab.waiting import wait_for

SUBNET4: Final = "10.44.0.0/16"
SUBNET6: Final = "fd44::/64"
FAMILIES: Final = (4, 6)
VXLAN_PORT: Final = 4789
KNOWN_S: Final = 3.0
"""Within this time all hosts know of a change, ten times what is promised."""
REPAIRED_S: Final = 10.0
"""Within this time something that was deleted by hand is back."""


@dataclass(frozen=True)
class Overlay:
    """A network of that name; `vni` is its number in packets."""

    lab: Lab
    name: str

    @classmethod
    def create(cls, lab: Lab, name: str, *flags: str) -> "Overlay":
        """Make it on the first host; return when all hosts know of it."""
        lab.hosts[0].netctl("network", "create", name, "--driver", "overlay", *flags)
        network = cls(lab, name)
        for host in lab.hosts:
            wait_for(partial(network.on, host), KNOWN_S * host.slowness, what=name)
        return network

    def on(self, host: LabHost) -> dict[str, Any] | None:
        """The network as that host has it."""
        found = [net for net in host.api("/v1/networks") if net["name"] == self.name]
        return found[0] if found else None

    def is_gone(self, host: LabHost) -> bool:
        return self.on(host) is None

    def codes(self, host: LabHost) -> set[str]:
        """Codes of the conditions that networks of its name have there."""
        networks = [net for net in host.api("/v1/networks") if net["name"] == self.name]
        return {condition["code"] for net in networks for condition in net["conditions"]}

    @property
    def vni(self) -> int:
        network = self.on(self.lab.hosts[0])
        assert network is not None
        return int(network["vni"])

    def container(self, host: LabHost, name: str, *flags: str) -> Container:
        """A new container on it."""
        container = host.start(name)
        container.attach(self.name, *flags)
        return container

    def pair(self, one: LabHost, two: LabHost) -> tuple[Container, Container]:
        """Containers `a` and `b` on two hosts; return when they reach each other."""
        a, b = self.container(one, "a"), self.container(two, "b")
        assert not {*a.addresses()} & {*b.addresses()}
        await_reach(b, a)  # which is known longer
        await_reach(a, b)
        return a, b


def await_reach(source: Container, target: Container, within_s: float = KNOWN_S) -> float:
    """Wait until pings to all its addresses arrive; the seconds it took."""
    return wait_for(
        lambda: all(source.pings(address, wait_s=1) for address in target.addresses()),
        within_s * source.host.slowness,
        what=f"{source} reaches {target}",
    )


def tunnel(host: LabHost) -> str:
    """The name of the host's only VXLAN link."""
    [link] = json.loads(host.run("ip", "-json", "link", "show", "type", "vxlan"))
    return str(link["ifname"])


def entries(host: LabHost, destination: str) -> list[str]:
    """The host's forwarding entries that lead to a host."""
    found = host.run("bridge", "fdb", "show").splitlines()
    return [line for line in found if f"dst {destination} " in f"{line} "]


def mac_of(container: Container) -> str:
    return str(container.endpoint()["mac"])
