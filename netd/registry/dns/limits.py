"""How much one client may ask for, so that one that floods takes nothing from the others."""

import ipaddress
from typing import Final

BURST_S: Final = 1.0  # what a bucket holds: so much of its rate
FLOOD: Final = 1000  # queries too many, in a second, are a flood

PREFIX: Final = 64  # of IPv6: who has one address in it has as many as he likes (RFC 4291, 2.5.4)


def party(source: str, *, known: bool) -> str:
    """Whom limits count for that asks from an address: the address, or the /64 of an IPv6 one.

    Of itself are an address that is `known` to be somebody's, as those of containers, which share
    a /64; the loopback's; and one that holds on a link only, where all have the same /64.
    """
    if known or ":" not in source:
        return source
    address = ipaddress.IPv6Address(source)
    if address.ipv4_mapped is not None or address.is_loopback or address.is_link_local:
        return source
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, PREFIX)))


class Bucket:
    """A token bucket: `rate` queries a second, and as many at once as in `BURST_S`.

    Filled when it is empty only, so that taking costs a subtraction: a client that has been
    silent may so have the rest of a bucket and a full one.
    """

    __slots__ = ("_filled_s", "_refused", "_refused_s", "rate", "tokens")

    def __init__(self, rate: float, now_s: float) -> None:
        self.rate = rate
        self.tokens = rate * BURST_S
        self._filled_s = now_s
        self._refused = 0
        self._refused_s = now_s  # since when they are counted

    def fill(self, now_s: float) -> bool:
        """Put in what has come together, after one too many was taken; whether there is one for
        that now. If not, it has taken nothing.
        """
        since_s = now_s - self._filled_s
        self._filled_s = now_s
        self.tokens = min(self.tokens + 1 + since_s * self.rate, self.rate * BURST_S)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def floods(self, now_s: float) -> bool:
        """Count one that was refused; whether they are `FLOOD` in a second."""
        if now_s - self._refused_s > 1.0:
            self._refused_s = now_s
            self._refused = 0
        self._refused += 1
        if self._refused < FLOOD:
            return False
        self._refused = 0
        return True


class Connections:
    """How many connections there are, in all and of each client. Bounded by both."""

    def __init__(self, most: int, most_each: int) -> None:
        self.open = 0
        self._most = most
        self._most_each = most_each
        self._of: dict[str, int] = {}

    def enter(self, client: str) -> bool:
        """Count one in; False when there are too many."""
        count = self._of.get(client, 0)
        if self.open >= self._most or count >= self._most_each:
            return False
        self.open += 1
        self._of[client] = count + 1
        return True

    def leave(self, client: str) -> None:
        self.open -= 1
        count = self._of[client] - 1
        if count:
            self._of[client] = count
        else:
            del self._of[client]
