"""Attachments that a runtime deleted while no daemon was there to hear it.

Each is a file beside the daemon's socket. The daemon works them off before it listens, and so does
the next call of a plugin that reaches one. A boot ends endpoints anyway, so /run is the place.
"""

from __future__ import annotations

import os

from netd.runtimes.shim import jsontext
from netd.runtimes.shim.daemon import (
    IFNAME_LABEL,
    NETWORK_LABEL,
    RUNTIME_LABEL,
    Refused,
    Silent,
    Unreachable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from netd.runtimes.shim.daemon import Daemon

_BYTES_MAX = 64 * 1024


class Tombstone:
    """An attachment that is to be gone: `runtime` is the kind, `cni` or `netavark`, as both may
    have a network of that name; `network` is its name in the runtime's configuration.
    """

    def __init__(self, runtime: str, container: str, network: str, ifname: str) -> None:
        self.runtime = runtime
        self.container = container
        self.network = network
        self.ifname = ifname

    def names(self, labels: Mapping[str, str]) -> bool:
        """Whether an endpoint of the container is this attachment, by its labels.

        One that was attached before there was a label for the runtime is of either.
        """
        return (
            labels.get(RUNTIME_LABEL, self.runtime) == self.runtime
            and labels.get(NETWORK_LABEL) == self.network
            and labels.get(IFNAME_LABEL) == self.ifname
        )

    def write(self, folder: str) -> str:
        """Leave it in `folder`: the file. Raises OSError."""
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - pathlib takes too long
        text = jsontext.dumps(
            {
                "runtime": self.runtime,
                "container": self.container,
                "network": self.network,
                "ifname": self.ifname,
            }
        )
        name = f"{folder}/{os.getpid()}-{os.urandom(8).hex()}"
        descriptor = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
            os.rename(f"{name}.new", f"{name}.json")  # noqa: PTH104
        except OSError:
            remove(f"{name}.new")
            raise
        return f"{name}.json"


def found(folder: str) -> Iterator[tuple[str, Tombstone]]:
    """All that are there, with their files. What is no tombstone is taken away."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return
    for name in names:
        file = f"{folder}/{name}"
        if name.endswith(".json"):
            tombstone = _read(file)
            if tombstone is not None:
                yield file, tombstone
                continue
            try:
                remove(file)
            except OSError:
                continue  # such as a folder: it does no harm


def remove(file: str) -> None:
    """Raises OSError."""
    try:
        os.unlink(file)  # noqa: PTH108
    except FileNotFoundError:
        return


def delete(daemon: Daemon, tombstone: Tombstone) -> bool:
    """Detach what a tombstone names; where the daemon cannot, leave it, and the answer is False.

    Raises `Refused` for what it never will do, `Unreachable` when it cannot be left.
    """
    try:
        _detach(daemon, tombstone)
    except (Unreachable, Refused) as error:
        if isinstance(error, Refused) and error.status < 500:
            raise
        try:
            file = tombstone.write(daemon.tombstones)
        except OSError as refusal:
            raise Unreachable(
                f"{error}; and it cannot be noted for later: {refusal.strerror}"
            ) from None
        # The daemon may have looked for tombstones before this one was there, and listen by now.
        gone = isinstance(error, Unreachable) and not isinstance(error, Silent)
        return gone and _delete_after_all(daemon, tombstone, file)
    return True


def _delete_after_all(daemon: Daemon, tombstone: Tombstone, file: str) -> bool:
    try:
        _detach(daemon, tombstone)
    except (Unreachable, Refused):
        return False
    remove(file)
    return True


def _detach(daemon: Daemon, tombstone: Tombstone) -> None:
    for endpoint in daemon.endpoints(tombstone.container):
        if tombstone.names(endpoint["labels"]):
            daemon.detach(endpoint["id"])
    daemon.work_off()


def work_off(daemon: Daemon) -> list[tuple[str, Refused]]:
    """Detach what tombstones name. Those at which the daemon fails stay: of which containers they
    are, and why. Raises `Unreachable`.
    """
    left: list[tuple[str, Refused]] = []
    for file, tombstone in found(daemon.tombstones):
        try:
            for endpoint in daemon.endpoints(tombstone.container):
                # Somebody else may have worked it off since, and the runtime attached it anew.
                if tombstone.names(endpoint["labels"]) and os.path.exists(file):  # noqa: PTH110
                    daemon.detach(endpoint["id"])
        except Refused as refusal:
            left.append((tombstone.container, refusal))
        else:
            remove(file)
    return left


def _read(file: str) -> Tombstone | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            table: Any = jsontext.loads(os.read(descriptor, _BYTES_MAX))
        finally:
            os.close(descriptor)
        # One without a runtime is older than this word, and CNI's most likely.
        words = [
            table.get("runtime", "cni"),
            table["container"],
            table["network"],
            table["ifname"],
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return Tombstone(*words) if all(isinstance(word, str) for word in words) else None
