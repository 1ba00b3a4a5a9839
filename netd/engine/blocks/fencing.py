"""Epochs: how a host takes over what dead ones own, and how the others hear of it."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from netd.engine.blocks import questions
from netd.engine.blocks.books import Books
from netd.engine.blocks.owners import Owners
from netd.engine.blocks.questions import Ended, Look, Prepare, Seen
from netd.engine.interfaces import Cluster
from netd.engine.parts import Parts
from netd.locks import KeyedLocks
from netd.model.blocks import Epoch, Fence, Ledger
from netd.model.errors import Conflict, NetdError, Unavailable
from netd.model.network import Network
from netd.plan import ledger as ledgers
from netd.plan.blocks import whole_of
from netd.plan.space import Space

AT_ONCE_MAX: Final = 32  # questions that are open at a time
LOOK_S: Final = 1.0  # how long a host waits for the first word of others
HEARING_S: Final = 5.0  # after the start: how long for others to be found at all
FENCE_S: Final = 10.0  # after which a host asks what has become of an epoch
LOOKED_AT: Final = 3  # hosts that are asked for the epoch

log = logging.getLogger(__name__)


class Fencing:
    def __init__(self, parts: Parts, cluster: Cluster, books: Books, owners: Owners) -> None:
        self._parts = parts
        self._cluster = cluster
        self._books = books
        self._owners = owners
        self._heard: set[str] = set()  # networks
        self._followed: set[str] = set()  # networks with a fence
        self._reclaiming: KeyedLocks[str] = KeyedLocks()
        self._started_s = 0.0

    def start(self) -> None:
        self._started_s = asyncio.get_running_loop().time()

    # Which epoch it is

    def has_heard(self, network_id: str) -> bool:
        """Whether the epoch has been heard of others since the start, as far as that can be."""
        return network_id in self._heard

    async def hear(self, network: Network) -> Epoch:
        """Ask others which epoch it is, before anything is given from what was stored.

        A host that is cut off from all others goes on with what it has. Raises `Unavailable`.
        """
        epoch = self._owners.epoch(network.id)
        if not self.has_heard(network.id) and set(network.seeds) != {self._cluster.id}:
            epoch = await self.ask_others(network)
        await self.learn(network.id, epoch)
        self._heard.add(network.id)
        return epoch

    async def ask_others(self, network: Network) -> Epoch:
        """The latest epoch that others know. Raises `Unavailable` while one is being prepared
        without this host.
        """
        if network.id in self._books.restored:
            await self._find_others(network)
        asked = self._owners.alive(network)[:LOOKED_AT]
        answers = await asyncio.gather(*(self._look_at(m, network.id) for m in asked))
        seen = [answer for answer in answers if answer is not None]
        if any(self._cluster.id in fence.members for s in seen for fence in s.fences):
            raise Unavailable(
                f"what this host owned of network {network.name!r} is being taken over, as it "
                "was taken for gone for good; try again later"
            )
        return max((self._owners.epoch(network.id), *(answer.epoch for answer in seen)))

    async def _find_others(self, network: Network) -> None:
        """Wait for any other host, for so long after the start as it takes to find them."""
        with contextlib.suppress(TimeoutError):  # cut off from all of them
            async with asyncio.timeout_at(self._started_s + HEARING_S):
                while not self._owners.alive(network):
                    await self._owners.news()

    async def _look_at(self, member: str, network_id: str) -> Seen | None:
        try:
            async with asyncio.timeout(LOOK_S):
                return await questions.look(self._cluster, member, Look(network_id=network_id))
        except (NetdError, TimeoutError):
            return None

    async def learn(self, network_id: str, epoch: Epoch) -> None:
        """Somebody is in this epoch. Raises `Unavailable`."""
        ledger = self._books.find(network_id)
        if ledger is not None and ledger.epoch < epoch:
            log.warning("network %s: others are in epoch %s", network_id, epoch)
            await self._books.go_on(network_id, lambda ledger: ledgers.learn(ledger, epoch))

    # Taking over

    async def reclaim(self, network: Network, members: Sequence[str]) -> Space:
        """Take over what members own that are dead for good; what this host has got by that.

        Raises `Conflict` (one of them is alive, or others are taking over), `Unavailable` (not
        all others answer), and nothing has changed.
        """
        async with self._reclaiming.hold(network.id):
            return await self._reclaim(network, members)

    async def _reclaim(self, network: Network, members: Sequence[str]) -> Space:
        lives = {member: self._owners.lives[member] for member in members}
        self.check_dead(lives)
        name = self._parts.clock.new_id()

        def begin(ledger: Ledger) -> tuple[Ledger, Fence]:
            ledger = self._without_own(ledger)
            fence = ledgers.fence(ledger, members, name)
            return ledgers.prepare(ledger, fence), fence

        fence = await self._books.change(network.id, begin)
        asked: set[str] = set()
        try:
            self._check_prepared(network.id, fence)
            told = await self._prepare_all(network, fence, asked)
            self.check_dead(lives)
            before = self._books.owned(network.id)
            whole = whole_of(network)
            ledger = await self._books.go_on(
                network.id, lambda ledger: ledgers.finish(ledger, fence, whole, told)
            )
        except BaseException:
            await self._give_up(network.id, fence, asked)
            raise
        self._tell_all(asked, Ended(network_id=network.id, epoch=fence.epoch, in_force=True))
        return ledgers.owned(ledger) - before

    async def _give_up(self, network_id: str, fence: Fence, asked: set[str]) -> None:
        """The epoch will not come. The others hear so only when that is durable."""
        try:
            await self._books.go_on(network_id, self._without_own)
        except NetdError as error:
            log.warning("network %s: %s", network_id, error.detail)
            self.follow(network_id)
            return
        self._tell_all(asked, Ended(network_id=network_id, epoch=fence.epoch, in_force=False))

    def _without_own(self, ledger: Ledger) -> Ledger:
        for fence in ledger.fences:
            if fence.by == self._cluster.id:
                ledger = ledgers.cancel(ledger, fence.epoch)
        return ledger

    def check_dead(self, lives: Mapping[str, int]) -> None:
        """Raise `Conflict` for a member that is alive, or was since its `lives` were counted."""
        for member, known in lives.items():
            returned = self._owners.is_alive(member) or self._owners.lives[member] != known
            if member == self._cluster.id or returned:
                raise Conflict(
                    f"host {self._owners.name(member)} is alive; only what dead hosts own can be "
                    "taken over",
                    field="member",
                )

    def _check_prepared(self, network_id: str, fence: Fence) -> None:
        ledger = self._books.find(network_id)
        if ledger is None or fence not in ledger.fences:
            others = ledger.fences if ledger is not None else ()
            names = ", ".join(sorted(self._owners.name(other.by) for other in others))
            raise Conflict(f"host {names} is taking over addresses just now; try again later")

    async def _prepare_all(self, network: Network, fence: Fence, asked: set[str]) -> list[Space]:
        """Have all others prepare an epoch; what each of them owns. `asked` gets who was asked."""
        told: list[Space] = []
        todo = self._owners.others(network) - set(fence.members)
        while todo:
            silent = [member for member in todo if not self._owners.is_alive(member)]
            if silent:
                raise self._unanswered(network, fence, silent)
            asked |= todo
            answers = await self._ask_all(network.id, fence, sorted(todo))
            for member, answer in answers.items():
                if answer is None:
                    silent.append(member)
                elif fence not in answer.fences:
                    await self.learn(network.id, answer.epoch)
                    raise Conflict(
                        f"host {self._owners.name(member)} knows more of this network's addresses "
                        "than this host, or somebody else takes some over; try again"
                    )
                else:
                    told.append(Space.of(answer.prefixes))
            if silent:
                raise self._unanswered(network, fence, silent)
            # Whoever got addresses from one of them is to be asked, too.
            known = {member for answer in answers.values() if answer for member in answer.known}
            todo = known - asked - set(fence.members) - {self._cluster.id}
        return told

    async def _ask_all(
        self, network_id: str, fence: Fence, members: Iterable[str]
    ) -> dict[str, Seen | None]:
        places = asyncio.Semaphore(AT_ONCE_MAX)
        question = Prepare(network_id=network_id, fence=fence)

        async def ask(member: str) -> tuple[str, Seen | None]:
            async with places:
                try:
                    return member, await questions.look(self._cluster, member, question)
                except NetdError as error:
                    log.info("network %s: %s: %s", network_id, member, error.detail)
                    return member, None

        return dict(await asyncio.gather(*map(ask, members)))

    def _unanswered(self, network: Network, fence: Fence, silent: list[str]) -> Unavailable:
        names = sorted(map(self._owners.name, silent))
        gone = sorted(map(self._owners.name, fence.members))
        return Unavailable(
            f"these hosts do not answer, and may own addresses that they got of those that are "
            f"gone: {', '.join(names)}. Make them reachable; or, if they are gone for good, too: "
            f"netctl network reclaim {network.name} {' '.join([*gone, *names])}"
        )

    # What has become of an epoch

    def _tell_all(self, members: Iterable[str], ended: Ended) -> None:
        async def tell() -> None:
            places = asyncio.Semaphore(AT_ONCE_MAX)

            async def one(member: str) -> None:
                async with places:
                    try:
                        await questions.look(self._cluster, member, ended)
                    except NetdError:
                        log.debug("%s will ask for it", member)

            await asyncio.gather(*map(one, members))

        self._parts.tasks.start("an epoch has ended", tell())

    def follow(self, network_id: str) -> None:
        """See to it that a fence does not stay when its end was not heard of."""
        if network_id not in self._followed:
            self._followed.add(network_id)
            self._parts.tasks.start("follow a fence", self._follow(network_id))

    async def _follow(self, network_id: str) -> None:
        try:
            while True:
                await asyncio.sleep(FENCE_S)
                ledger = self._books.find(network_id)
                if ledger is None or not ledger.fences:
                    return
                for fence in ledger.fences:
                    await self._settle(network_id, fence)
        finally:
            self._followed.discard(network_id)

    async def _settle(self, network_id: str, fence: Fence) -> None:
        try:
            if fence.by == self._cluster.id:
                async with self._reclaiming.hold(network_id):
                    await self._books.go_on(network_id, self._without_own)
                return
            seen = await questions.look(self._cluster, fence.by, Look(network_id=network_id))
            if seen.epoch >= fence.epoch:
                await self.learn(network_id, seen.epoch)
            elif fence not in seen.fences:
                await self._books.go_on(network_id, lambda le: ledgers.cancel(le, fence.epoch))
        except NetdError as error:
            log.info("network %s: %s: %s", network_id, fence.by, error.detail)
