"""One host: a disk, clocks, an address, and now and then a daemon that runs."""

import random
from collections.abc import Sequence

from netd.gossip.settings import Settings
from netd.gossip.values import Address, Identity, NodeId, Scope, State, node_id_of
from tests.sim.clock import HostClock
from tests.sim.core import Core
from tests.sim.driver import Driver
from tests.sim.network import Arrival, Respond
from tests.sim.world import Action, Disk, Wants, World


class Node:
    """`driver` is None while the daemon does not run. `since_s` is when it last began to run or
    was disturbed; `wants` is what programs have asked for, which they do again after a restart.
    `label` is how the simulation calls it, `name` how it calls itself: several may have one name.
    """

    def __init__(
        self,
        number: int,
        address: Address,
        disk: Disk,
        settings: Settings,
        world: World,
        *,
        name: str = "",
    ) -> None:
        self.number = number
        self.label = f"n{number}"
        self.name = name or self.label
        self.address = address
        self.public = address
        self.disk = disk
        self.settings = settings
        self.wants = Wants()
        self.driver: Driver | None = None
        self.since_s = 0.0
        self.refuses = True
        self.leaving = False
        self.old_scopes: set[Scope] = set()  # that it wanted once
        self.sent_packets = self.sent_bytes = 0
        self._world = world
        self._random = random.Random(f"{number} {disk.secret.hex()}")
        self.clock = HostClock(world.clock, self._random.random() * 1e6)
        world.network.attach(self, address)

    def __repr__(self) -> str:
        return self.label

    @property
    def core(self) -> Core:
        """Of the run that goes on."""
        assert self.driver is not None, f"{self.label} does not run"
        return self.driver.core

    @property
    def running_id(self) -> NodeId | None:
        return self.driver.id if self.driver is not None else None

    @property
    def id(self) -> NodeId:
        """Of its key, whether it runs or not."""
        return node_id_of(self._world.signatures.pair(self.disk.secret).public_key)

    @property
    def is_well(self) -> bool:
        """Whether it runs as it should, and means to: nobody has a reason to call it dead."""
        return self.driver is not None and not self.driver.stopped and not self.leaving

    # Life and death

    def boot(self, addresses: Sequence[Address], *, epoch: int | None = None) -> None:
        """Begin a new run, and join at `addresses`. With `epoch` it is one that runs elsewhere."""
        assert self.driver is None, f"{self.label} runs"
        if epoch is None:
            epoch = self.disk.next_epoch(self.clock.wall_s())
        self.leaving = False
        self._disturbed()
        pair = self._world.signatures.pair(self.disk.secret)
        identity = Identity(
            id=node_id_of(pair.public_key),
            public_key=pair.public_key,
            sign=pair.sign,
            epoch=epoch,
            name=self.name,
            address=self.address,
            version="sim",
        )
        core = self._world.factory(
            identity,
            self.settings,
            self.disk.ring,
            cluster_id=self._world.cluster_id,
            verify=self._world.signatures.verify,
            random=random.Random(f"{self._random.random()}"),
            now_s=self.clock.now_s(),
            wall_s=self.clock.wall_s(),
        )
        others = [address for address in addresses if address != self.address]
        self.driver = Driver(self, core, self.clock, self.disk, self._world, self.label, others)

        def begin(core: Core, now_s: float) -> None:
            for scope in sorted(self.wants.scopes):
                core.subscribe(scope, now_s)
            for (scope, table, key), value in self.wants.records.items():
                core.publish(scope, table, key, value, now_s)

        self.driver.tell(begin)

    def die(self, *, power: bool = False) -> None:
        """End without a word. With `power` the whole host is silent, else it refuses calls."""
        self._world.listener.ends(self.label, self.core)
        here = self.core.id
        self.disk.peers = tuple(
            m.address for m in self.core.members() if m.id != here and m.state is not State.LEFT
        )
        assert self.driver is not None
        self.driver.over = True
        self.driver = None
        self.refuses = not power
        self._disturbed()

    def leave(self) -> None:
        """Say goodbye, and end when that has had the time it needs."""
        self.leaving = True
        self.tell(lambda core, now_s: core.leave(now_s))
        clock = self._world.clock
        clock.at(clock.now_s + self.settings.leave_s, self._left, self.driver)

    def _left(self, driver: Driver | None) -> None:
        if driver is not None and driver is self.driver:
            self.die()

    def move(self, address: Address) -> None:
        """It has another address; a daemon learns of that when it starts."""
        self._world.network.detach(self)
        self.address = self.public = address
        self._world.network.attach(self, address)

    # What disturbs it

    def stop(self) -> None:
        assert self.driver is not None
        self._disturbed()
        self.driver.stop()

    def go_on(self) -> None:
        if self.driver is not None:
            self._disturbed()
            self.driver.go_on()

    def slow_down(self, up_to_s: float, *, timers: bool = False) -> None:
        assert self.driver is not None
        self._disturbed()
        self.driver.slow_down(up_to_s, timers=timers)

    def _disturbed(self) -> None:
        self.since_s = self._world.clock.now_s

    # What reaches it

    def tell(self, action: Action) -> None:
        """Something that a program on this host asks of the daemon."""
        if self.driver is not None:
            self.driver.tell(action)

    def arrive(self, arrival: Arrival) -> None:
        if self.driver is not None:
            self.driver.arrive(arrival)

    def accept(self, request: bytes, peer: NodeId, source: int, respond: Respond) -> None:
        if self.driver is not None:
            self.driver.accept(request, peer, source, respond)
