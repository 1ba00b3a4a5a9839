"""Traffic between two containers that goes on while something happens."""

import json

from tests.lab import programs
from tests.lab.container import Container

PORT = 7100
STRAGGLERS_S = 1.0


class Stream:
    """A TCP connection, a dialogue of 100 blocks of 1 kB in a second."""

    def __init__(
        self, source: Container, target: Container, family: int = 4, *, patience_s: float = 60
    ) -> None:
        target.python(programs.ECHO, str(PORT))
        patience = str(patience_s * source.host.slowness)
        address = target.address(family)
        self._client = source.python(programs.STREAM, address, str(PORT), patience)

    def assert_whole(self) -> None:
        """All that was sent came back, and the connection still stands."""
        self._client.tell("that is all")
        assert int(self._client.finish(timeout_s=120)) > 0


class Probe:
    """50 datagrams a second to a container's address, whose echo has to run there."""

    def __init__(self, source: Container, address: str) -> None:
        wait_s = STRAGGLERS_S * source.host.slowness
        self._client = source.python(programs.PROBE, address, str(PORT), str(wait_s))

    @staticmethod
    def listen(target: Container) -> None:
        """Have the echo that a probe needs."""
        target.python(programs.UDP_ECHO, str(PORT))

    def finish(self) -> list[tuple[float, bool]]:
        """For each datagram, when it was sent, Unix time there, and whether it was answered."""
        self._client.tell("that is all")
        told = json.loads(self._client.finish(timeout_s=60))
        return [(float(when_s), bool(answered)) for when_s, answered in told]

    def assert_nothing_was_lost(self) -> None:
        answers = self.finish()
        lost = [number for number, (_, answered) in enumerate(answers) if not answered]
        assert not lost, f"{len(lost)} of {len(answers)} were lost: {lost[:20]}"
        assert answers
