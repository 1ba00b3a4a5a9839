"""The kinds of labs that there are."""

import os
from pathlib import Path
from typing import Final

from tests.lab.lab import Lab
from tests.lab.namespaces import NamespaceLab
from tests.lab.qemu import QemuLab
from tests.lab.vagrant import VagrantLab

KIND: Final = os.environ.get("NETD_TEST_LAB", "namespaces")
COUNT: Final = int(os.environ.get("NETD_TEST_LAB_HOSTS", "3"))
# Machines that are emulated are slow to answer each other.
PROFILE: Final = "fast" if KIND == "namespaces" else "lan"


def make(folder: Path, kind: str = KIND) -> Lab:
    """A lab of that kind, not up yet; `folder` is for what it keeps. It ends with this process."""
    if kind == "namespaces":
        return NamespaceLab(folder)
    if kind == "qemu":
        return QemuLab(folder)
    if kind == "vagrant":
        return VagrantLab(folder)
    raise ValueError(f"there are no labs of kind {kind!r}")
