"""Which endpoint has which host port."""

from collections.abc import Iterable

from netd.plan.ports import HeldPort

_Slot = tuple[str, int, int]


class PortTable:
    """Claims on host ports. A claim on "" (every address) clashes with any on that port."""

    def __init__(self) -> None:
        self._claims: dict[_Slot, dict[str, str]] = {}

    def claim(self, ports: Iterable[HeldPort], endpoint_id: str) -> None:
        """Note the endpoint's claims; of two on the very same port the first one stays."""
        for port in ports:
            self._claims.setdefault(_slot(port), {}).setdefault(port.address, endpoint_id)

    def release(self, ports: Iterable[HeldPort], endpoint_id: str) -> None:
        """Drop the endpoint's claims, and nobody else's."""
        for port in ports:
            slot = _slot(port)
            claims = self._claims.get(slot, {})
            if claims.get(port.address) == endpoint_id:
                del claims[port.address]
                if not claims:
                    del self._claims[slot]

    def holder(self, port: HeldPort, *, but: str = "") -> str | None:
        """The endpoint other than `but` whose claim overlaps `port`."""
        for address, holder in self._claims.get(_slot(port), {}).items():
            if holder != but and (not address or not port.address or address == port.address):
                return holder
        return None


def _slot(port: HeldPort) -> _Slot:
    return (port.protocol, port.family, port.port)
