"""What has been answered and what not, for the daemon's metrics."""

from collections.abc import Iterator

from netd.model.directory import Count
from netd.registry.dns.records import RCODE_NAMES, TYPE_NAMES

_OTHER = "other"  # types that clients make up must not make up series


class Counts:
    """Numbers that only grow. A counter is a list of one number: the cheapest to count with."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str, str, str], list[int]] = {}
        self._others: dict[tuple[str, str], list[int]] = {}

    def answers(self, transport: str, rcode: int, kind: int, source: str) -> list[int]:
        """The counter of answers by transport (udp, tcp), response code, type of the question and
        where the answer came from: `zone`, `cache` (of others' answers), `upstream`, or `none` for
        what cannot be answered.
        """
        code = RCODE_NAMES.get(rcode, _OTHER)
        key = (transport, code, TYPE_NAMES.get(kind, _OTHER), source)
        return self._answers.setdefault(key, [0])

    def dropped(self, reason: str, transport: str = "udp") -> list[int]:
        """The counter of queries that got no answer."""
        return self._others.setdefault((reason, transport), [0])

    def __iter__(self) -> Iterator[Count]:
        for (transport, rcode, kind, source), [value] in sorted(self._answers.items()):
            labels = {"transport": transport, "rcode": rcode, "type": kind, "source": source}
            yield Count(name="dns_answers_total", labels=labels, value=value)
        for (reason, transport), [value] in sorted(self._others.items()):
            labels = {"reason": reason, "transport": transport}
            yield Count(name="dns_dropped_total", labels=labels, value=value)
