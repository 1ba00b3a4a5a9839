"""systemd-resolved, and the names that it is to ask netd for.

One file says so (resolved.conf(5)): `DNS=` is where netd answers this host, `Domains=` are netd's
zones, which no other name server is asked for. The built-in list of zones without DNSSEC has
`internal`; a list of our own would take its place, so there is none.
"""

import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from netd.cli.failure import Failure

ROOT: Final = Path("/")
DROP_IN: Final = "etc/systemd/resolved.conf.d/netd.conf"
UNIT: Final = "systemd-resolved.service"

_RUNS: Final = "run/systemd/resolve/resolv.conf"  # is there since it was started
_REFUSED: Final = ("127.0.0.53", "127.0.0.54")  # its own, which it takes for no name server
_INSTEAD: Final = "127.0.0.55"  # where netd answers if it cannot at these
_ZONE: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_RELOAD_S: Final = 30
_DNS_PORT: Final = 53


def runs() -> bool:
    return (ROOT / _RUNS).exists()


def wanted(zone: dict[str, Any], listening: list[str]) -> str:
    """What the file has to say, for a daemon with these settings whose registry listens there.

    Raises `Failure` when systemd-resolved could not ask there.
    """
    settings = zone["settings"]
    server = _server(settings, listening)
    if server is None:
        raise Failure(
            f"systemd-resolved cannot ask netd at {settings['host_address'] or 'no address'}",
            hint=f"Set dns.host_address to another one, such as {_INSTEAD}, and restart netd; "
            "'netctl dns status' shows where it listens.",
        )
    zones = [name for name in (zone["zone"], settings["consul_zone"]) if name]
    for name in zones:
        if not _ZONE.fullmatch(name):
            raise Failure(f"{name!r} is not the name of a zone")
    domains = " ".join(f"~{name}" for name in zones)
    return (
        "# Made by 'netctl doctor --fix'. Without this file, after\n"
        f"# 'systemctl try-reload-or-restart {UNIT}', all is as it was before.\n"
        f"[Resolve]\nDNS={server}\nDomains={domains}\n"
    )


def finding(text: str) -> dict[str, Any]:
    """Whether systemd-resolved has been told, as a finding of the doctor."""
    found = {"check": "systemd-resolved", "remedy": ""}
    if _read(ROOT / DROP_IN) == text:
        return found | {"level": "ok", "detail": "it asks netd for netd's names"}
    return found | {
        "level": "warning",
        "detail": "it does not ask netd: programs of this host do not find netd's names",
        "remedy": "netctl doctor --fix",
    }


def hand_over(text: str) -> bool:
    """Write the file and have it read, unless it is there. Raises `Failure`; the file is then
    there, or is as before.
    """
    path = ROOT / DROP_IN
    if _read(path) == text:
        return False
    part = path.with_suffix(".part")  # systemd reads what ends in .conf
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise Failure(
            f"{path} cannot be written: {error.strerror}", hint="Only root may do this."
        ) from error
    _reload()
    return True


def _server(settings: dict[str, Any], listening: list[str]) -> str | None:
    """Where to ask, in the form of `DNS=`: at port 53, or at Consul's."""
    own = settings["host_address"]
    address = _INSTEAD if own in _REFUSED else own
    shown = f"[{address}]" if ":" in address else address
    for port in (settings["port"], settings["consul_port"]):
        if f"{shown}:{port}" in listening:
            return address if port == _DNS_PORT else f"{shown}:{port}"
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _reload() -> None:
    command = ["systemctl", "try-reload-or-restart", UNIT]
    hint = f"Run '{' '.join(command)}'."
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_RELOAD_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"systemd-resolved was not told: {error}", hint=hint) from error
    if done.returncode:
        why = " ".join(done.stderr.split())
        raise Failure(f"systemd-resolved was not told: {why}", hint=hint)
