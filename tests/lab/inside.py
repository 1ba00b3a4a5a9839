"""Runs tests of this checkout inside a virtual machine, so on its kernel; scripts/vm-lab --inside.

The machine is the one of the lab, with as many processors as pytest and what it starts can use.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.lab.qemu import ROOT, QemuHost, QemuLab, has_kvm

# The fake kernel is the same on all machines.
TESTS: Final = ("tests/netns", "tests/contract", "-k", "not fake")
TEST_TIMEOUT_S: Final = 60 if has_kvm() else 600
_PLACE: Final = "/root/checkout"


def main(words: list[str]) -> int:
    """Run pytest with these words; the code it ends with."""
    with tempfile.TemporaryDirectory(prefix="netd-vm-") as folder:
        lab = QemuLab(Path(folder, "lab"))
        lab.folder.mkdir()
        lab.processors, lab.memory_mib = 2, 1536
        try:
            lab.up(1, profile="lan")
            [host] = lab.hosts
            host.stop_netd()  # what tests make is theirs alone
            _copy_checkout(host)
            return _run_tests(host, words or list(TESTS))
        finally:
            lab.down()


def _copy_checkout(host: QemuHost) -> None:
    """Files that git knows, as they are now."""
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, capture_output=True, check=True)
    pack = ("tar", "--create", "--gzip", "--null", "--files-from=-")
    packed = subprocess.run(pack, cwd=ROOT, input=listed.stdout, capture_output=True, check=True)
    host.run("mkdir", "-p", _PLACE)
    unpack = host.wrap("tar", "--extract", "--gzip", "--directory", _PLACE)
    subprocess.run(unpack, input=packed.stdout, check=True, timeout=600)


def _run_tests(host: QemuHost, words: list[str]) -> int:
    environment = (f"PYTHONPATH={_PLACE}:/root/packages", "PYTHONDONTWRITEBYTECODE=1")
    pytest = ("/opt/netd/bin/python", "-m", "pytest", "-p", "no:cacheprovider")
    limit = ("--timeout", str(TEST_TIMEOUT_S))
    command = ("env", "--chdir", _PLACE, *environment, *pytest, *limit, *words)
    return subprocess.run(host.wrap(*command), stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
