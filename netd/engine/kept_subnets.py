"""Subnets of networks that are gone for now: their runtime makes them again with these."""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from netd.plan.addresses import IPNetwork

FACT: Final = "subnets.kept"
MAX: Final = 256


class KeptSubnets:
    """The last `MAX` of them, the newest last. Whether such a network will ever come is not known,
    so a new one may have its subnet where no other is left.
    """

    def __init__(self) -> None:
        self._texts: tuple[str, ...] = ()

    def restore(self, facts: Mapping[str, str]) -> None:
        """Take over what the store holds."""
        self._texts = tuple(facts.get(FACT, "").split())

    def all(self) -> tuple[IPNetwork, ...]:
        return tuple(map(ipaddress.ip_network, self._texts))

    def with_more(self, subnets: Iterable[str]) -> dict[str, str]:
        """The fact to be stored when these are kept as well."""
        newest = dict.fromkeys(subnets)
        older = [text for text in self._texts if text not in newest]
        return {FACT: " ".join([*older, *newest][-MAX:])}
