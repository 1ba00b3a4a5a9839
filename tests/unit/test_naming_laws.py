"""What holds of every directory, whatever it was told, in whatever order."""

import re
from collections.abc import Iterable, Iterator
from random import Random

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from netd.model.directory import EndpointEntry, Entry, NetworkEntry, NodeEntry
from netd.model.service import CheckStatus, Service, Virtual, Weights
from netd.naming.directory import Directory
from netd.naming.values import EVERYTHING, Answer, Record, Scope
from tests.unit.naming_lab import ZONE, endpoint, entry, service

NETWORKS = ("blue", "red", "a.b")  # the number of a network is the second byte of its addresses
LABELS = ("web", "db", "_x", "service")
NODES = ("node-1", "node-2")
STATUSES: tuple[CheckStatus, ...] = ("passing", "warning", "critical")
HOSTS = ("192.0.2.1", "192.0.2.2", "2001:db8::1")
KINDS = ("A", "AAAA", "SRV", "TXT", "PTR", "SOA", "ANY")

numbers = st.integers(0, len(NETWORKS) - 1)
members = st.integers(2, 4)


def own_addresses(network: int, member: int) -> tuple[str, ...]:
    return (f"10.{network}.0.{member}", f"fd00:{network}::{member}")


@st.composite
def networks(draw: st.DrawFn) -> Entry:
    number = draw(numbers)
    value = NetworkEntry(
        subnets=draw(st.sampled_from([(f"10.{number}.0.0/24", f"fd00:{number}::/64"), ()])),
        resolvers=draw(st.sampled_from([(), (f"10.{number}.0.1",)])),
        internal=draw(st.booleans()),
    )
    return entry("network", NETWORKS[number], draw(st.sampled_from([value, None])))


@st.composite
def endpoints(draw: st.DrawFn) -> Entry:
    network, member = draw(numbers), draw(members)
    value: EndpointEntry = endpoint(
        NETWORKS[network],
        draw(st.sampled_from((*LABELS, ""))),
        *draw(st.sampled_from([own_addresses(network, member), own_addresses(network, 2)[:1]])),
        container=draw(st.sampled_from(("c1", "c2", "c3"))),
        node=draw(st.sampled_from(NODES)),
        aliases=draw(st.sampled_from([(), LABELS[:2], ("WEB",)])),
    )
    return entry("endpoint", f"e{draw(st.integers(0, 5))}", draw(st.sampled_from([value, None])))


@st.composite
def services(draw: st.DrawFn) -> Entry:
    network = draw(st.sampled_from([*range(len(NETWORKS)), None]))
    address = (
        draw(st.sampled_from(HOSTS))
        if network is None
        else draw(st.sampled_from(own_addresses(network, draw(members))))
    )
    value: Service = service(
        draw(st.sampled_from(LABELS)),
        address,
        draw(st.integers(1, 2)),
        status=draw(st.sampled_from(STATUSES)),
        weight=draw(st.integers(0, 2)),
        node=draw(st.sampled_from(NODES)),
        network="" if network is None else NETWORKS[network],
        tags=draw(st.sampled_from([(), ("v1",)])),
        meta={} if network is None else {"from": NETWORKS[network]},
    )
    return entry("service", f"s{draw(st.integers(0, 4))}", draw(st.sampled_from([value, None])))


@st.composite
def nodes(draw: st.DrawFn) -> Entry:
    value = NodeEntry(
        node_id=draw(st.sampled_from(("n1", "n2"))),
        addresses=tuple(draw(st.lists(st.sampled_from(HOSTS), max_size=2))),
        tags=draw(st.sampled_from([{}, {"rack": "r1"}])),
    )
    return entry("node", draw(st.sampled_from(NODES)), draw(st.sampled_from([value, None])))


@st.composite
def virtuals(draw: st.DrawFn) -> Entry:
    label = draw(st.sampled_from(LABELS))
    value = Virtual(id=label, addresses=(f"10.191.0.{draw(members)}",), ports=())
    return entry("virtual", label, draw(st.sampled_from([value, None])))


@st.composite
def zones(draw: st.DrawFn) -> Entry:
    return entry("zone", "", msgspec.structs.replace(ZONE, node=draw(st.sampled_from(NODES))))


entries = st.one_of(networks(), endpoints(), endpoints(), services(), nodes(), virtuals(), zones())
histories = st.lists(entries, max_size=30)


def names() -> Iterator[str]:
    yield from (
        "netd.internal",
        "consul",
        "example.com",
        "service.netd.internal",
        "b.netd.internal",
    )
    for label in LABELS:
        yield label
        yield f"_{label}._tcp.consul"
        for network in NETWORKS:
            yield f"{label}.{network}"
            yield f"{label}.{network}.netd.internal"
            yield f"{network}.netd.internal"
        for zone in ("netd.internal", "consul"):
            yield f"{label}.service.{zone}"
            yield f"v1.{label}.service.{zone}"
            yield f"{label}.virtual.{zone}"
    for node in NODES:
        yield f"{node}.node.netd.internal"
    for number in range(len(NETWORKS)):
        for member in range(2, 5):
            yield f"{member}.0.{number}.10.in-addr.arpa"
        yield f"0.{number}.10.in-addr.arpa"
    yield "2.0.191.10.in-addr.arpa"
    yield "1.2.0.192.in-addr.arpa"


NAMES = tuple(dict.fromkeys(names()))
CONTAINERS = tuple(
    address
    for network in range(len(NETWORKS))
    for member in (1, 2, 3, 9)
    for address in own_addresses(network, member)
)
SOURCES = (None, *CONTAINERS, *HOSTS, "203.0.113.7")
some_sources = st.lists(st.sampled_from(SOURCES), min_size=1, max_size=4, unique=True)


def content(answer: Answer) -> object:
    """An answer without the order of its records and without what it depends on."""
    return (
        answer.rcode,
        frozenset(answer.records),
        frozenset(answer.additional),
        answer.authority,
        answer.aa,
    )


def seen_by(directory: Directory, source: str | None) -> object:
    scope = directory.scope_of(source)
    return scope.networks, scope.near


def told(history: Iterable[Entry]) -> Directory:
    directory = Directory()
    directory.apply(entry("zone", "", ZONE))
    for line in history:
        directory.apply(line)
    return directory


@settings(max_examples=50, deadline=None)
@given(histories, st.randoms(use_true_random=False), some_sources)
def test_only_the_last_word_on_each_thing_counts(
    history: list[Entry], random: Random, sources: list[str | None]
) -> None:
    last = {(line.kind, line.id): line for line in history}
    final = [line for line in last.values() if getattr(line, line.kind) is not None]
    random.shuffle(final)
    one, other = told(history), told(final)
    for source in SOURCES:
        assert seen_by(one, source) == seen_by(other, source)
    for source in sources:
        for name in NAMES:
            for kind in KINDS:
                answers = (d.look_up(name, kind, d.scope_of(source)) for d in (one, other))
                first, second = map(content, answers)
                assert first == second


@settings(max_examples=50, deadline=None)
@given(histories, some_sources)
def test_nobody_is_told_of_a_network_that_he_does_not_see(
    history: list[Entry], sources: list[str | None]
) -> None:
    directory = told(history)
    for source in sources:
        scope = directory.scope_of(source)
        if scope.networks is None:
            continue
        for name in NAMES:
            for kind in KINDS:
                steps: list[str] = []
                answer = directory.look_up(name, kind, scope, steps)
                check_isolation(scope, (*answer.records, *answer.additional), steps, name)


def check_isolation(scope: Scope, records: Iterable[Record], steps: list[str], name: str) -> None:
    """By what is said, not by what the records claim to be."""
    told_of = [f"{record.name} {record.data}" for record in records]
    asked = set(re.split(r"[ ,.]", name))
    for record in records:
        assert scope.sees(record.network)
    for number, network in enumerate(NETWORKS):
        if scope.sees(network):
            continue
        for text in told_of:
            assert f"10.{number}.0." not in text.removeprefix(name)
            assert f"fd00:{number}:" not in text
            assert f"0a{number:02x}00" not in text.removeprefix(name)
            assert f"from={network}" not in text
            assert f".{network}.netd.internal" not in text.removeprefix(name)
        for step in steps:
            assert f"10.{number}.0." not in step or f"0.{number}.10.in-addr.arpa" in name
            assert network in asked or network == "a.b" or network not in step.split()


@settings(max_examples=60, deadline=None)
@given(histories, entries, st.sampled_from(SOURCES))
@example(
    [entry("service", "s", Service(id="s", name="web", node="node-1", address="192.0.2.1"))],
    entry("node", "node-1", NodeEntry(node_id="n1", addresses=("192.0.2.1",))),
    None,
)
@example(
    [
        entry("service", "s", Service(id="s", name="web", node="x", address="10.0.0.2", port=1)),
        entry("endpoint", "e", endpoint("blue", "web", "10.0.0.2")),
    ],
    entry("endpoint", "f", endpoint("blue", "web", "10.0.0.3")),
    None,
)
@example(
    [entry("service", "s", Service(id="s", name="web", node="x", address="10.0.0.2", port=1))],
    entry("endpoint", "e", endpoint("blue", "db", "10.0.0.2")),
    None,
)
@example(
    [entry("service", "s", Service(id="s", name="w", node="n", address="1.1.1.1"))],
    entry(
        "service",
        "s",
        Service(id="s", name="w", node="n", address="1.1.1.1", weights=Weights(passing=7)),
    ),
    None,
)
def test_an_answer_holds_until_one_of_its_topics_is_named(
    history: list[Entry], line: Entry, source: str | None
) -> None:
    """So a cache of answers, by question and scope, may drop those only."""
    directory = told(history)
    scope = directory.scope_of(source)
    before = {
        (name, kind): directory.look_up(name, kind, scope) for name in NAMES for kind in KINDS
    }
    version = directory.version
    topics = set(directory.apply(line))
    assert (directory.version > version) == bool(topics)
    if EVERYTHING in topics:
        return
    for (name, kind), answer in before.items():
        if topics.isdisjoint(answer.topics):
            now = directory.look_up(name, kind, scope)
            assert content(now) == content(answer), (name, kind)


@settings(max_examples=300, deadline=None)
@given(
    histories,
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                (
                    *("", "_", "_tcp", "a", "web", "10", "blue", "0", "dc", "dc1", "netd"),
                    *("service", "node", "addr", "virtual", "consul", "internal"),
                    *("arpa", "in-addr", "ip6"),
                )
            ),
            max_size=9,
        ).map(".".join),
    ),
    st.sampled_from((*KINDS, "NS", "TYPE65", "")),
)
def test_no_question_makes_a_directory_fail(history: list[Entry], name: str, kind: str) -> None:
    directory = told(history)
    for source in (None, "10.0.0.2"):
        answer = directory.look_up(name, kind, directory.scope_of(source), [])
        assert answer.rcode in ("NOERROR", "NXDOMAIN", "REFUSED", "FORWARD")
        assert answer.rcode == "NOERROR" or not (answer.records or answer.additional)
        assert answer.aa == (answer.rcode in ("NOERROR", "NXDOMAIN"))
        assert answer.aa == bool(answer.records or answer.authority)
