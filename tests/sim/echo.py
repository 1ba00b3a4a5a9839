"""A core without a protocol: it notes what reaches it, and answers. For tests of the harness."""

from collections import Counter
from collections.abc import Iterable, Sequence

from netd.gossip.ring import Ring
from netd.gossip.settings import Settings
from netd.gossip.values import (
    Address,
    Call,
    Datagram,
    Identity,
    JoinEnded,
    NodeId,
    Output,
    Randomness,
    RecordChanged,
    Scope,
)
from tests.sim.core import Member, Verify

TICK_S = 1.0


class Echo:
    """`join` calls each address; `say` sends a packet; a tick comes each second. `seen` has
    (monotonic time, what happened).
    """

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        ring: Ring,
        *,
        cluster_id: bytes,
        verify: Verify,
        random: Randomness,
        now_s: float,
        wall_s: float,
    ) -> None:
        self.identity = identity
        self.ring = ring
        self.counters: Counter[str] = Counter()
        self.seen: list[tuple[float, str]] = []
        self.wall_s = wall_s
        self._out = Output([], [], [])
        self._calls: dict[int, Address] = {}
        self._tick_s = now_s + TICK_S

    @property
    def id(self) -> NodeId:
        return self.identity.id

    def say(self, to: Address, text: str) -> None:
        self._out.datagrams.append(Datagram(to, text.encode()))

    def receive(self, data: bytes, source: Address, now_s: float) -> None:
        self.seen.append((now_s, f"{data.decode()} from {source[0]}"))

    def serve(self, request: bytes, peer: NodeId, now_s: float) -> bytes:
        self.seen.append((now_s, f"asked {request.decode()}"))
        return b"echo " + request

    def complete(self, number: int, reply: bytes | None, now_s: float) -> None:
        text = reply.decode() if reply is not None else "nothing"
        self.seen.append((now_s, f"got {text}"))
        error = "" if reply is not None else "no answer"
        self._out.events.append(JoinEnded(self._calls.pop(number), error))

    def advance(self, now_s: float) -> None:
        self.seen.append((now_s, "tick"))
        self._tick_s = now_s + TICK_S

    def set_wall(self, wall_s: float, now_s: float) -> None:
        self.wall_s = wall_s

    def join(self, addresses: Sequence[Address], now_s: float) -> None:
        for address in addresses:
            self.ask(address, None)

    def ask(self, address: Address, node: NodeId | None, timeout_s: float = 5.0) -> None:
        number = self.counters["calls"] = self.counters["calls"] + 1
        self._calls[number] = address
        self._out.calls.append(Call(number, address, node, b"hello", timeout_s))

    def leave(self, now_s: float) -> None:
        self.seen.append((now_s, "leave"))

    def publish(
        self, scope: Scope, table: str, key: str, value: bytes | None, now_s: float
    ) -> None:
        self.seen.append((now_s, f"publish {key}"))

    def subscribe(self, scope: Scope, now_s: float) -> None:
        self.seen.append((now_s, "subscribe"))

    def unsubscribe(self, scope: Scope, now_s: float) -> None:
        self.seen.append((now_s, "unsubscribe"))

    def renew(self, epoch: int, now_s: float) -> None:
        self.seen.append((now_s, f"renew {epoch}"))

    def install_key(self, secret: bytes, now_s: float) -> bytes:
        return secret[:4]

    def use_key(self, wanted: bytes, now_s: float) -> None:
        self.seen.append((now_s, "use"))

    def remove_key(self, wanted: bytes, now_s: float) -> None:
        self.seen.append((now_s, "remove"))

    def take(self) -> Output:
        out, self._out = self._out, Output([], [], [])
        return out

    def next_timer_s(self) -> float:
        return self._tick_s

    def members(self) -> Iterable[Member]:
        return ()

    def member(self, wanted: NodeId) -> Member | None:
        return None

    def records(
        self, scope: Scope | None = None, table: str | None = None
    ) -> Iterable[RecordChanged]:
        return ()

    def levels(self) -> dict[str, int]:
        return {}
