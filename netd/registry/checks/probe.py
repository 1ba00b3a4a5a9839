"""One run of a check: what it looks at, and what it may reach."""

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal, cast

import msgspec

from netd.model.service import Check, CheckResult, CheckSpec, CheckStatus, Service

OUTPUT_MAX: Final = 4096  # characters, see `CheckResult`
INTERVAL_MIN_S: Final = 0.05
TIMEOUT_S: Final = 10.0
SILENCE_S: Final = 1.0  # how long a udp check waits for an answer that may never come

Kind = Literal["http", "tcp", "udp", "grpc", "h2ping", "script"]
KINDS: Final = frozenset({"http", "tcp", "udp", "grpc", "h2ping", "script"})
Address = IPv4Address | IPv6Address


class Failed(Exception):
    """What is looked at is not well, or cannot be looked at; the text says why."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A check of an instance. Two that are equal do the same.

    `within` are the only addresses that it may reach; None: all.
    """

    service: str  # its id
    check: str
    kind: Kind
    spec: CheckSpec
    address: str
    port: int
    within: frozenset[Address] | None

    @property
    def interval_s(self) -> float:
        return max(self.spec.interval_s, INTERVAL_MIN_S)

    @property
    def timeout_s(self) -> float:
        """How long a run may take; for udp, how long silence means that it is well."""
        usual = SILENCE_S if self.kind == "udp" else TIMEOUT_S
        return self.spec.timeout_s or min(self.interval_s, usual)

    @property
    def deadline_s(self) -> float:
        """When a run is ended. That of udp ends by itself: at its time-out it has passed."""
        return self.timeout_s + (TIMEOUT_S if self.kind == "udp" else 0.0)

    def check_reach(self, address: str) -> None:
        """Raise `Failed` unless the check may send to `address`."""
        if self.within is None or ip_address(address) in self.within:
            return
        raise Failed(
            f"{address} is not an address of this instance; checks of an instance that has a "
            "network reach no other"
        )


class Run:
    """The runs of a probe, one at a time.

    `stage` is what the present one is waiting for, to be told at the deadline. `kept` is what a
    kind of check has made of the probe once and for all. `stalls` are its last runs whose
    deadline this process was too busy to see in time.
    """

    __slots__ = ("kept", "probe", "stage", "stalls")

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.stage = "to begin"
        self.kept: object = None
        self.stalls = 0


def probe_of(service: Service, check: Check, addresses: tuple[str, ...]) -> Probe | None:
    """How to run a check of an own instance; None: that is not for the registry to do.

    `addresses` are those of the instance's endpoint. What has a network was perhaps registered
    by who is in there, and the registry can reach more than he does: see SECURITY.md.
    """
    if check.spec is None or check.kind not in KINDS:
        return None
    confined = bool(service.network or service.endpoint)
    return Probe(
        service=service.id,
        check=check.id,
        kind=cast(Kind, check.kind),
        spec=check.spec,
        address=service.address,
        port=service.port,
        within=_parsed(service.address, *addresses) if confined else None,
    )


def _parsed(*addresses: str) -> frozenset[Address]:
    """Those that are addresses; anything else may not be reached."""
    parsed: set[Address] = set()
    for address in addresses:
        with suppress(ValueError):
            parsed.add(ip_address(address))
    return frozenset(parsed)


def passing(output: str) -> CheckResult:
    return _result("passing", output)


def warning(output: str) -> CheckResult:
    return _result("warning", output)


def critical(output: str) -> CheckResult:
    return _result("critical", output)


def _result(status: CheckStatus, output: str) -> CheckResult:
    """`output` is never empty: an empty one is of a check that has not run yet."""
    return CheckResult(status=status, output=output[:OUTPUT_MAX] or "(no output)")


def text_of(data: bytes) -> str:
    """What somebody else has written, as one can show it: no control characters but line ends."""
    text = data.decode("utf-8", "replace").strip()
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
