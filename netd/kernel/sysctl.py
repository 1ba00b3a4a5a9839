"""Kernel parameters below /proc/sys.

Names have slashes, e.g. `net/ipv4/ip_forward`: with dots, the interface `eth0.5` could not be
named. The network namespace is that of the calling thread, not of the process that reads:
/proc/sys/net is resolved at open (net/sysctl_net.c).
"""

from pathlib import Path
from typing import Final

ROOT: Final = Path("/proc/sys")


def read(name: str) -> str | None:
    """The parameter's value without the final newline; None where the kernel has none such.

    Raises `ValueError` for a name that leads out of /proc/sys, `OSError` when the parameter
    is there and cannot be read.
    """
    try:
        return _path(name).read_text(encoding="utf-8").rstrip("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(name: str, value: str) -> None:
    """Set a parameter. Raises `OSError` with the kernel's reason, `ValueError` as `read` does.

    The kernel takes a value in one write(2); its parsers end at a newline and ignore what
    follows, so a value with one would be cut without an error.
    """
    if "\n" in value:
        raise ValueError(f"sysctl value {value!r} has a newline")
    # Opened without O_CREAT: in a procfs that has no such entry the error then is ENOENT,
    # not EACCES.
    with _path(name).open("r+b", buffering=0) as file:
        file.write(value.encode())


def is_pointless(name: str) -> bool:
    """Whether the parameter is IPv6's and this kernel has no IPv6 that it could restrain."""
    return name.startswith("net/ipv6/") and not (ROOT / "net/ipv6").exists()


def _path(name: str) -> Path:
    parts = name.split("/")
    if not all(parts) or "." in parts or ".." in parts or "\0" in name:
        raise ValueError(f"{name!r} does not name a kernel parameter")
    return ROOT / name
