"""What a restarted node begins with: the peers it knew, and the keyring.

Both belong to one cluster, which the files name. A peers file that cannot be read costs a
rejoin by the configured addresses, so it is only logged; it never stops anything.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec

from netd.cluster import files
from netd.gossip.ring import Ring
from netd.gossip.values import NODE_ID_BYTES, Address
from netd.model.errors import Unavailable

PEERS_FILE: Final = "peers.json"
PEERS_MAX: Final = 4096
PEERS_FILE_MAX_BYTES: Final = 1 << 20
RING_FILE: Final = "keyring.json"
RING_FILE_MAX_BYTES: Final = 64 << 10

log = logging.getLogger(__name__)

_Id = Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{2 * NODE_ID_BYTES}}}$")]
_Host = Annotated[str, msgspec.Meta(max_length=64)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: _Id
    host: _Host
    port: _Port

    @property
    def address(self) -> Address:
        return self.host, self.port


class _Peers(msgspec.Struct, frozen=True):
    cluster: str
    peers: Annotated[tuple[Peer, ...], msgspec.Meta(max_length=PEERS_MAX)]


class _Keyring(msgspec.Struct, frozen=True):
    cluster: str
    ring: Ring


def load_peers(directory: Path, cluster_id: bytes) -> tuple[Peer, ...]:
    """The peers that were known of this cluster; () when there are none to be read."""
    path = directory / PEERS_FILE
    try:
        stored = msgspec.json.decode(files.read(path, PEERS_FILE_MAX_BYTES), type=_Peers)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        log.warning("%s is not used: %s", path, error)
        return ()
    if stored.cluster != cluster_id.hex():
        log.info("%s is not used: it is of cluster %s", path, stored.cluster)
        return ()
    return stored.peers


def store_peers(directory: Path, cluster_id: bytes, peers: Sequence[Peer]) -> None:
    """Raises OSError; the file is then as it was."""
    stored = _Peers(cluster=cluster_id.hex(), peers=tuple(peers[:PEERS_MAX]))
    files.replace(directory / PEERS_FILE, msgspec.json.encode(stored))


def forget_peers(directory: Path) -> None:
    """Raises OSError."""
    files.remove(directory / PEERS_FILE)


def load_ring(directory: Path, cluster_id: bytes) -> Ring | None:
    """The keyring of this cluster as it was last; None when there is none to be read.

    The first key then follows from the cluster key, and the others give this node the rest.
    """
    path = directory / RING_FILE
    try:
        stored = msgspec.json.decode(files.read(path, RING_FILE_MAX_BYTES), type=_Keyring)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s is not used: %s", path, error)
        return None
    if stored.cluster != cluster_id.hex():
        log.info("%s is not used: it is of cluster %s", path, stored.cluster)
        return None
    if not stored.ring.is_sound():
        log.warning("%s is not used: it has a wrong key, or lacks its primary one", path)
        return None
    return stored.ring


def store_ring(directory: Path, cluster_id: bytes, ring: Ring) -> None:
    """Raises `Unavailable`; the file is then as it was."""
    path = directory / RING_FILE
    stored = _Keyring(cluster=cluster_id.hex(), ring=ring)
    try:
        files.replace(path, msgspec.json.encode(stored))
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from None
