"""How this host gets addresses of networks whose blocks are in etcd.

What it owns is in etcd and in its ledger: what it gets is entered in etcd first, what it gives
away is struck from the ledger first. So each address has one owner, and a host that etcd has
taken something from, as it was dead for good, owns that no more as soon as it has looked.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from netd.engine.blocks.books import Books
from netd.engine.blocks.fencing import Fencing
from netd.engine.blocks.getting import Getting
from netd.engine.blocks.owners import Owners
from netd.engine.interfaces import Cluster, NetworkAuthority
from netd.engine.parts import Parts
from netd.model.blocks import Allotment, Epoch, Given, Ledger, Refused
from netd.model.errors import NetdError, Unavailable
from netd.model.network import Network
from netd.plan import allotments
from netd.plan import ledger as ledgers
from netd.plan.addresses import IPAddress
from netd.plan.space import Space

ASK_S: Final = 5.0  # how long etcd is waited for
REST_S: Final = 3.0  # how long it is not asked after it did not answer

log = logging.getLogger(__name__)

Step = Callable[[Allotment], Allotment]


class FromEtcd:
    """A `Source`. Without an `authority` this host goes on with what it has."""

    def __init__(
        self,
        parts: Parts,
        cluster: Cluster,
        books: Books,
        owners: Owners,
        getting: Getting,
        fencing: Fencing,
        authority: NetworkAuthority | None,
    ) -> None:
        self._parts = parts
        self._member = cluster.id
        self._books = books
        self._owners = owners
        self._getting = getting
        self._fencing = fencing
        self._authority = authority
        self._heard: set[str] = set()  # networks
        self._failure = ""  # why etcd was not heard when it was asked last
        self._resting_until_s = 0.0

    def has_heard(self, network_id: str) -> bool:
        ledger = self._books.find(network_id)
        behind = ledger is not None and ledger.epoch < self._owners.epoch(network_id)
        return network_id in self._heard and not behind

    async def hear(self, network: Network) -> Epoch:
        ledger = self._books.find(network.id)
        if ledger is None:  # it owns nothing that could be another's by now
            self._heard.add(network.id)
            return Epoch()
        try:
            await self._follow(network)
        except Unavailable as error:
            epoch = await self._fencing.ask_others(network)
            if epoch > ledger.epoch:
                raise Unavailable(
                    f"addresses of network {network.name!r} were taken over from hosts that were "
                    f"taken for gone for good; whether from this one is not known: {error.detail}"
                ) from None
            self._parts.tasks.start("addresses in etcd", self._follow_when_heard(network))
        self._heard.add(network.id)
        return self._ledger(network.id).epoch

    async def learn(self, network: Network, epoch: Epoch) -> None:
        """Somebody is in this epoch. Raises `Unavailable`."""
        if self._ledger(network.id).epoch < epoch:
            await self._follow(network)

    async def block(self, network: Network, subnet: str) -> bool:
        before = self._books.owned(network.id)
        whole = Space.of([subnet])
        try:
            async with self._books.moving.hold(network.id):
                if not (self._books.owned(network.id) - before) & whole:
                    own = ledgers.accounted(self._ledger(network.id))
                    await self._step(
                        network,
                        lambda known: allotments.take(known, network, self._member, subnet, own),
                    )
        except Unavailable as error:
            log.info("network %s: %s", network.name, error.detail)
        if (self._books.owned(network.id) - before) & whole:
            return True
        return await self._getting.block(network, subnet)

    async def address(self, network: Network, subnet: str, address: IPAddress) -> None:
        failure: Unavailable | None = None
        try:
            async with self._books.moving.hold(network.id):
                await self._step(
                    network,
                    lambda known: allotments.take_address(known, network, self._member, address),
                )
        except Unavailable as error:
            failure = error
        if address in self._books.owned(network.id):
            return
        try:
            await self._getting.address(network, subnet, address)
        except Unavailable:
            if failure is not None:
                raise failure from None
            raise

    def lack(self, network: Network, subnet: str) -> NetdError:
        lack = self._getting.exhausted(network, subnet)
        if not self._failure:
            return lack
        return Unavailable(f"{self._failure}; without it: {lack.detail}")

    async def owners(self, network: Network) -> set[str]:
        """All members that own addresses, those that nobody remembers too. Raises `Unavailable`."""
        async with self._books.moving.hold(network.id):
            return set((await self._ask(network, lambda known: known)).owned)

    async def reclaim(self, network: Network, members: Sequence[str]) -> Space:
        """What they owned is free in etcd, for whoever needs some."""
        lives = {member: self._owners.lives[member] for member in members}
        name = self._parts.clock.new_id()
        freed = Space()

        def step(known: Allotment) -> Allotment:
            nonlocal freed
            self._fencing.check_dead(lives)
            freed = allotments.owned_by(known, members)
            return allotments.free(known, members, name)

        self._fencing.check_dead(lives)
        async with self._books.moving.hold(network.id):
            await self._step(network, step)
        return freed

    async def give(
        self,
        network: Network,
        taker: str,
        decide: Callable[[Ledger], tuple[Ledger, Given | Refused]],
    ) -> Given | Refused:
        """Answer a host that asks for addresses. Raises `Unavailable`: it is to ask again."""
        async with self._books.moving.hold(network.id):
            answer = await self._books.change(network.id, decide)
            if isinstance(answer, Refused):
                return answer
            self._books.given[network.id] += 1
            step = partial(
                allotments.hand_over, giver=self._member, taker=taker, prefix=answer.prefix
            )
            known = await self._ask(network, step)
            lacks = Space.of([answer.prefix]) - allotments.owned_by(known, [taker])
            return Refused(why="closed", epoch=answer.epoch) if lacks else answer

    # How it works

    def _ledger(self, network_id: str) -> Ledger:
        ledger = self._books.find(network_id)
        assert ledger is not None
        return ledger

    async def _follow(self, network: Network) -> None:
        async with self._books.moving.hold(network.id):
            await self._step(network, lambda known: known)

    async def _follow_when_heard(self, network: Network) -> None:
        """This host goes on with what it stored, until etcd can say what has become of it."""
        while True:
            await asyncio.sleep(REST_S)
            try:
                await self._follow(network)
            except Unavailable:
                continue
            except NetdError as error:  # the network is gone
                log.info("network %s: %s", network.name, error.detail)
            return

    async def _step(self, network: Network, step: Step) -> None:
        """Let etcd go on by a step, and this host own what it says then."""
        known = await self._ask(network, step)
        await self._books.go_on(network.id, lambda ledger: ledgers.follow(ledger, known))

    async def _ask(self, network: Network, step: Step) -> Allotment:
        now_s = asyncio.get_running_loop().time()
        if self._authority is None:
            self._failure = (
                f"the addresses of network {network.name!r} are in etcd, and this host does not "
                "use it (kv.networks)"
            )
        elif now_s >= self._resting_until_s:
            self._failure = ""
            try:
                async with asyncio.timeout(ASK_S):
                    return await self._authority.allot(network.name, network.id, step)
            except (Unavailable, TimeoutError) as error:
                why = error.detail if isinstance(error, Unavailable) else f"nothing in {ASK_S:g} s"
                self._failure = f"etcd has the addresses of network {network.name!r}, and cannot "
                self._failure += f"be asked: {why}"
                self._resting_until_s = now_s + REST_S
        raise Unavailable(self._failure)
