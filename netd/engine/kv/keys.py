"""Keys, sessions and locks of the cluster, as every host offers them."""

import asyncio

import msgspec

from netd.engine.interfaces import Clock, Cluster, Snapshot, Store
from netd.engine.kv import messages
from netd.engine.kv.answering import Answering
from netd.engine.kv.changes import Changes
from netd.engine.kv.following import Following
from netd.engine.kv.forwarding import Elsewhere, Forwarding
from netd.engine.kv.founding import Founding
from netd.engine.kv.health import SETTLE_S, Health
from netd.engine.kv.keeper import Keeper
from netd.engine.kv.messages import Counts, Holding, Who
from netd.engine.kv.moving import Moving
from netd.engine.kv.parts import LongAnswers
from netd.engine.kv.place import Place, Standing
from netd.engine.services.catalogue import Catalogue
from netd.kv.commands import Command, Result
from netd.kv.space import NOTHING, Stored
from netd.model.errors import NetdError, NotFound, Unavailable
from netd.model.kv import HolderState, KeyStatus
from netd.model.views import Member
from netd.tasks import Tasks

LOOK_S = 0.05  # between looks at what sessions depend on
TRIES = 3  # to find who holds the keys, while that changes


class Keys:
    """Implements `netd.engine.interfaces.KeyValues`: one host holds all, the others ask it.

    `node` is this host's name, `wanted` that of the one which is to hold the keys when nobody
    does yet, "" for the cluster's first.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        cluster: Cluster,
        catalogue: Catalogue,
        changes: Changes,
        *,
        node: str,
        wanted: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._cluster = cluster
        self._tasks = Tasks()
        self._changes = changes
        self._place = Place(store, cluster, self._tasks)
        self._place.serve, self._place.rest = self._serve, self._rest
        self._founding = Founding(cluster, clock, self._place, node, wanted)
        self._moving = Moving(cluster, self._place, self._tasks, node)
        self._forwarding = Forwarding(cluster, self._tasks)
        self._following = Following(cluster, self._place, self._founding, changes)
        self._health = Health(cluster, catalogue, clock)
        self._worse = asyncio.Event()
        self._health.changed = self._worse.set
        self._long = LongAnswers(clock)
        self._resting = NOTHING  # what is stored while it is not served
        self._keeper: Keeper | None = None
        self._answering = Answering(
            self._place, self._founding, self._moving, lambda: self._keeper, self._long
        )

    async def restore(self, snapshot: Snapshot) -> None:
        """Raises `Unavailable` when what is stored cannot be understood."""
        self._place.restore(snapshot)
        self._resting = snapshot.keys
        if self._place.standing.role == "holder":
            await self._serve(None)

    def start(self) -> None:
        self._place.start()
        self._health.start()
        self._moving.start()
        self._cluster.answer(messages.TOPIC, self._answering.answer)
        self._tasks.start("changes of keys", self._following.run())
        self._tasks.start("sessions that lose what they depend on", self._end_lost())

    async def stop(self) -> None:
        self._place.stop()
        self._health.stop()
        self._forwarding.close()
        if self._keeper is not None:
            await self._keeper.close("netd is stopping on the host that holds the keys")
        await self._tasks.stop()

    async def perform(self, command: Command) -> Result:
        for _ in range(TRIES):
            holding = await self._founding.holding()
            if holding.holder == self._cluster.id:
                return await self._own_keeper().perform(command)
            try:
                return await self._forwarding.perform(holding, command)
            except Elsewhere as elsewhere:
                await self._learn(holding, elsewhere.holding)
        raise Unavailable("the keys are on their way from host to host: try again")

    async def status(self) -> KeyStatus:
        holding = self._place.holding
        shown = KeyStatus(
            backend="embedded",
            holder=holding.name if holding else "",
            state="none",
            term=holding.term if holding else 0,
            waiting=self._changes.waiting,
        )
        if holding is None:
            return shown
        state, detail, counts = await self._look(holding)
        return msgspec.structs.replace(
            shown,
            state=state,
            detail=detail,
            index=counts.index if counts else 0,
            keys=counts.keys if counts else 0,
            bytes=counts.bytes if counts else 0,
            sessions=counts.sessions if counts else 0,
        )

    async def move(self, node: str, *, abandon: bool) -> KeyStatus:
        member = self._member(node)
        if abandon:
            await self._moving.begin_anew(member)
            return await self.status()
        holding = await self._founding.holding()
        if holding.holder == member.id:
            return await self.status()
        if holding.holder != self._cluster.id:
            raise Unavailable(
                f"{holding.name} holds the keys: ask it to move them, with netctl kv move there"
            )
        keeper = self._own_keeper()
        await self._place.become(self._moving.offer(member))
        await self._moving.give(member, keeper.space.stored())
        return await self.status()

    def look_at_clock(self) -> None:
        """End what is over by now."""
        if self._keeper is not None:
            self._keeper.wake()

    def counters(self) -> dict[str, int]:
        return {
            "kv_questions": self._forwarding.sent,
            "kv_commits": self._keeper.commits if self._keeper else 0,
            "kv_records_ignored": self._place.ignored,
        }

    def levels(self) -> dict[str, int]:
        return {
            "kv_to_forward": self._forwarding.queued,
            "kv_to_write": self._keeper.queued if self._keeper else 0,
            "kv_long_answers_bytes": self._long.size,
        }

    def _own_keeper(self) -> Keeper:
        if self._keeper is not None:
            return self._keeper
        if self._place.standing.role != "none":
            raise Unavailable("the keys are being moved to another host")
        raise Unavailable(
            "this host is to hold the keys, but its database does not have them: it is of before "
            "they came here. If they are lost: netctl kv move --abandon"
        )

    async def _learn(self, asked: Holding, told: Holding | None) -> None:
        """Another host holds the keys than was thought."""
        if self._place.holding != asked:
            return  # this host has learned it meanwhile
        if told is None or not told.beats(asked):
            raise Unavailable(
                f"{asked.name} was thought to hold the keys, and says that it does not: it may "
                "have lost them"
            )
        await self._place.adopt(told)

    async def _look(self, holding: Holding) -> tuple[HolderState, str, Counts | None]:
        if self._place.standing.role == "moving":
            return "moving", "the host that the keys go to does not say that it has them", None
        here = holding.holder == self._cluster.id
        try:
            answer = await messages.put(self._cluster, holding.holder, Who())
        except NetdError as error:
            return "unreachable", error.detail, None
        if not isinstance(answer, Counts):
            return "unreachable", "it says that it does not hold the keys", None
        return "here" if here else "elsewhere", "", answer

    def _member(self, node: str) -> Member:
        """Raises `NotFound`, `Unavailable`."""
        found = [member for member in self._cluster.members() if node in (member.id, member.name)]
        living = [member for member in found if member.state not in ("dead", "left")]
        if not found:
            raise NotFound(f"there is no member {node!r}", field="node")
        if len(living) != 1:
            how = "several members are called so" if living else "it is not alive"
            raise Unavailable(f"{node} cannot hold the keys: {how}")
        return living[0]

    # What this host holds

    async def _serve(self, stored: Stored | None) -> None:
        """Hold these keys, or those that are stored here."""
        if self._keeper is not None:
            await self._keeper.close("the keys were replaced")
        if stored is not None:
            self._resting = stored
        self._keeper = Keeper(self._store, self._clock, self._health, self._changes, self._resting)
        self._resting = NOTHING
        self._keeper.start()
        self._worse.set()

    async def _rest(self, standing: Standing) -> None:
        """Serve keys no more."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            moving = standing.role == "moving"
            await keeper.close(
                "the keys are being moved to another host"
                if moving
                else "another host holds the keys"
            )
            self._resting = keeper.space.stored()

    async def _end_lost(self) -> None:
        """End sessions that depend on what is not there any more.

        Looks after changes, of which there may be many at once, and when whoever was not heard of
        since the start can be taken for gone.
        """
        settled_s: float | None = asyncio.get_running_loop().time() + SETTLE_S
        while True:
            try:
                async with asyncio.timeout_at(settled_s):
                    await self._worse.wait()
            except TimeoutError:
                settled_s = None
            self._worse.clear()
            keeper = self._keeper
            if keeper is not None:
                known = map(keeper.space.session, keeper.space.session_ids())
                lost = self._health.lost(session for session in known if session is not None)
                if lost:
                    keeper.end_sessions(lost)
            await asyncio.sleep(LOOK_S)
