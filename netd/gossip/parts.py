"""What the parts of the core share."""

from collections import Counter, deque
from collections.abc import Callable

from netd.gossip.calls import Calls
from netd.gossip.health import Health
from netd.gossip.member import Member
from netd.gossip.members import Members
from netd.gossip.proofs import Checker, Signer
from netd.gossip.settings import Settings
from netd.gossip.timers import Timers
from netd.gossip.values import Event, Identity, Randomness

_ROUND_TRIPS = 64


class Parts:
    """`now_s` is the core's own time: it stands still while the node was not running, for
    `paused_s` so far.
    """

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        *,
        signer: Signer,
        checker: Checker,
        random: Randomness,
        now_s: float,
        wall_s: float,
    ) -> None:
        self.identity = identity
        self.settings = settings
        self.signer = signer
        self.checker = checker
        self.random = random
        self.now_s = now_s
        self.paused_s = 0.0
        self._wall_ahead_s = wall_s - now_s
        self.timers = Timers()
        self.health = Health(settings.health_max)
        self.counters: Counter[str] = Counter()
        self.events: list[Event] = []
        self.calls = Calls(settings.calls_max)
        protocols = (settings.protocol_min, settings.protocol_max)
        introduction = signer.introduction(identity, 0, protocols)
        self.members = Members(identity.id, introduction, now_s)
        self._round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self._slowest_s = settings.probe_timeout_max_s

    @property
    def me(self) -> Member:
        return self.members.me

    @property
    def monotonic_s(self) -> float:
        """The time of the clock that is outside, which goes on whatever happens here."""
        return self.now_s + self.paused_s

    def wall_ms(self) -> int:
        return max(0, int((self.now_s + self._wall_ahead_s) * 1000))

    def set_wall(self, wall_s: float) -> None:
        self._wall_ahead_s = wall_s - self.now_s

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.timers.at(self.now_s + delay_s, action)

    def jitter(self, delay_s: float) -> float:
        """A time from 0.8 to 1.2 times `delay_s`."""
        return delay_s * (0.8 + 0.4 * self.random.random())

    # Round trips

    def measured(self, round_trip_s: float) -> None:
        self._round_trips.append(round_trip_s)
        self._slowest_s = max(self._round_trips)

    def measured_at_least(self, round_trip_s: float) -> None:
        """An answer to the last of several pings, or to one before it. Where round trips have
        become longer than the time after which a ping is repeated, there are no others.
        """
        if self._round_trips and round_trip_s > self._slowest_s:
            self.measured(round_trip_s)

    def probe_timeout_s(self) -> float:
        """How long an answer may take before helpers are asked: four times the slowest of the
        last 64 round trips, within the profile's bounds.
        """
        settings = self.settings
        slowest_s = 4 * self._slowest_s if self._round_trips else settings.probe_timeout_max_s
        return min(settings.probe_timeout_max_s, max(settings.probe_timeout_min_s, slowest_s))
