"""Keys as Consul's JSON has them."""

from collections.abc import Iterable

import msgspec

from netd.model.kv import Entry


class Pair(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A key; an empty value is null. A session is left out where there is none."""

    lock_index: int
    key: str
    flags: int
    value: bytes | None
    session: str | msgspec.UnsetType = msgspec.UNSET
    create_index: int
    modify_index: int


def pair_of(entry: Entry) -> Pair:
    return Pair(
        lock_index=entry.lock_index,
        key=entry.key,
        flags=entry.flags,
        value=entry.value or None,
        session=entry.session or msgspec.UNSET,
        create_index=entry.create_index,
        modify_index=entry.modify_index,
    )


def pairs_of(entries: Iterable[Entry]) -> list[Pair]:
    return [pair_of(entry) for entry in entries]
