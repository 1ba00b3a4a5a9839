"""What a service tells its manager, and what it is given: sd_notify(3), sd_listen_fds(3).

Nothing here needs systemd: without `NOTIFY_SOCKET` all calls do nothing.
"""

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

FIRST_SOCKET: Final = 3  # SD_LISTEN_FDS_START
IMPORTANT_WAIT_S: Final = 1.0


class ServiceManager:
    """The way to the service manager. `watchdog_s` is how often it wants a sign of life.

    Takes its variables out of the environment, so that no child process takes them for its
    own. `watchdog_s` is None when there is no watchdog.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = _address(environment.pop("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment)

    @property
    def present(self) -> bool:
        """Whether a service manager has started this process."""
        return bool(self._address)

    def ready(self, status: str) -> bool:
        """Started, or done with reloading."""
        return self._tell(IMPORTANT_WAIT_S, READY="1", STATUS=status)

    def reloading(self) -> bool:
        """Reloading begins; `ready` ends it."""
        # The time is what systemd tells this reload from an earlier one by.
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._tell(IMPORTANT_WAIT_S, RELOADING="1", MONOTONIC_USEC=str(now_us))

    def stopping(self) -> bool:
        return self._tell(IMPORTANT_WAIT_S, STOPPING="1")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._tell(0.0, STATUS=text)

    def alive(self) -> bool:
        """The sign of life that the watchdog waits for."""
        return self._tell(0.0, WATCHDOG="1")

    def _tell(self, wait_s: float, **assignments: str) -> bool:
        """Whether the manager has got it. What recurs does not wait, what comes once may."""
        if not self._address:
            return False
        lines = (f"{key}={value.replace(chr(10), ' ')}" for key, value in assignments.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(wait_s)
            try:
                channel.sendto("\n".join(lines).encode(), self._address)
            except OSError:  # full, or no manager listens any more: the service goes on
                return False
        return True


def take_sockets(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The sockets that the manager has opened, by FileDescriptorName=; {} when none.

    Takes the variables out of the environment. Raises `ValueError` when they are not numbers.
    """
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if not pid or int(pid) != os.getpid():
        return {}
    found: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        descriptor = FIRST_SOCKET + index
        os.set_inheritable(descriptor, False)
        name = names[index] if index < len(names) and names[index] else "unknown"
        found.setdefault(name, []).append(socket.socket(fileno=descriptor))
    return found


def _address(text: str) -> str:
    """A path, or an abstract name, which is written with '@' for its leading NUL."""
    return "\0" + text[1:] if text.startswith("@") else text


def _watchdog_s(environment: MutableMapping[str, str]) -> float | None:
    pid = environment.pop("WATCHDOG_PID", "")
    interval_us = environment.pop("WATCHDOG_USEC", "")
    if not interval_us.isdecimal() or int(interval_us) == 0:
        return None
    return int(interval_us) / 1e6 if pid in ("", str(os.getpid())) else None
