"""Hosts that share a network's addresses, with everything that can go wrong, from a seed.

Each host does with its ledger what the engine does: a step is decided, in force in what it gives
its containers, made durable, in force, answered. Messages get lost, come twice, late, in any
order, or wait behind a partition; hosts are killed at any point and lose what is not durable;
disks refuse to write, or write and say they have not. Hosts that are dead for good are reclaimed,
by hosts that may die of it; some of the dead come back all the same.
"""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from msgspec.structs import replace

from netd.model.blocks import Ask, Epoch, Fence, Given, Ledger, Refused
from netd.model.network import Network
from netd.plan import ledger as ledgers
from netd.plan.blocks import reserved_in, whole_of
from netd.plan.space import NOWHERE, Range, Space

IDS: Final = tuple(f"{number:032x}" for number in range(1, 5))
SUBNET: Final = "10.0.0.0/28"


def _network(seeds: tuple[str, ...]) -> Network:
    return Network(
        id="1" * 16,
        name="blue",
        driver="overlay",
        subnets=(SUBNET,),
        gateways=("10.0.0.1",),
        seeds=seeds,
    )


NETWORKS: Final = tuple(_network(IDS[:count]) for count in (1, 2, 2))
WHOLE: Final = whole_of(NETWORKS[0])
RESERVED: Final = reserved_in(NETWORKS[0])

# Up to which chance a host asks, attaches, detaches, dies, settles, is cut off; beyond: reclaims.
ODDS: Final = {
    False: (0.32, 0.52, 0.60, 0.69, 0.75, 0.82),
    True: (0.22, 0.37, 0.41, 0.62, 0.72, 0.76),
}

Message = tuple[str, str, str, object]  # from, to, what, contents


class Died(Exception):
    """The host, of what it was doing."""


class Host:
    """`ledger` is in memory, None while the daemon is dead; `stored` is on the disk."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.network = world.network
        self.up = True
        self.ledger: Ledger | None = None
        self.stored: Ledger | None = None
        self.held = NOWHERE  # by containers, which outlive the daemon but not the host
        self.epoch = Epoch()  # the latest heard of, in memory only
        self.unsure = False  # the disk has what it said it had not written
        self.void = False  # reclaimed: what it has stored is nobody's
        self.fence: Fence | None = None  # of a reclaim of this host that is under way
        self.told: dict[str, Space] = {}

    # How a step is made

    def commit(self, after: Ledger, answer: Callable[[], None] | None = None) -> bool:
        """Make a step; whether it is in force. Raises `Died`."""
        before = self.ledger
        if after is before:
            if answer is not None:
                answer()
            return True
        rng = self.world.rng
        if self.world.answers_early and answer is not None:
            answer()
        if rng.random() < 0.3:  # a container comes while the disk is written
            owned = ledgers.owned(before) if before is not None else NOWHERE
            if not self.world.gives_while_written:
                owned &= ledgers.owned(after)
            self.attach(owned)
        fate = rng.random()
        if fate < 0.04:
            self.kill()
            raise Died
        if fate < 0.08:
            return False
        self.stored = after
        self.world.check_later = True
        self.unsure = fate < 0.10
        if self.unsure:
            return False  # it said that it failed
        if fate < 0.14:
            self.kill()
            raise Died
        self.ledger = after
        if answer is not None and not self.world.answers_early:
            answer()
        return True

    def opened(self) -> Ledger:
        """Raises `Died`."""
        if self.ledger is None:
            self.commit(ledgers.begin(self.network, self.name, self.epoch))
            if self.ledger is None:
                raise Died  # not for this, but nothing can be done
        return self.ledger

    # A host's life

    def attach(self, owned: Space) -> None:
        free = owned - self.held - RESERVED
        if free:
            if self.unsure:  # what a disk wrote and said it had not goes with its next commit
                self.stored, self.unsure = self.ledger, False
            blocks = list(free.blocks())
            first = self.world.rng.choice(blocks).first
            self.held |= Space(((first, first + 1),))
            self.world.check_later = True

    def detach(self) -> None:
        if self.held:
            first = self.world.rng.choice(self.held.ranges)[0]
            self.held -= Space(((first, first + 1),))

    def kill(self) -> None:
        """The daemon is dead; containers live."""
        self.up = False
        self.ledger = None
        self.fence = None
        self.told = {}
        self.epoch = Epoch()
        self.world.check_later = True

    def start(self) -> None:
        """The daemon is back. A host that was dead hears others first, if it was reclaimed."""
        world = self.world
        ledger = self.stored
        if ledger is not None:
            fences = tuple(fence for fence in ledger.fences if fence.by != self.name)
            ledger = replace(ledger, fences=fences)
        if self.void or world.is_named(self.name):
            others = [h for h in world.all if h.ledger is not None and world.reach(self, h)]
            if not others:
                return
            other = world.rng.choice(others)
            assert other.ledger is not None
            if any(self.name in fence.members for fence in other.ledger.fences):
                return  # before it is known what becomes of that
            self.epoch = other.ledger.epoch
            if ledger is None:
                ledger = ledgers.begin(self.network, self.name, self.epoch)
            ledger = ledgers.learn(ledger, self.epoch)
            self.stored = ledger
        self.ledger = ledger
        self.up = True
        self.void = False
        world.check_later = True

    # What others say

    def receive(self, sender: str, what: str, body: object) -> None:
        """Raises `Died`."""
        world = self.world
        match what:
            case "ask":
                assert isinstance(body, Ask)
                ledger = self.opened()
                held = self.held | RESERVED if not world.gives_held else RESERVED
                after, answer = ledgers.donate(ledger, sender, body, used=held, held=held)
                self.commit(
                    after, lambda: world.send(self.name, sender, "given", (body.number, answer))
                )
            case "given":
                assert isinstance(body, tuple)
                number, answer = body
                if self.ledger is not None:
                    assert isinstance(answer, Given | Refused)
                    self.commit(ledgers.receive(self.ledger, number, answer))
            case "prepare":
                assert isinstance(body, Fence)
                self.epoch = max(self.epoch, body.base)
                after = ledgers.prepare(self.opened(), body)
                if self.commit(after) and body in after.fences:
                    told = ledgers.owned(after)
                    world.send(self.name, sender, "told", (body, told))
            case "told":
                assert isinstance(body, tuple)
                if body[0] == self.fence:
                    self.told[sender] = body[1]
            case "ended":
                assert isinstance(body, tuple)
                epoch, in_force = body
                if self.ledger is not None:
                    step = ledgers.learn if in_force else ledgers.cancel
                    if any(f.epoch == epoch and f.by == sender for f in self.ledger.fences):
                        self.commit(step(self.ledger, epoch))
            case "record":
                assert isinstance(body, Epoch)
                self.epoch = max(self.epoch, body)
                self.commit(ledgers.learn(self.opened(), body))

    # What it wants

    def ask(self) -> None:
        """Raises `Died`."""
        world = self.world
        ledger = self.opened()
        if ledger.requests and world.rng.random() < 0.5:
            request = world.rng.choice(ledger.requests)  # once more
        else:
            donor = world.rng.choice([name for name in IDS[: len(world.all)] if name != self.name])
            wanted = f"10.0.0.{world.rng.randrange(2, 15)}" if world.rng.random() < 0.3 else ""
            after, request = ledgers.request(ledger, donor, SUBNET, wanted)
            if not self.commit(after):
                return
            ledger = after
        world.send(self.name, request.donor, "ask", ledgers.ask(ledger, request))

    def reclaim(self) -> None:
        """Raises `Died`."""
        world = self.world
        dead = [h.name for h in world.all if h.gone]
        if self.fence is not None or not dead:
            return
        ledger = self.opened()
        for known in ledger.fences:
            if known.by == self.name:
                ledger = ledgers.cancel(ledger, known.epoch)
        fence = ledgers.fence(ledger, dead, f"{world.rng.getrandbits(16):04x}")
        after = ledgers.prepare(ledger, fence)
        if fence in after.fences and self.commit(after):
            self.fence, self.told = fence, {}
            self.prepare_rest()

    def prepare_rest(self) -> None:
        assert self.fence is not None
        for other in self.world.all:
            if other.name not in (self.name, *self.fence.members, *self.told):
                self.world.send(self.name, other.name, "prepare", self.fence)

    def go_on(self) -> None:
        """With a reclaim that is under way. Raises `Died`."""
        fence, world = self.fence, self.world
        assert fence is not None
        assert self.ledger is not None
        others = [h for h in world.all if h.name not in (self.name, *fence.members)]
        named = [h for h in world.all if h.name in fence.members]
        missing = any(h.name not in self.told for h in others) and not world.waits_for_nobody
        if fence not in self.ledger.fences or any(not h.gone for h in named) or missing:
            if fence in self.ledger.fences and world.rng.random() < 0.6:
                self.prepare_rest()
                return
            self.fence = None
            gives_up = ledgers.cancel(self.ledger, fence.epoch)
            if world.cancels_early or self.commit(gives_up):
                self._ended(others, fence, in_force=False)
            return
        self.fence = None
        after = ledgers.finish(self.ledger, fence, WHOLE, self.told.values())
        try:
            if self.commit(after):
                self._ended(others, fence, in_force=True)
                for other in world.all:
                    world.send(self.name, other.name, "record", fence.epoch)
            # Whatever the disk has now, nobody hears before it has that nothing comes of it.
            elif self.commit(ledgers.cancel(self.ledger, fence.epoch)):
                self._ended(others, fence, in_force=False)
        finally:
            if self.stored == after:
                world.voids(named)

    def settle(self) -> None:
        """Ask what has become of an epoch. Raises `Died`."""
        if self.ledger is None or not self.ledger.fences:
            return
        fence = self.world.rng.choice(self.ledger.fences)
        by = self.world.host(fence.by)
        if by is self:
            if self.fence is None:
                self.commit(ledgers.cancel(self.ledger, fence.epoch))
        elif by.ledger is not None and self.world.reach(self, by):
            if by.ledger.epoch >= fence.epoch:
                self.commit(ledgers.learn(self.ledger, by.ledger.epoch))
            elif fence not in by.ledger.fences:
                self.commit(ledgers.cancel(self.ledger, fence.epoch))

    def _ended(self, others: "list[Host]", fence: Fence, *, in_force: bool) -> None:
        for other in others:
            self.world.send(self.name, other.name, "ended", (fence.epoch, in_force))

    @property
    def gone(self) -> bool:
        """Dead with its containers."""
        return not self.up and not self.held


class World:
    """One schedule. The flags make a fault in what hosts do."""

    answers_early = False
    gives_while_written = False
    gives_held = False
    waits_for_nobody = False
    cancels_early = False

    def __init__(self, seed: int, length: int = 26) -> None:
        self.rng = random.Random(seed)
        self.network = self.rng.choice(NETWORKS)
        self.deadly = self.rng.random() < 0.4
        self.all = [Host(self, name) for name in IDS[: self.rng.choice((2, 3, 3, 4))]]
        self.post: list[Message] = []
        self.cut: set[str] = set()  # hosts on the other side of a partition
        self.named: set[str] = set()
        self.length = length
        self.check_later = False
        self.deaths = 0

    def run(self) -> None:
        """Raises `AssertionError` when an address is owned or used twice."""
        for _ in range(self.length):
            try:
                self.step()
            except Died:
                self.deaths += 1
            if self.check_later:
                self.check_later = False
                self.check()

    def step(self) -> None:
        rng = self.rng
        if self.post and rng.random() < 0.45:
            self.deliver()
            return
        host = self.all[int(rng.random() * len(self.all))]
        chance = rng.random()
        if not host.up:
            if chance < (0.3 if self.deadly else 0.7):
                host.start()
            return
        if host.fence is not None and chance < 0.5:
            host.go_on()
            return
        # Of hosts that die often there is more to be reclaimed.
        asks, attaches, detaches, dies, settles, parts = ODDS[self.deadly]
        if chance < asks:
            host.ask()
        elif chance < attaches:
            host.attach(ledgers.owned(host.opened()))
        elif chance < detaches:
            host.detach()
        elif chance < dies:
            host.kill()
            if rng.random() < (0.8 if self.deadly else 0.5):
                host.held = NOWHERE
        elif chance < settles:
            host.settle()
        elif chance < parts:
            self.cut = {host.name} if rng.random() < 0.5 else set()
        else:
            host.reclaim()

    def deliver(self) -> None:
        index = int(self.rng.random() * len(self.post))
        sender, to, what, body = message = self.post[index]
        host = self.host(to)
        if not host.up or not self.reach(self.host(sender), host):
            if self.rng.random() < 0.5:
                self.post.remove(message)
            return
        chance = self.rng.random()
        if chance > 0.25:  # else it comes twice
            del self.post[index]
        if chance < 0.85:
            host.receive(sender, what, body)

    def send(self, sender: str, to: str, what: str, body: object) -> None:
        if sender != to:
            self.post.append((sender, to, what, body))

    def host(self, name: str) -> Host:
        return self.all[IDS.index(name)]

    def reach(self, one: Host, other: Host) -> bool:
        return one is not other and (one.name in self.cut) == (other.name in self.cut)

    def is_named(self, name: str) -> bool:
        """Whether some host prepares an epoch without this one."""
        return any(
            name in fence.members
            for host in self.all
            for ledger in (host.ledger, host.stored)
            if ledger is not None
            for fence in ledger.fences
        )

    def voids(self, named: list[Host]) -> None:
        for host in named:
            host.void = True

    def check(self) -> None:
        """No address is owned, or used, twice, and each that is used is owned by who uses it."""
        owned: list[Range] = []
        used: list[Range] = []
        for host in self.all:
            if host.void:
                continue
            used += host.held.ranges
            ledger, stored = host.ledger, host.stored
            own = ledgers.owned(ledger) if ledger is not None else NOWHERE
            if stored is not None and stored is not ledger:
                owned += (own | ledgers.owned(stored)).ranges  # it may have to go on from there
            else:
                owned += own.ranges
            if ledger is not None and host.held:
                strays = host.held - own
                assert not strays, f"{host.name[-1]} uses {strays}, which it does not own"
        for verb, ranges in (("owned", owned), ("used", used)):
            ranges.sort()
            for one, other in pairwise(ranges):
                assert one[1] <= other[0], f"{verb} twice: {one} and {other}"
