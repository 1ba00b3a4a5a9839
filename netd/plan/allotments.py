"""How the blocks of a network that are in etcd go from state to state.

Each is a transaction there: it is made if nothing has changed since it was decided on, so an
address has at most one owner. What nobody owns is free.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from netd.model.blocks import Allotment, Epoch
from netd.model.network import Network
from netd.plan.addresses import IPAddress
from netd.plan.blocks import BLOCK_MAX, reserved_in, spare_block
from netd.plan.space import NOWHERE, Space

PART_MAX: Final = 64  # of a subnet, a block is no more than one of so many parts
BLOCK_MIN: Final = 4  # addresses, where there are as many


def take(allotment: Allotment, network: Network, member: str, subnet: str, own: Space) -> Allotment:
    """A block of a subnet for a member, whose ledger has `own`; the same when there is none, or
    when it owns more here already than it knows.
    """
    within = Space.of([subnet])
    if (_owned(allotment, member) & within) - own:
        return allotment
    free = within - reserved_in(network) - _taken(allotment)
    limit = max(BLOCK_MIN, min(BLOCK_MAX[6 if ":" in subnet else 4], within.size // PART_MAX))
    block = spare_block(free, limit) or next(free.blocks(), None)
    return allotment if block is None else _given(allotment, member, Space.of_block(block))


def take_address(
    allotment: Allotment, network: Network, member: str, address: IPAddress
) -> Allotment:
    """One address for a member; the same when somebody owns it."""
    wanted = Space.of_addresses([address])
    if wanted & (_taken(allotment) | reserved_in(network)):
        return allotment
    return _given(allotment, member, wanted)


def hand_over(allotment: Allotment, giver: str, taker: str, prefix: str) -> Allotment:
    """What one member owns goes to another; the same when it is not the giver's."""
    space = Space.of([prefix])
    if space - _owned(allotment, giver):
        return allotment
    return _given(_owning(allotment, giver, _owned(allotment, giver) - space), taker, space)


def free(allotment: Allotment, members: Iterable[str], name: str) -> Allotment:
    """What members own that are dead for good is free, in a new epoch; `name` is its id."""
    gone = frozenset(members)
    owned = {member: space for member, space in allotment.owned.items() if member not in gone}
    return Allotment(epoch=Epoch(number=allotment.epoch.number + 1, id=name), owned=owned)


def owned_by(allotment: Allotment, members: Iterable[str]) -> Space:
    """What members own together."""
    space = NOWHERE
    for member in members:
        space |= _owned(allotment, member)
    return space


def _taken(allotment: Allotment) -> Space:
    return Space.of(prefix for prefixes in allotment.owned.values() for prefix in prefixes)


def _owned(allotment: Allotment, member: str) -> Space:
    return Space.of(allotment.owned.get(member, ()))


def _given(allotment: Allotment, member: str, space: Space) -> Allotment:
    return _owning(allotment, member, _owned(allotment, member) | space)


def _owning(allotment: Allotment, member: str, space: Space) -> Allotment:
    owned: Mapping[str, tuple[str, ...]] = allotment.owned | {member: space.prefixes()}
    return replace(allotment, owned={key: value for key, value in owned.items() if value})
