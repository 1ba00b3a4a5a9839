"""The addresses that a host itself has on an overlay: one of each family, while that is open.

They are kept for it under a name that no endpoint has, so it gets them again.
"""

import ipaddress
from collections.abc import Iterable, Sequence

from netd.plan.ipam import AddressPool, Grant

HOST_NAME = "@host"


def take(pools: Sequence[AddressPool], network_id: str, now_s: float) -> tuple[str, ...]:
    """New ones, in CIDR form. Raises `Exhausted`, with none taken."""
    taken: list[tuple[AddressPool, Grant]] = []
    for pool in pools:
        try:
            taken.append((pool, pool.take(HOST_NAME, network_id, now_s)))
        except Exception:
            for other, grant in taken:
                other.cancel(grant)
            raise
    return tuple(f"{grant.address}/{pool.subnet.prefixlen}" for pool, grant in taken)


def restore(pools: Sequence[AddressPool], network_id: str, addresses: Iterable[str]) -> None:
    """Hold those that the host had before a restart."""
    for text in addresses:
        address = ipaddress.ip_interface(text).ip
        for pool in pools:
            if address in pool.subnet:
                pool.restore(address, network_id)


def give_back(pools: Sequence[AddressPool], addresses: Iterable[str], now_s: float) -> None:
    for text in addresses:
        address = ipaddress.ip_interface(text).ip
        for pool in pools:
            if address in pool.subnet:
                pool.give_back(address, HOST_NAME, now_s)
