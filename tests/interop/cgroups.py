"""Control groups that engines and runtimes make: of the machine, as no namespace keeps them apart
in both versions, so they stay when a test's processes end.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
EMPTY_S = 5.0  # for so long the last processes may need to be gone
_SYSTEMD = (".slice", ".scope", ".service", ".mount", ".socket")


def at_the_top(root: Path = ROOT) -> set[Path]:
    """The groups at the top of each hierarchy, but for systemd's."""
    unified = (root / "cgroup.procs").exists()
    return {
        group
        for hierarchy in ([root] if unified else _folders(root))
        for group in _folders(hierarchy)
        if group.suffix not in _SYSTEMD
    }


def remove_new(before: set[Path], root: Path = ROOT, within_s: float = EMPTY_S) -> None:
    """Remove the groups that came since, with those in them. One with a process in it stays."""
    deadline_s = time.monotonic() + within_s
    while new := at_the_top(root) - before:
        for group in new:
            for folder, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):  # somebody is in it
                    Path(folder).rmdir()
        if time.monotonic() > deadline_s:
            return
        time.sleep(0.02)  # nothing tells that a process has left its group


def _folders(place: Path) -> list[Path]:
    try:
        return [each for each in place.iterdir() if each.is_dir() and not each.is_symlink()]
    except OSError:  # it is gone, or there are none on this machine
        return []
