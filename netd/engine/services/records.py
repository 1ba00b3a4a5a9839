"""Instances as they travel: the record that each host keeps of each of its own."""

from typing import Final

import msgspec
from msgspec.structs import replace

from netd.engine.services.rules import (
    check_extra,
    check_id,
    check_meta,
    check_name,
    check_tags,
    checked_address,
)
from netd.model.errors import NetdError
from netd.model.service import Check, Service, Weights

TABLE: Final = "service"  # the key is the instance's id, the scope that of all members
CHECKS_MAX: Final = 32
BYTES_MAX: Final = 60_000  # a record's value has room for 64 KiB
OTHERS_MAX: Final = 4  # further addresses of an instance that are read
_SAID_MAX: Final = 512  # characters of a check's output that the others get


def encode(service: Service) -> bytes:
    """What the others are told: all but what concerns this host alone.

    Outputs and notes are left out where a record has no room for them.
    """
    told = _told(service, _SAID_MAX)
    return told if len(told) <= BYTES_MAX else _told(service, 0)


def bare_size(service: Service) -> int:
    """The bytes of its record without any output."""
    return len(_told(service, 0))


def read(key: str, value: bytes) -> Service | None:
    """The instance in a record of another host; None for one that no netd would write.

    `node` is left to be filled in.
    """
    try:
        service = msgspec.convert(_known(msgspec.json.decode(value)), Service)
        check_id(service.id)
        check_name(service.name)
        check_tags(service.tags)
        check_meta(service.meta)
        check_extra(service.extra)
        if not 0 <= service.port <= 65_535 or len(service.checks) > CHECKS_MAX:
            return None
        address = checked_address(service.address)
        others = tuple(map(checked_address, service.other_addresses[:OTHERS_MAX]))
    except (ValueError, RecursionError, NetdError):  # msgspec's errors are ValueErrors
        return None
    if service.id != key:
        return None
    checks = tuple(replace(check, spec=None) for check in service.checks)
    return replace(
        service,
        node="",
        address=address,
        other_addresses=others,
        checks=checks,
        pid=None,
        conditions=(),
    )


def _known(told: object) -> object:
    """Without weights of a newer netd: in a registration, unknown ones are refused."""
    if isinstance(told, dict) and isinstance(weights := told.get("weights"), dict):
        known = Weights.__struct_fields__
        told["weights"] = {key: value for key, value in weights.items() if key in known}
    return told


def _told(service: Service, characters: int) -> bytes:
    checks = tuple(_without_spec(check, characters) for check in service.checks)
    return msgspec.json.encode(replace(service, node="", pid=None, checks=checks, conditions=()))


def _without_spec(check: Check, characters: int) -> Check:
    return replace(
        check, spec=None, output=check.output[:characters], notes=check.notes[:characters]
    )
