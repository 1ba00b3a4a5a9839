"""What is signed, by whom, and how it is checked.

Each text begins with its kind and the cluster's id, so a signature holds for one kind of
statement in one cluster only.
"""

from collections.abc import Callable

import msgspec

from netd.gossip.codec import encode, pack_host
from netd.gossip.messages import Alive, Entry, Introduce, Left, Mark
from netd.gossip.values import Identity, NodeId, Scope

Verify = Callable[[bytes, bytes, bytes], bool]  # public key, message, signature

_UNSIGNED = bytes(64)


def _introduction_text(cluster_id: bytes, introduction: Introduce) -> bytes:
    unsigned = msgspec.structs.replace(introduction, signature=_UNSIGNED)
    return b"netd introduce" + cluster_id + encode(unsigned)


def _alive_text(cluster_id: bytes, node: NodeId, epoch: int, incarnation: int) -> bytes:
    return b"netd alive" + cluster_id + node + b"%d,%d" % (epoch, incarnation)


def _left_text(cluster_id: bytes, node: NodeId, epoch: int, incarnation: int) -> bytes:
    return b"netd left" + cluster_id + node + b"%d,%d" % (epoch, incarnation)


def _record_text(cluster_id: bytes, owner: NodeId, scope: Scope, epoch: int, entry: Entry) -> bytes:
    unsigned = msgspec.structs.replace(entry, signature=_UNSIGNED)
    return b"netd record" + cluster_id + owner + scope + b"%d," % epoch + encode(unsigned)


def _mark_text(cluster_id: bytes, owner: NodeId, scope: Scope, epoch: int, mark: Mark) -> bytes:
    numbers = b"%d,%d,%d,%d" % (epoch, mark.version, mark.baseline, mark.floor)
    return b"netd log" + cluster_id + owner + scope + numbers


class Signer:
    """Signs as this node."""

    def __init__(self, identity: Identity, cluster_id: bytes) -> None:
        self._id = identity.id
        self._sign = identity.sign
        self._cluster_id = cluster_id

    def introduction(
        self, identity: Identity, incarnation: int, protocols: tuple[int, int]
    ) -> Introduce:
        host, port = identity.address
        unsigned = Introduce(
            public_key=identity.public_key,
            epoch=identity.epoch,
            incarnation=incarnation,
            name=identity.name,
            host=pack_host(host),
            port=port,
            protocol_min=protocols[0],
            protocol_max=protocols[1],
            version=identity.version,
            signature=_UNSIGNED,
        )
        signature = self._sign(_introduction_text(self._cluster_id, unsigned))
        return msgspec.structs.replace(unsigned, signature=signature)

    def alive(self, epoch: int, incarnation: int) -> Alive:
        text = _alive_text(self._cluster_id, self._id, epoch, incarnation)
        return Alive(self._id, epoch, incarnation, self._sign(text))

    def left(self, epoch: int, incarnation: int) -> Left:
        text = _left_text(self._cluster_id, self._id, epoch, incarnation)
        return Left(self._id, epoch, incarnation, self._sign(text))

    def record(
        self, scope: Scope, epoch: int, version: int, table: str, key: str, value: bytes | None
    ) -> Entry:
        unsigned = Entry(version, table, key, value, _UNSIGNED)
        text = _record_text(self._cluster_id, self._id, scope, epoch, unsigned)
        return msgspec.structs.replace(unsigned, signature=self._sign(text))

    def mark(self, scope: Scope, epoch: int, version: int, baseline: int, floor: int) -> Mark:
        unsigned = Mark(version, baseline, floor, _UNSIGNED)
        text = _mark_text(self._cluster_id, self._id, scope, epoch, unsigned)
        return msgspec.structs.replace(unsigned, signature=self._sign(text))


class Checker:
    """Checks others' signatures."""

    def __init__(self, verify: Verify, cluster_id: bytes) -> None:
        self._verify = verify
        self._cluster_id = cluster_id

    def introduction(self, introduction: Introduce) -> bool:
        text = _introduction_text(self._cluster_id, introduction)
        return self._verify(introduction.public_key, text, introduction.signature)

    def alive(self, public_key: bytes, alive: Alive) -> bool:
        text = _alive_text(self._cluster_id, alive.id, alive.epoch, alive.incarnation)
        return self._verify(public_key, text, alive.signature)

    def left(self, public_key: bytes, left: Left) -> bool:
        text = _left_text(self._cluster_id, left.id, left.epoch, left.incarnation)
        return self._verify(public_key, text, left.signature)

    def record(
        self, public_key: bytes, owner: NodeId, scope: Scope, epoch: int, entry: Entry
    ) -> bool:
        text = _record_text(self._cluster_id, owner, scope, epoch, entry)
        return self._verify(public_key, text, entry.signature)

    def mark(self, public_key: bytes, owner: NodeId, scope: Scope, epoch: int, mark: Mark) -> bool:
        text = _mark_text(self._cluster_id, owner, scope, epoch, mark)
        return self._verify(public_key, text, mark.signature)
