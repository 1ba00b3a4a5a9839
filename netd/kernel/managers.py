"""Programs of the host that configure links, unless they are told to leave some alone."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec


class Manager(msgspec.Struct, frozen=True):
    """`runs` exists while it runs; a file of `told` whose text has `marker` keeps it off."""

    name: str
    runs: str
    told: tuple[str, ...]
    marker: str


MANAGERS: Final = (
    Manager(
        "NetworkManager",
        "run/NetworkManager/NetworkManager.pid",
        ("etc/NetworkManager/conf.d/*.conf", "usr/lib/NetworkManager/conf.d/*.conf"),
        "interface-name:nd-",
    ),
    Manager(
        "systemd-networkd",
        "run/systemd/netif/state",
        ("etc/systemd/network/*.network", "usr/lib/systemd/network/*.network"),
        "nd-*",
    ),
)


def unaware_managers(root: Path = Path("/")) -> frozenset[str]:
    """Those that run and were not told to leave netd's links alone."""
    return frozenset(
        manager.name
        for manager in MANAGERS
        if (root / manager.runs).exists() and not _is_told(root, manager)
    )


def _is_told(root: Path, manager: Manager) -> bool:
    files: Iterable[Path] = (file for pattern in manager.told for file in root.glob(pattern))
    return any(manager.marker in file.read_text(errors="replace") for file in files)
