"""Subnets that the engine was given, and of which it has not said yet what they are for.

In memory only: a network that is created across a restart of netd is refused once.
"""

from collections.abc import Callable
from typing import Final

import msgspec

OFFERS_MAX: Final = 256
KEPT_S: Final = 60.0  # the engine goes on within milliseconds


class _Offer(msgspec.Struct, frozen=True):
    until_s: float
    chosen: bool  # netd chose it
    span: str  # what addresses are to be taken from, "" for all of it


class Offers:
    """`now_s` is a monotonic clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._offers: dict[str, _Offer] = {}

    def __len__(self) -> int:
        return len(self._offers)

    def put(self, subnet: str, *, chosen: bool, span: str = "") -> None:
        """The oldest goes when there are too many."""
        self._expire()
        while len(self._offers) >= OFFERS_MAX:
            del self._offers[next(iter(self._offers))]
        self._offers.pop(subnet, None)
        self._offers[subnet] = _Offer(self._now_s() + KEPT_S, chosen, span)

    def has(self, subnet: str) -> bool:
        """Whether netd chose it, and it is still to be used."""
        self._expire()
        offer = self._offers.get(subnet)
        return offer is not None and offer.chosen

    def span(self, subnet: str) -> str:
        offer = self._offers.get(subnet)
        return "" if offer is None else offer.span

    def chosen(self) -> list[str]:
        self._expire()
        return [subnet for subnet, offer in self._offers.items() if offer.chosen]

    def drop(self, subnet: str) -> None:
        self._offers.pop(subnet, None)

    def _expire(self) -> None:
        now_s = self._now_s()
        for subnet in [s for s, offer in self._offers.items() if offer.until_s <= now_s]:
            del self._offers[subnet]
