"""What Consul's calls have in common: the parameters of reads, and values as Go writes them."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from netd.registry.consul.durations import seconds_of
from netd.registry.http.call import Failure, Target

WAIT_DEFAULT_S: Final = 300.0
WAIT_MAX_S: Final = 600.0
INDEX_MAX: Final = 2**64 - 1

_INDEX: Final = re.compile(r"-?[0-9]{1,20}\Z", re.ASCII)
_BOOLEANS: Final[Mapping[str, bool]] = {  # strconv.ParseBool
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
# What an answer may depend on beside its path. All others are as if they had not been said, so
# that nobody has one made again and again by what nobody looks at.
_ANSWERED: Final = frozenset(
    ("filter", "near", "node-meta", "passing", "peer", "peer-name", "pretty", "tag")
)


class Options(NamedTuple):
    """`after` is the index to wait for the next of; 0: answer at once. `key` is all of the
    question that matters to its answer.
    """

    after: int
    wait_s: float
    consistency: str
    cached: bool
    pretty: bool
    near: str
    node_meta: tuple[tuple[str, str], ...]
    filter: str
    peer: str
    key: tuple[tuple[str, tuple[str, ...]], ...]


def options_of(target: Target, datacenter: str) -> Options:
    """Raises `Failure` for what Consul refuses."""
    check_datacenter(target, datacenter)
    stale, consistent = target.has("stale"), target.has("consistent")
    if stale and consistent:
        raise Failure(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
    cached = target.has("cached")
    if cached and consistent:
        raise Failure(400, "Cannot specify ?cached with ?consistent, conflicting semantics.")
    kept = (pair for pair in target.parameters.items() if pair[0] in _ANSWERED)
    return Options(
        after=_index(target.first("index")),
        wait_s=_wait_s(target.first("wait")),
        consistency="stale" if stale else "consistent" if consistent else "leader",
        cached=cached,
        pretty=is_pretty(target),
        near=target.first("near"),
        node_meta=tuple(map(_pair, target.parameters.get("node-meta", ()))),
        filter=target.first("filter"),
        peer=target.first("peer") or target.first("peer-name"),
        key=tuple(sorted(kept)),
    )


def check_datacenter(target: Target, datacenter: str) -> None:
    """There is one. Raises `Failure`."""
    asked = target.first("dc")
    if asked and asked.lower() != datacenter.lower():
        raise Failure(500, "No path to datacenter")


def is_pretty(target: Target) -> bool:
    return target.has("pretty")


def flag(target: Target, name: str, default: bool = False) -> bool:
    """A parameter that is true when it has no value. Raises `Failure`."""
    if not target.has(name):
        return default
    text = target.first(name)
    if not text:
        return True
    found = boolean_of(text)
    if found is None:
        raise Failure(400, f"Invalid value for ?{name}")
    return found


def boolean_of(text: str) -> bool | None:
    """None: it is none."""
    return _BOOLEANS.get(text)


def _index(text: str) -> int:
    """Some clients begin with a negative one."""
    if not text:
        return 0
    if not _INDEX.match(text) or int(text) > INDEX_MAX:
        raise Failure(400, "Invalid index")
    return max(0, int(text))


def _wait_s(text: str) -> float:
    if not text:
        return WAIT_DEFAULT_S
    try:
        wait_s = seconds_of(text)
    except ValueError:
        raise Failure(400, "Invalid wait time") from None
    return min(wait_s, WAIT_MAX_S) if wait_s > 0 else WAIT_DEFAULT_S


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition(":")
    return key, value
