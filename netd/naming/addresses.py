"""Addresses as records need them, and who has which."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

_KNOWN: Final = 16_384  # addresses that need not be read again; the same come again and again


class Address(NamedTuple):
    """An address with the type and the bytes of its record."""

    type: str
    text: str
    rdata: bytes


def addresses_of(texts: Iterable[str]) -> tuple[Address, ...]:
    """Each once, in order; what is no address is left out."""
    found = {}
    for text in texts:
        address = _address(text)
        if address is not None:
            found[address.text] = address
    return tuple(found.values())


@lru_cache(maxsize=_KNOWN)
def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return Address("A" if address.version == 4 else "AAAA", str(address), address.packed)


def topics_of(addresses: Iterable[Address]) -> tuple[str, ...]:
    """What answers about these addresses depend on."""
    return tuple("a/" + address.text for address in addresses)


class Holders(Generic[T]):
    """Who has an address: by id, several where they share it."""

    def __init__(self) -> None:
        self._at: dict[str, dict[str, T]] = {}

    def add(self, addresses: Iterable[Address], holder_id: str, holder: T) -> None:
        for address in addresses:
            self._at.setdefault(address.text, {})[holder_id] = holder

    def remove(self, addresses: Iterable[Address], holder_id: str) -> None:
        for address in addresses:
            holders = self._at[address.text]
            del holders[holder_id]
            if not holders:
                del self._at[address.text]

    def at(self, address: str) -> list[T]:
        """Those that have it, by id."""
        holders = self._at.get(address)
        if not holders:
            return []
        return [holders[holder_id] for holder_id in sorted(holders)]
