"""Ports of the kernel in memory: who holds which."""

from collections.abc import Sequence

from netd.plan.ports import HeldPort


class Ports:
    """`others` are those that other programs hold."""

    def __init__(self) -> None:
        self.others: set[HeldPort] = set()
        self._held: set[HeldPort] = set()

    def hold(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        """Hold all, or none: then those that are taken."""
        taken = self.busy([port for port in ports if port not in self._held])
        if not taken:
            self._held.update(ports)
        return taken

    def release(self, ports: Sequence[HeldPort]) -> None:
        self._held.difference_update(ports)

    def release_all(self) -> None:
        self._held.clear()

    def busy(self, ports: Sequence[HeldPort]) -> list[HeldPort]:
        taken = self.others | self._held
        return [port for port in ports if any(clash(port, other) for other in taken)]


def clash(one: HeldPort, other: HeldPort) -> bool:
    """Whether two sockets cannot be bound to these at the same time."""
    return (one.protocol, one.family, one.port) == (other.protocol, other.family, other.port) and (
        one.address == other.address or "" in (one.address, other.address)
    )
