"""Invariants 1 to 8: who is a member, and in which state."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from netd.gossip.values import NodeId, State
from tests.sim.invariants import Violation

Age = tuple[int, int]  # epoch, incarnation


class NeverOlder:
    """(1) Epoch and incarnation of a member never decrease at any observer."""

    def __init__(self) -> None:
        self._ages: dict[tuple[str, NodeId], Age] = {}

    def begins(self, observer: str) -> None:
        """A new run knows nothing of what the one before knew."""
        self._ages = {key: age for key, age in self._ages.items() if key[0] != observer}

    def see(self, observer: str, node: NodeId, age: Age) -> None:
        key = (observer, node)
        before = self._ages.get(key)
        if before is not None and age < before:
            raise Violation(1, f"{observer} has {node.hex()} at {age} after {before}")
        self._ages[key] = age


class OwnWordOnly:
    """(2) Only a node itself begins a new incarnation of itself."""

    def __init__(self) -> None:
        self._own: dict[NodeId, Age] = {}

    def itself(self, node: NodeId, age: Age) -> None:
        """What the node says of itself."""
        self._own[node] = max(age, self._own.get(node, age))

    def knows(self, node: NodeId, age: Age) -> bool:
        """Whether the node is known to have gone that far."""
        return age <= self._own.get(node, (-1, -1))

    def see(self, observer: str, node: NodeId, age: Age) -> None:
        if not self.knows(node, age):
            raise Violation(2, f"{observer} has {node.hex()} at {age}: it never was")


class OldRunsAreOver:
    """(3) That a node is dead or has left in one epoch says nothing of a later one."""

    def __init__(self) -> None:
        self._alive: dict[tuple[str, NodeId], int] = {}

    def begins(self, observer: str) -> None:
        self._alive = {key: epoch for key, epoch in self._alive.items() if key[0] != observer}

    def see(self, observer: str, node: NodeId, state: State, epoch: int) -> None:
        key = (observer, node)
        newest = self._alive.get(key, -1)
        if state is State.ALIVE:
            self._alive[key] = max(epoch, newest)
        elif state >= State.DEAD and epoch < newest:
            text = f"{observer} has {node.hex()} {state.name} of epoch {epoch}, not {newest}"
            raise Violation(3, text)


class Agreement:
    """(4) Without faults all live nodes of a component agree on who is alive, within a time.

    `number` is 8 where what had been wrong was a partition.
    """

    def __init__(self, number: int = 4) -> None:
        self.number = number

    def see(
        self, waited_s: float, within_s: float, views: Mapping[str, AbstractSet[NodeId]]
    ) -> bool:
        """`views`: whom each takes for alive. Whether they are one."""
        if len(set(map(frozenset, views.values()))) <= 1:
            return True
        if waited_s > within_s:
            text = ", ".join(f"{name}: {len(alive)}" for name, alive in views.items())
            raise Violation(self.number, f"no agreement after {waited_s:.1f} s ({text})")
        return False


class DeathIsNoticed:
    """(5) A node that has crashed is dead at every other one within a time."""

    def see(
        self, waited_s: float, within_s: float, name: str, states: Mapping[str, State | None]
    ) -> bool:
        """`states`: of the crashed node at the others, None where it is not known at all."""
        late = [who for who, state in states.items() if state not in (State.DEAD, None)]
        if late and waited_s > within_s:
            text = f"{name} is not dead at {', '.join(late)} {waited_s:.1f} s after its crash"
            raise Violation(5, text)
        return not late


class NoLastingMistake:
    """(6) No node that lives and can be reached is dead anywhere for longer than `bound_s`."""

    def __init__(self, bound_s: float) -> None:
        self.bound_s = bound_s
        self._since: dict[tuple[str, NodeId], float] = {}

    def see(self, now_s: float, observer: str, node: NodeId, *, dead: bool, well: bool) -> None:
        """`well`: it lives, and each reaches the other, and that for some time."""
        key = (observer, node)
        if not dead or not well:
            self._since.pop(key, None)
        elif now_s - self._since.setdefault(key, now_s) > self.bound_s:
            text = f"{observer} has {node.hex()} dead for {self.bound_s:.0f} s, and it lives"
            raise Violation(6, text)


class NoFalseDeath:
    """(7) No node that lives and can be reached is declared dead, with up to 20 % loss.

    Where `strict` is False a mistake is counted only.
    """

    def __init__(self) -> None:
        self.strict = True
        self.deaths = 0

    def see(self, observer: str, node: NodeId, after: State, *, well: bool) -> None:
        if after is State.DEAD and well:
            self.deaths += 1
            if self.strict:
                raise Violation(7, f"{observer} has declared {node.hex()} dead, and it lives")
