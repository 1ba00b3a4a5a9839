"""Prometheus metrics: of the API itself, and gauges made from the daemon's status."""

import re
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from netd.model.directory import Count, RegistryState
from netd.model.views import AddressLevels, Member, MemberState, Status

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_METRIC_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
# An attach takes about 2 ms, a deadline ends a call after 20 s.
_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 20.0)


class Metrics:
    """Counts calls by route (the pattern, never the path: labels must stay few)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests = Counter(
            "netd_api_requests_total",
            "Calls of the API that were answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self._durations = Histogram(
            "netd_api_request_duration_seconds",
            "Time from a call's head to its answer, streams excluded",
            ["method", "route"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        # labels() takes a lock and builds a tuple of strings: three times the cost of inc().
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[tuple[str, str], Histogram] = {}

    def count(self, method: str, route: str, status: int, duration_s: float | None) -> None:
        """Note one answered call; `duration_s` is None for a stream."""
        counted = (method, route, status)
        counter = self._counters.get(counted)
        if counter is None:
            counter = self._counters[counted] = self._requests.labels(method, route, str(status))
        counter.inc()
        if duration_s is None:
            return
        timed = (method, route)
        histogram = self._histograms.get(timed)
        if histogram is None:
            histogram = self._histograms[timed] = self._durations.labels(method, route)
        histogram.observe(duration_s)

    def exposition(self) -> bytes:
        """All metrics of the registry in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)


def register_status(registry: CollectorRegistry, status: Callable[[], Status]) -> None:
    """Add gauges that ask `status` whenever metrics are read."""
    registry.register(_Asked(lambda: _of_status(status())))


def register_numbers(
    registry: CollectorRegistry,
    counters: Callable[[], dict[str, int]],
    levels: Callable[[], dict[str, int]],
) -> None:
    """Add counters and gauges that are asked for whenever metrics are read."""
    registry.register(_Asked(lambda: _of_numbers(counters(), levels())))


def register_cluster(
    registry: CollectorRegistry,
    members: Callable[[], tuple[Member, ...]],
    refused: Callable[[], Mapping[str, int]],
) -> None:
    """Add what has labels: members by state, refused packets by the reason (few of them)."""
    registry.register(_Asked(lambda: _of_cluster(members(), refused())))


def register_addresses(
    registry: CollectorRegistry, levels: Callable[[], Iterable[AddressLevels]]
) -> None:
    """Add how many addresses of overlays this host owns: two labels for each one in use."""
    registry.register(_Asked(lambda: _of_addresses(levels())))


def register_registry(registry: CollectorRegistry, state: Callable[[], RegistryState]) -> None:
    """Add what the process that answers names has reported last."""
    registry.register(_Asked(lambda: _of_registry(state())))


class _Asked(Collector):
    """Metrics that `make` makes whenever they are read."""

    def __init__(self, make: Callable[[], Iterable[Metric]]) -> None:
        self._make = make

    def describe(self) -> list[Metric]:
        # Without this, register() would call collect() before the daemon has a status.
        return []

    def collect(self) -> Iterable[Metric]:
        return self._make()


def _of_status(status: Status) -> Iterator[Metric]:
    yield GaugeMetricFamily("netd_ready", "1 once the kernel is as wanted", status.ready)
    yield GaugeMetricFamily("netd_members", "Members of the cluster", status.members)
    yield GaugeMetricFamily("netd_networks", "Networks", status.networks)
    yield GaugeMetricFamily("netd_endpoints", "Endpoints on this host", status.endpoints)
    yield GaugeMetricFamily(
        "netd_drift_operations", "Operations the last look found to be needed", status.drift
    )
    yield GaugeMetricFamily("netd_conditions", "Things that are wrong", len(status.conditions))
    yield InfoMetricFamily(
        "netd",
        "What runs here",
        {"version": status.version, "node": status.node, "kernel": status.kernel},
    )


def _of_numbers(counters: Mapping[str, int], levels: Mapping[str, int]) -> Iterator[Metric]:
    for name, value in counters.items():
        text = f"{name.replace('_', ' ').capitalize()} since the start"
        yield CounterMetricFamily(f"netd_{name}", text, value)
    for name, value in levels.items():
        text = f"{name.replace('_', ' ').capitalize()}, now"
        yield GaugeMetricFamily(f"netd_{name}", text, value)


def _of_cluster(members: Iterable[Member], refused: Mapping[str, int]) -> Iterator[Metric]:
    by_state = GaugeMetricFamily(
        "netd_cluster_members_by_state", "Members as this host sees them", labels=["state"]
    )
    counted = Tally(member.state for member in members)
    for state in get_args(MemberState):
        by_state.add_metric([state], counted[state])
    yield by_state
    by_reason = CounterMetricFamily(
        "netd_cluster_packets_refused",
        "Packets that changed nothing, by the reason",
        labels=["reason"],
    )
    for reason, count in sorted(refused.items()):
        by_reason.add_metric([reason], count)
    yield by_reason


def _of_addresses(levels: Iterable[AddressLevels]) -> Iterator[Metric]:
    labels = ["network", "family"]
    owned = GaugeMetricFamily(
        "netd_overlay_addresses_owned", "Addresses that are this host's to give", labels=labels
    )
    free = GaugeMetricFamily(
        "netd_overlay_addresses_free", "Those of them that nobody has", labels=labels
    )
    for level in levels:
        values = [level.network, f"ipv{level.family}"]
        owned.add_metric(values, level.owned)
        free.add_metric(values, level.free)
    yield owned
    yield free


def _of_registry(state: RegistryState) -> Iterator[Metric]:
    levels: tuple[tuple[str, str, int], ...] = (
        ("connected", "1 while a registry follows the directory and reports", state.connected),
        ("sockets", "Where the registry listens", len(state.listening)),
        ("sockets_failed", "Where it should listen and cannot", len(state.problems)),
        ("lines_behind", "Changes it had not taken over by its last report", state.behind),
    )
    for name, text, level in levels:
        yield GaugeMetricFamily(f"netd_registry_{name}", text, level)
    yield from _counted(state.counts, taken={name for name, _, _ in levels})


def _counted(counts: Iterable[Count], taken: set[str]) -> Iterator[Metric]:
    """What another process has counted, but for what would spoil the whole page: names that
    Prometheus cannot read, or that are taken.
    """
    families: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for count in counts:
        words = (count.name, *count.labels)
        if count.name not in taken and all(_METRIC_WORD.fullmatch(word) for word in words):
            values = families.setdefault(count.name, {})
            values[tuple(sorted(count.labels.items()))] = count.value
    for name, values in families.items():
        keys = sorted({key for labels in values for key, _ in labels})
        grows = name.endswith("_total")
        text = name.removesuffix("_total").replace("_", " ").capitalize()
        since = "since the registry's start" if grows else "now"
        make = CounterMetricFamily if grows else GaugeMetricFamily
        family = make(f"netd_registry_{name}", f"{text}, {since}", labels=keys)
        for labels, value in values.items():
            family.add_metric([dict(labels).get(key, "") for key in keys], value)
        yield family
