"""What the hosts of a cluster tell each other of a virtual address, and what one may ask for."""

import msgspec

from netd.engine.services.rules import check_name
from netd.model.errors import Invalid, NetdError
from netd.model.service import VirtualSpec
from netd.plan.virtual_numbers import Rank

CLAIMS = "virtual"  # the table of claims; key <service>/<generation>


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """That a service has virtual addresses (`spec`), or none any more, since this generation.

    `number` is that of its addresses in the pools, `created_ms` and `created_by` (a member's id)
    are from its first generation: they say who has a number that two services claim.
    """

    name: str
    generation: int
    spec: VirtualSpec | None
    number: int = 0
    created_ms: int = 0
    created_by: str = ""

    @property
    def key(self) -> str:
        return f"{self.name}/{self.generation}"

    @property
    def rank(self) -> Rank:
        return self.created_ms, self.created_by


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A claim: what it says, and when who made it first."""

    definition: Definition
    stamp_ms: int
    origin: str


def check_spec(spec: VirtualSpec) -> None:
    """Raise `Invalid` for a port that is there twice."""
    seen = set()
    for index, port in enumerate(spec.ports):
        if (port.protocol, port.port) in seen:
            raise Invalid(
                f"port {port.port}/{port.protocol} is there twice", field=f"ports[{index}]"
            )
        seen.add((port.protocol, port.port))


def read(key: str, body: bytes) -> Definition | None:
    """The definition in a claim; None for one that no netd would make."""
    try:
        definition = msgspec.json.decode(body, type=Definition)
        check_name(definition.name)
        if definition.spec is not None:
            check_spec(definition.spec)
    except (ValueError, RecursionError, NetdError):  # msgspec's errors are ValueErrors
        return None
    return definition if definition.key == key and definition.generation > 0 else None
