"""The keys that packets are sealed with: which there are, which is used for sending."""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
KEYS_MAX: Final = 4
REMOVED_MAX: Final = 16  # keys of which a ring knows that they were removed
AUTHOR_MAX_BYTES: Final = 16

Age = tuple[
    Annotated[int, Meta(ge=0, lt=1 << 48)], Annotated[bytes, Meta(max_length=AUTHOR_MAX_BYTES)]
]
"""When something was done, and by whom: milliseconds of that node's clock, raised above the stamp
of the ring before. It orders all changes of keyrings.
"""


def key_id(secret: bytes) -> bytes:
    """What a key is called on the wire; tells nothing of the key."""
    return hashlib.blake2b(secret, digest_size=KEY_ID_BYTES, person=b"netd key id").digest()


class KeyChange(msgspec.Struct, array_like=True, frozen=True):
    """What was done last with a key: it was installed, or removed."""

    key: Annotated[bytes, Meta(min_length=KEY_ID_BYTES, max_length=KEY_ID_BYTES)]
    age: Age
    installed: bool


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    """`keys` are secrets of 32 bytes, `primary` is the id of the one to seal with.

    `stamp` and `author` are the age of the last change, whatever it was, and order the rings that a
    cluster had. Of a ring that was merged of two the author is a hash of what is in it.

    `changes` has the last change of each key, and `used` is the age of the choice of the primary.
    Keys that are not in `changes` are gone, if what was done with them is not later than `floor`.
    A ring of a node that knows nothing of changes has none, and is taken, or not, as a whole.
    """

    keys: tuple[bytes, ...]
    primary: bytes
    stamp: int = 0
    author: bytes = b""
    changes: tuple[KeyChange, ...] = ()
    used: Age = (0, b"")
    floor: Age = (0, b"")

    @classmethod
    def first(cls, secret: bytes) -> "Ring":
        """The ring of a cluster whose keys were never changed."""
        return cls(keys=(secret,), primary=key_id(secret))

    @property
    def age(self) -> Age:
        return self.stamp, self.author

    @property
    def ids(self) -> tuple[bytes, ...]:
        return tuple(map(key_id, self.keys))

    def secret(self, wanted: bytes) -> bytes | None:
        return next((secret for secret in self.keys if key_id(secret) == wanted), None)

    def is_sound(self) -> bool:
        """Whether its keys have the right size and number, the primary is one of them, and
        nothing in it is later than itself: then a change to come is later than all.
        """
        sizes = all(len(secret) == KEY_BYTES for secret in self.keys)
        ages = [self.used, self.floor, *(change.age for change in self.changes)]
        return (
            sizes
            and 0 < len(self.keys) <= KEYS_MAX
            and self.primary in self.ids
            and len(self.changes) <= KEYS_MAX + REMOVED_MAX
            and all(stamp <= self.stamp for stamp, _ in ages)
        )

    # Changes of it, each by a node at an age that is later than the ring's

    def with_key(self, secret: bytes, age: Age) -> "Ring":
        known = self._detailed()
        return _composed(
            [*known._but(key_id(secret)), KeyChange(key_id(secret), age, True)],
            (known.used, known.primary),
            known.floor,
            [*self.keys, secret],
            age,
        )

    def without_key(self, unwanted: bytes, age: Age) -> "Ring":
        known = self._detailed()
        return _composed(
            [*known._but(unwanted), KeyChange(unwanted, age, False)],
            (known.used, known.primary),
            known.floor,
            self.keys,
            age,
        )

    def with_primary(self, wanted: bytes, age: Age) -> "Ring":
        known = self._detailed()
        return _composed(known.changes, (age, wanted), known.floor, self.keys, age)

    def merged(self, other: "Ring") -> "Ring":
        """What both together have led to: of each key the later change, and the later choice of a
        primary. The same on whichever side it is done.
        """
        earlier, later = sorted((self, other), key=lambda ring: (ring.age, bool(ring.changes)))
        if not earlier.changes or not later.changes:
            return later
        here = {change.key: change for change in earlier.changes}
        there = {change.key: change for change in later.changes}
        both = [max(here[key], there[key], key=_order) for key in here.keys() & there.keys()]
        both += [c for c in earlier.changes if c.key not in there and c.age > later.floor]
        both += [c for c in later.changes if c.key not in here and c.age > earlier.floor]
        use = max((earlier.used, earlier.primary), (later.used, later.primary))
        floor = max(earlier.floor, later.floor)
        new = _composed(both, use, floor, [*earlier.keys, *later.keys], later.age)
        if new == later:
            return later
        digest = hashlib.blake2b(digest_size=AUTHOR_MAX_BYTES)
        digest.update(msgspec.msgpack.encode((new.ids, new.primary, new.changes, use, floor)))
        return msgspec.structs.replace(new, stamp=later.stamp + 1, author=digest.digest())

    def _detailed(self) -> "Ring":
        """The same with a change for each key, also if nobody has kept them."""
        if self.changes:
            return self
        changes = [KeyChange(key, self.age, True) for key in self.ids]
        return _composed(changes, (self.age, self.primary), self.age, self.keys, self.age)

    def _but(self, key: bytes) -> list[KeyChange]:
        return [change for change in self.changes if change.key != key]


def _order(change: KeyChange) -> tuple[Age, bool]:
    return change.age, not change.installed


def _composed(
    changes: Iterable[KeyChange],
    use: tuple[Age, bytes],
    floor: Age,
    secrets: Iterable[bytes],
    age: Age,
) -> Ring:
    """The ring that these changes make. The primary stays, whoever has removed it meanwhile; of
    more keys than a ring has, those that were installed first go.
    """
    used, primary = use
    known = {key_id(secret): secret for secret in secrets}
    latest = sorted(changes, key=lambda change: (change.age, change.key), reverse=True)
    installed = [c for c in latest if c.installed and c.key in known]
    installed.sort(key=lambda change: change.key != primary)
    held = {change.key for change in installed[:KEYS_MAX]} | {primary}
    if len(held) > KEYS_MAX:
        held.discard(installed[KEYS_MAX - 1].key)
    removed = [
        msgspec.structs.replace(change, installed=False)
        for change in latest
        if not change.installed or change.key not in held
    ]
    if len(removed) > REMOVED_MAX:
        floor = max(floor, removed[REMOVED_MAX].age)
        del removed[REMOVED_MAX:]
    kept = [change for change in installed if change.key in held] + removed
    ages = {change.key: change.age for change in kept}
    return Ring(
        keys=tuple(known[key] for key in sorted(held, key=lambda key: (ages.get(key, used), key))),
        primary=primary,
        stamp=age[0],
        author=age[1],
        changes=tuple(sorted(kept, key=lambda change: change.key)),
        used=used,
        floor=floor,
    )
