"""What this host answers others about the addresses it owns."""

from collections.abc import Callable

from netd.engine.blocks import questions
from netd.engine.blocks.allotting import FromEtcd
from netd.engine.blocks.books import Books
from netd.engine.blocks.owners import Owners
from netd.engine.blocks.questions import Answer, Ended, Look, Prepare, Seen
from netd.engine.parts import Parts
from netd.model.blocks import Ask, Epoch, Given, Ledger, Refused
from netd.model.errors import Conflict, Invalid, NotFound
from netd.model.network import Network
from netd.model.overlay import ETCD
from netd.plan import ledger as ledgers
from netd.plan.blocks import reserved_in
from netd.plan.space import NOWHERE, Space


class Answering:
    """`find` finds a network by its id, `fenced` is told of networks with a fence."""

    def __init__(
        self,
        parts: Parts,
        books: Books,
        owners: Owners,
        from_etcd: FromEtcd,
        find: Callable[[str], Network | None],
        fenced: Callable[[str], None],
    ) -> None:
        self._parts = parts
        self._books = books
        self._owners = owners
        self._from_etcd = from_etcd
        self._find = find
        self._fenced = fenced

    async def answer(self, member: str, body: bytes) -> bytes:
        """Raises `NotFound` (no such network here), `Invalid`, `Unavailable` (the store)."""
        try:
            question = questions.decode_question(body)
            answer = await self._answer(member, question)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"this cannot be understood: {error}") from None
        return questions.encode(answer)

    async def _answer(self, member: str, question: questions.Question) -> Answer:
        match question:
            case Ask():
                return await self._give(member, question)
            case Look():
                ledger = self._books.find(question.network_id)
                if ledger is None:
                    return Seen(epoch=self._owners.epoch(question.network_id))
                within = ledgers.owned(ledger) & Space.of(question.prefixes)
                return _seen(ledger, within)
            case Prepare():
                if member != question.fence.by:
                    raise Invalid("this is another member's to prepare")
                network = self._find(question.network_id)
                if network is not None and ETCD in network.seeds:
                    raise Conflict(f"the addresses of network {network.name!r} are in etcd")
                await self._open(question.network_id, question.fence.base)
                ledger = await self._books.go_on(
                    question.network_id, lambda ledger: ledgers.prepare(ledger, question.fence)
                )
                if ledger.fences:
                    self._fenced(ledger.network_id)
                return _seen(ledger, ledgers.owned(ledger))
            case Ended():
                return await self._ended(member, question)

    async def _give(self, member: str, ask: Ask) -> Given | Refused:
        network = self._find(ask.network_id)
        if network is None:
            return Refused(why="unknown")
        if ask.subnet not in network.subnets:
            raise Invalid(f"{ask.subnet} is no subnet of network {network.name!r}")
        ledger = await self._open(network.id, ask.epoch)
        if ledger.fences:
            self._fenced(network.id)
        reserved = reserved_in(network) | self._books.frozen(network.id)

        def step(ledger: Ledger) -> tuple[Ledger, Given | Refused]:
            # What is in use is seen in the same moment as the decision is in force in the pools.
            used = held = reserved
            now_s = self._parts.clock.wall_s()
            for pool in self._books.pools(network.id):
                used |= pool.used_space(now_s)
                held |= pool.held_space()
            return ledgers.donate(ledger, member, ask, used=used, held=held)

        if ETCD in network.seeds:
            return await self._from_etcd.give(network, member, step)
        return await self._books.change(network.id, step)

    async def _ended(self, member: str, ended: Ended) -> Seen:
        ledger = self._books.find(ended.network_id)
        if ledger is None:
            return Seen(epoch=Epoch())
        ours = any(f.epoch == ended.epoch and f.by == member for f in ledger.fences)
        if ours:
            ledger = await self._books.go_on(
                ended.network_id,
                lambda ledger: (ledgers.learn if ended.in_force else ledgers.cancel)(
                    ledger, ended.epoch
                ),
            )
        return _seen(ledger, NOWHERE)

    async def _open(self, network_id: str, epoch: Epoch) -> Ledger:
        """See to it that there is a ledger. Raises `NotFound`, `Unavailable`."""
        ledger = self._books.find(network_id)
        if ledger is not None:
            return ledger
        network = self._find(network_id)
        if network is None:
            raise NotFound(f"there is no network {network_id!r} here")
        return await self._books.open(network, max(epoch, self._owners.epoch(network_id)))


def _seen(ledger: Ledger, space: Space) -> Seen:
    return Seen(
        epoch=ledger.epoch,
        prefixes=space.prefixes(),
        fences=ledger.fences,
        known=tuple(ledger.floors),
    )
