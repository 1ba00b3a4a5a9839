"""How one host's ledger of a network's addresses goes from state to state.

Every function takes a ledger and returns the next; none changes one. Whoever calls them makes the
next one durable before it uses it or answers anybody. Then an address has at most one owner,
whatever gets lost, comes twice or late, and whoever dies in between:

- A block leaves its giver's ledger before its recipient hears of it. An answer that is lost is
  given again when the same request comes again; meanwhile nobody owns the block.
- A recipient takes the answer to an open request only, and closes it with the same step.
- Addresses of dead hosts are taken over by a new epoch. All others stop moving blocks, tell what
  they own, and go on in the new epoch; what nobody told of goes to who asked. A host that was not
  asked owns nothing in the new epoch, and a block given in one epoch is nobody's in another.
"""

from collections.abc import Iterable
from functools import lru_cache

from msgspec.structs import replace

from netd.model.blocks import (
    Allotment,
    Ask,
    BlockRequest,
    Donation,
    Epoch,
    Fence,
    Given,
    Ledger,
    Refused,
)
from netd.model.network import Network
from netd.plan.blocks import BLOCK_MAX, share_of, spare_block
from netd.plan.space import NOWHERE, Space


def begin(network: Network, member: str, epoch: Epoch) -> Ledger:
    """The first ledger of a member: with its share as a seed, unless others have gone on since."""
    prefixes = share_of(network, member).prefixes() if epoch == Epoch() else ()
    return Ledger(network_id=network.id, member=member, prefixes=prefixes, epoch=epoch)


def owned(ledger: Ledger) -> Space:
    return _space(ledger.prefixes)


# Asking for a block


def request(
    ledger: Ledger, donor: str, subnet: str, wanted: str = ""
) -> tuple[Ledger, BlockRequest]:
    """Open a request; one that is open for the same is taken up again."""
    for known in ledger.requests:
        if (known.donor, known.subnet, known.wanted) == (donor, subnet, wanted):
            return ledger, known
    number = ledger.next_number
    new = BlockRequest(number=number, donor=donor, subnet=subnet, wanted=wanted)
    return replace(ledger, requests=(*ledger.requests, new), next_number=number + 1), new


def ask(ledger: Ledger, request: BlockRequest) -> Ask:
    return Ask(
        network_id=ledger.network_id,
        number=request.number,
        floor=min(known.number for known in ledger.requests if known.donor == request.donor),
        epoch=ledger.epoch,
        subnet=request.subnet,
        wanted=request.wanted,
    )


def receive(ledger: Ledger, number: int, answer: Given | Refused) -> Ledger:
    """Take an answer. It is to be kept for later, and the ledger is the same, behind a fence."""
    ledger = learn(ledger, answer.epoch)
    asked = next((known for known in ledger.requests if known.number == number), None)
    if asked is None:
        return ledger
    if isinstance(answer, Refused):
        return _closed(ledger, asked)
    if ledger.fences:
        return ledger
    given = Space.of([answer.prefix])
    if answer.epoch < ledger.epoch or given - Space.of([asked.wanted or asked.subnet]):
        return _closed(ledger, asked)
    return _owning(_closed(ledger, asked), owned(ledger) | given)


def close(ledger: Ledger, number: int) -> Ledger:
    """Give up a request: its answer will not be taken."""
    for known in ledger.requests:
        if known.number == number:
            return _closed(ledger, known)
    return ledger


# Giving blocks away


def donate(
    ledger: Ledger, requester: str, ask: Ask, *, used: Space, held: Space
) -> tuple[Ledger, Given | Refused]:
    """Answer a request. The addresses of `held` are never given, those of `used` only when one
    of them is asked for.
    """
    epoch = ledger.epoch
    if ledger.fences or ask.epoch > epoch:
        return ledger, Refused(why="fenced", epoch=epoch)
    for known in ledger.donations:
        if (known.to, known.number) == (requester, ask.number):
            return ledger, Given(prefix=known.prefix, epoch=known.epoch)
    if ask.number < ledger.floors.get(requester, 0):
        return ledger, Refused(why="closed", epoch=epoch)
    own = owned(ledger)
    if ask.wanted:
        given = Space.of([ask.wanted])
        if given - own:
            return ledger, Refused(why="not-owned", epoch=epoch)
        if given & held:
            return ledger, Refused(why="held", epoch=epoch)
    else:
        free = (own & Space.of([ask.subnet])) - used - held
        block = spare_block(free, BLOCK_MAX[6 if ":" in ask.subnet else 4])
        if block is None:
            return ledger, Refused(why="short", epoch=epoch)
        given = Space.of_block(block)
    (prefix,) = given.prefixes()
    new = Donation(to=requester, number=ask.number, prefix=prefix, epoch=epoch)
    floor = max(ask.floor, ledger.floors.get(requester, 0))
    kept = tuple(
        known for known in ledger.donations if known.to != requester or known.number >= floor
    )
    ledger = replace(ledger, donations=(*kept, new), floors={**ledger.floors, requester: floor})
    return _owning(ledger, own - given), Given(prefix=prefix, epoch=epoch)


# Taking over what dead hosts own


def fence(ledger: Ledger, members: Iterable[str], name: str) -> Fence:
    """What this host has to have prepared to take over what dead members own."""
    numbers = (ledger.epoch.number, *(known.epoch.number for known in ledger.fences))
    return Fence(
        epoch=Epoch(number=max(numbers) + 1, id=name),
        base=ledger.epoch,
        by=ledger.member,
        members=tuple(sorted(members)),
    )


def prepare(ledger: Ledger, fence: Fence) -> Ledger:
    """Stop moving blocks; then what is owned can be told. Without the fence in the result it
    cannot be: the ledger is ahead, or others than dead members prepare another epoch.
    """
    ledger = learn(ledger, fence.base)
    if fence in ledger.fences:
        return ledger
    in_the_way = ledger.epoch != fence.base or any(
        known.by not in fence.members or known.epoch.number >= fence.epoch.number
        for known in ledger.fences
    )
    return ledger if in_the_way else replace(ledger, fences=(*ledger.fences, fence))


def finish(ledger: Ledger, fence: Fence, whole: Space, told: Iterable[Space]) -> Ledger:
    """Own all of a network that nobody else has told of, in the new epoch.

    All that may own some and will ever come back under their old epoch must have told.
    """
    assert fence in ledger.fences
    left = whole
    for space in told:
        left -= space
    return _owning(learn(ledger, fence.epoch), left)


def cancel(ledger: Ledger, epoch: Epoch) -> Ledger:
    """The epoch will never be in force, says who had prepared it."""
    kept = tuple(known for known in ledger.fences if known.epoch != epoch)
    return ledger if kept == ledger.fences else replace(ledger, fences=kept)


def learn(ledger: Ledger, epoch: Epoch) -> Ledger:
    """Somebody is in this epoch. Who did not help to prepare it owns nothing any more."""
    if epoch <= ledger.epoch:
        return ledger
    took_part = any(known.epoch == epoch for known in ledger.fences)
    return replace(
        ledger,
        epoch=epoch,
        fences=tuple(known for known in ledger.fences if known.epoch > epoch),
        prefixes=ledger.prefixes if took_part else (),
        donations=(),  # nobody in the new epoch takes what was given in an old one
    )


# Networks whose addresses are in etcd


def follow(ledger: Ledger, allotment: Allotment) -> Ledger:
    """Own what etcd says, but for what is on its way to others: that is struck here, and will be
    there when its recipient asks again.
    """
    ahead = allotment.epoch > ledger.epoch
    donations = () if ahead else ledger.donations
    left = Space.of(allotment.owned.get(ledger.member, ()))
    left -= Space.of(donation.prefix for donation in donations)
    ledger = replace(ledger, epoch=max(ledger.epoch, allotment.epoch), donations=donations)
    return _owning(ledger, left)


def receive_moved(ledger: Ledger, number: int, answer: Given | Refused) -> Ledger:
    """Take an answer, as `receive`. A block that has come back is on its way to nobody any more,
    though who had it has not closed the request by which it got it.
    """
    ledger = receive(ledger, number, answer)
    own = owned(ledger)
    kept = tuple(known for known in ledger.donations if not Space.of([known.prefix]) & own)
    return ledger if kept == ledger.donations else replace(ledger, donations=kept)


def accounted(ledger: Ledger) -> Space:
    """What this host owns or has struck in favour of others."""
    return owned(ledger) | Space.of(donation.prefix for donation in ledger.donations)


def _owning(ledger: Ledger, space: Space) -> Ledger:
    return replace(ledger, prefixes=space.prefixes())


def _closed(ledger: Ledger, request: BlockRequest) -> Ledger:
    return replace(ledger, requests=tuple(r for r in ledger.requests if r != request))


@lru_cache(maxsize=4096)
def _space(prefixes: tuple[str, ...]) -> Space:
    return Space.of(prefixes) if prefixes else NOWHERE
