"""Gets this node back to the others: by the configured addresses and by the peers it knew.

Addresses that are not members' are tried again and again, so that hosts which start in any
order, or are cut off at the start, find each other.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from netd.cluster.addresses import Place, is_wildcard, leads_here, resolve
from netd.gossip.values import Address
from netd.model.errors import Unavailable

AGAIN_S: Final = 60.0
ALONE_AGAIN_S: Final = 1.0  # at first; each time twice as long ...
ALONE_AGAIN_MAX_S: Final = 10.0  # ... up to this
PEERS_AT_ONCE: Final = 8
ANSWER_KEPT_S: Final = 600.0  # a seed may be reached by another address than its own

Join = Callable[[Sequence[Address]], Awaitable[Mapping[Address, str]]]

log = logging.getLogger(__name__)


class Rejoin:
    """`join` gives for each address "" or why it has not answered; `others` are the addresses
    of the other members that are there.
    """

    def __init__(
        self,
        seeds: Sequence[Place],
        peers: Sequence[Address],
        bound: str,
        own: Collection[Address],
        join: Join,
        others: Callable[[], Collection[Address]],
    ) -> None:
        self.unanswered: dict[str, str] = {}  # seeds as they were written, each with why
        self._seeds = tuple(seeds)
        self._peers = [peer for peer in peers if peer not in own]
        self._bound = bound
        self._own = own
        self._join = join
        self._others = others
        self._answered_s: dict[Place, float] = {}

    async def run(self) -> None:
        """Never ends."""
        random.shuffle(self._peers)  # so that hosts that start together ask different ones
        pause_s = ALONE_AGAIN_S
        while True:
            if not self._others():
                self._answered_s.clear()  # whoever has answered once is lost now
            await asyncio.gather(*map(self._join_seed, self._seeds))
            if not self._others():
                await self._join_peers()
            if self._others():
                pause_s = ALONE_AGAIN_S
                await asyncio.sleep(AGAIN_S)
            elif self._seeds or self._peers:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, ALONE_AGAIN_MAX_S)
            else:
                return

    async def _join_seed(self, seed: Place) -> None:
        try:
            addresses = await resolve(seed, self._bound)
        except Unavailable as error:
            self._note(seed, error.detail)
            return
        if any(map(self._is_own, addresses)):
            return  # the same list is configured on all hosts
        others = self._others()
        now_s = asyncio.get_running_loop().time()
        kept = others and now_s - self._answered_s.get(seed, float("-inf")) < ANSWER_KEPT_S
        if kept or not set(addresses).isdisjoint(others):
            self._note(seed, "")
            return
        answers = await self._join(addresses)
        if "" in answers.values():
            self._answered_s[seed] = now_s
            self._note(seed, "")
        else:
            self._note(seed, "; ".join(answers.values()))

    def _is_own(self, address: Address) -> bool:
        """Whether this node itself would answer there: a host's own name often leads to 127.0.1.1
        (Debian), or to another of its addresses than the others know it by.
        """
        anywhere = any(is_wildcard(host) and port == address[1] for host, port in self._own)
        return address in self._own or (anywhere and leads_here(address[0]))

    async def _join_peers(self) -> None:
        """Some of the peers of the last run; the others the next time."""
        tried, rest = self._peers[:PEERS_AT_ONCE], self._peers[PEERS_AT_ONCE:]
        if tried:
            await self._join(tried)
            self._peers = rest + tried

    def _note(self, seed: Place, error: str) -> None:
        if not error:
            if self.unanswered.pop(str(seed), None) is not None:
                log.info("%s answers", seed)
        elif self.unanswered.get(str(seed)) != error:
            log.warning("%s does not answer: %s; it is asked again", seed, error)
            self.unanswered[str(seed)] = error
