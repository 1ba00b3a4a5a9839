"""Invariants 9, 10, 18 and 20: what goes over the wire, and what it must not do."""

from collections.abc import Mapping

from tests.sim.invariants import Violation


class Bounds:
    """(9) Packets fit into the least MTU of IPv6, and nothing grows without bound."""

    def __init__(self, packet_max_bytes: int, levels: Mapping[str, int]) -> None:
        self._packet_max_bytes = packet_max_bytes
        self._levels = dict(levels)

    def packet(self, size: int) -> None:
        if size > self._packet_max_bytes:
            raise Violation(9, f"a packet of {size} bytes")

    def level(self, observer: str, levels: Mapping[str, int]) -> None:
        for name, most in self._levels.items():
            if levels.get(name, 0) > most:
                raise Violation(9, f"{observer} has {levels[name]} of {name}, at most {most}")


class Quiet:
    """(10) A cluster to which nothing happens sends no more than `packets_per_s` and
    `bytes_per_s` from each node.
    """

    def __init__(self, packets_per_s: float, bytes_per_s: float) -> None:
        self.packets_per_s = packets_per_s
        self.bytes_per_s = bytes_per_s

    def see(self, name: str, seconds: float, packets: int, sent_bytes: int) -> None:
        rates = packets / seconds, sent_bytes / seconds
        if rates[0] > self.packets_per_s or rates[1] > self.bytes_per_s:
            text = f"{name} sends {rates[0]:.1f} packets/s, {rates[1]:.0f} bytes/s, all quiet"
            raise Violation(10, text)


class NothingChanges:
    """(18) A packet that is replayed, corrupted or of another cluster changes nothing, causes
    nothing, and is counted.
    """

    def see(self, what: str, before: object, after: object, sent: int, counted: int) -> None:
        """`before`, `after`: all that can be seen of a core; `sent`: what it has put out."""
        if before != after:
            raise Violation(18, f"{what} changed what the node knows")
        if sent:
            raise Violation(18, f"{what} was answered with {sent} messages")
        if counted < 1:
            raise Violation(18, f"{what} was not counted")


class NoProbeFails:
    """(20) While keys change, every pair stays connected: no probe fails for that reason."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}

    def see(self, observer: str, failed: int, undecipherable: int) -> None:
        """Counters of one run, of what failed so far."""
        now = failed + undecipherable
        before = self._before.setdefault(observer, now)
        if now > before:
            text = f"{observer} had {failed} failed probes, {undecipherable} packets unread"
            raise Violation(20, text)
