"""Packets are sealed with AES-256-GCM (RFC 5116) under a key of each sender's own.

The header is authenticated and not encrypted: format, cluster, key, sender, epoch, salt, counter.
The sender's key is HKDF (RFC 5869) of the cluster's key with the sender's id and epoch, the nonce
is salt and counter; an epoch is used by one run of one node only, so no nonce is used twice. The
salt, drawn for each run, is for copies of a machine that begin the same epoch.
"""

import struct
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from netd.gossip.replay import ReplayWindow
from netd.gossip.ring import Ring, key_id
from netd.gossip.values import NodeId

FORMAT: Final = 1
_HEADER: Final = struct.Struct(">B4s4s16sHI4sQ")
_TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = _HEADER.size + _TAG_BYTES
_NONCE: Final = struct.Struct(">4sQ")
SALT_BYTES: Final = 4
SENDERS_MAX: Final = 16_384  # of which keys and windows are kept


class Opened(NamedTuple):
    """A packet that `sender` really sent in this run, `epoch`, and that is not a repetition."""

    sender: NodeId
    epoch: int
    payload: bytes


class Refused(NamedTuple):
    """A packet that changes nothing. `sender` is what it claims, unproved."""

    reason: str
    sender: NodeId = b""


class Sealer(Protocol):
    """How packets are protected. `Seal` is the one that is used outside of simulations."""

    overhead_bytes: int

    def seal(self, payload: bytes) -> bytes: ...
    def open(self, packet: bytes) -> Opened | Refused: ...
    def use(self, ring: Ring) -> None: ...
    def forget(self, sender: NodeId, epoch: int) -> None: ...
    def renew(self, epoch: int) -> None: ...


class Seal:
    """Seals as one sender; opens what any sender of the cluster has sealed.

    Packets of a sender's earlier epoch are refused as soon as one of a later epoch was opened.
    Memory: the keys and the window of `SENDERS_MAX` senders, about 1 KiB each.
    """

    overhead_bytes = OVERHEAD_BYTES

    def __init__(
        self,
        sender: NodeId,
        epoch: int,
        cluster_id: bytes,
        ring: Ring,
        salt: bytes = bytes(SALT_BYTES),
    ) -> None:
        self._sender = sender
        self._salt = salt
        self._epoch = epoch
        self._cluster_id = cluster_id
        self._counter = 0
        self._secrets: dict[bytes, bytes] = {}
        self._senders: dict[NodeId, _Sender] = {}
        self.use(ring)

    def use(self, ring: Ring) -> None:
        """Seal with the primary key of `ring` from now on, open what any of its keys sealed."""
        self._secrets = {key_id(secret): secret for secret in ring.keys}
        self._primary = ring.primary
        for sender in self._senders.values():
            sender.ciphers = {k: c for k, c in sender.ciphers.items() if k in self._secrets}
        self._cipher = self._derive(ring.primary, self._sender, self._epoch)

    def renew(self, epoch: int) -> None:
        """Go on as a new run. Raises ValueError for an epoch that may have been used."""
        if epoch <= self._epoch:
            raise ValueError(f"epoch {epoch} is not later than {self._epoch}: nonces would repeat")
        self._epoch = epoch
        self._counter = 0
        self._cipher = self._derive(self._primary, self._sender, epoch)

    def seal(self, payload: bytes) -> bytes:
        counter = self._counter
        self._counter = counter + 1
        epoch = self._epoch
        header = _HEADER.pack(
            FORMAT,
            self._cluster_id[:4],
            self._primary,
            self._sender,
            epoch >> 32,
            epoch & 0xFFFFFFFF,
            self._salt,
            counter,
        )
        return header + self._cipher.encrypt(
            _NONCE.pack(self._salt, counter), payload, header + self._cluster_id
        )

    def open(self, packet: bytes) -> Opened | Refused:
        if len(packet) < OVERHEAD_BYTES:
            return Refused("truncated")
        header = packet[: _HEADER.size]
        form, cluster, key, sender, high, low, salt, counter = _HEADER.unpack(header)
        if form != FORMAT:
            return Refused("format")
        if cluster != self._cluster_id[:4]:
            return Refused("cluster")
        if key not in self._secrets:
            return Refused("key", sender)
        epoch = high << 32 | low
        if sender == self._sender and epoch == self._epoch:
            return Refused("own", sender)
        known = self._senders.get(sender)
        if known is None or known.epoch < epoch:
            fresh = _Sender(epoch)
        elif known.epoch > epoch:
            return Refused("epoch", sender)
        else:
            fresh = known
        cipher = fresh.ciphers.get(key)
        if cipher is None:
            cipher = self._derive(key, sender, epoch)
        try:
            payload = cipher.decrypt(
                _NONCE.pack(salt, counter), packet[_HEADER.size :], header + self._cluster_id
            )
        except InvalidTag:
            return Refused("tag", sender)
        # Only now is it proved that whoever sent this has the key: remember.
        if not fresh.window.accept(counter):
            return Refused("replay", sender)
        fresh.ciphers[key] = cipher
        if fresh is not known:
            if known is None and len(self._senders) >= SENDERS_MAX:
                self._senders.pop(next(iter(self._senders)))
            self._senders[sender] = fresh
        return Opened(sender, epoch, payload)

    def forget(self, sender: NodeId, epoch: int) -> None:
        """Free what is kept for a member that is gone, unless it has come back since."""
        known = self._senders.get(sender)
        if known is not None and known.epoch <= epoch:
            del self._senders[sender]

    def _derive(self, key: bytes, sender: NodeId, epoch: int) -> AESGCM:
        info = b"netd packet 1" + sender + epoch.to_bytes(8, "big")
        return AESGCM(HKDFExpand(SHA256(), 32, info).derive(self._secrets[key]))


class _Sender:
    __slots__ = ("ciphers", "epoch", "window")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.ciphers: dict[bytes, AESGCM] = {}
        self.window = ReplayWindow()
