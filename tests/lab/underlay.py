"""What hosts of a lab on one machine have in common: addresses, configuration, and the bridge.

The bridge is in a machine of its own called `outside`, which is also what the hosts' default
routes lead to. Nothing of the machine's own network is touched.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

import msgspec

from tests.lab.machine import Machine

OUTSIDE: Final = "outside"
# For benchmarks of networks (RFC 2544), and for documentation (RFC 3849): no host route of a
# machine leads there.
FIRST: Final = {4: IPv4Address("198.18.0.1"), 6: IPv6Address("2001:db8::1")}
LAST: Final = {4: IPv4Address("198.18.255.254"), 6: IPv6Address("2001:db8::ffff")}
PREFIX: Final = {4: 16, 6: 64}
HOSTS_MAX: Final = 1000


class Plan(msgspec.Struct, frozen=True):
    """What a lab is made of: `lab.json` in its folder. `registry`: whether names are answered,
    by a process more on each host. `more` is added to the configuration of each host, with its
    address where that says `ADDRESS`.
    """

    count: int
    profile: str
    family: Literal[4, 6]
    registry: bool = False
    more: str = ""

    def name(self, number: int) -> str:
        """Of a host; they are numbered from 1."""
        return f"host-{number}"

    def address(self, number: int) -> str:
        """Of a host, in the family that the hosts talk to each other in."""
        return str(FIRST[self.family] + number - 1)

    def addresses(self, number: int) -> list[str]:
        """Of a host, in both families, with prefix lengths."""
        return [f"{first + number - 1}/{PREFIX[version]}" for version, first in FIRST.items()]

    def settings(self, number: int, *, key_file: str, state_dir: str = "/var/lib/netd") -> str:
        """The configuration of a host's netd: all join the first."""
        first = str(FIRST[self.family])
        peer = f"[{first}]" if self.family == 6 else first
        join = "" if number == 1 else f'join = ["{peer}:7940"]\n'
        # By default netd listens on IPv4.
        bind = 'bind = "[::]:7940"\n' if self.family == 6 else ""
        registry = "" if self.registry else '[registry]\nstart = "never"\n'
        return (
            f'[node]\nname = "{self.name(number)}"\n'
            f'[state]\ndir = "{state_dir}"\n'
            f'[cluster]\nkey_file = "{key_file}"\nprofile = "{self.profile}"\n'
            f"{bind}{join}{registry}{self.more.replace('ADDRESS', self.address(number))}"
        )

    def hosts_file(self) -> str:
        """Names of the machines, for the resolver."""
        numbers = range(1, self.count + 1)
        lines = [f"{first + n - 1} {self.name(n)}\n" for first in FIRST.values() for n in numbers]
        outside = [f"{last} {OUTSIDE}\n" for last in LAST.values()]
        return "".join(["127.0.0.1 localhost\n", "::1 localhost\n", *lines, *outside])


def start_outside(outside: Machine, plan: Plan, *, tied: bool) -> None:
    """Make the machine with the bridge `br0`, and start it."""
    outside.folder.mkdir()
    (outside.folder / "hosts").write_text(plan.hosts_file())
    outside.on(tied=tied)
    outside.in_network("ip", "link", "add", "br0", "type", "bridge")
    for version, last in LAST.items():
        flags = ("nodad",) if version == 6 else ()
        address = f"{last}/{PREFIX[version]}"
        outside.in_network("ip", "address", "add", address, "dev", "br0", *flags)
    outside.in_network("ip", "link", "set", "br0", "up")
