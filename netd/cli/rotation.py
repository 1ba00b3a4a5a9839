"""`netctl key rotate`: from one key to the next without a packet that somebody cannot open."""

import time
from collections.abc import Callable

from netd.cli.connection import netctl
from netd.cli.failure import Failure, say
from netd.client import ApiError, Client

POLL_S = 0.5  # members tell each other of keys by gossip: there is no call that waits for it


class Rotation:
    """Installs, uses and removes keys, each when all members are ready for it.

    After `timeout_s` it fails and says which commands are left to do.
    """

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client = client
        self._deadline_s = time.monotonic() + timeout_s
        self._left: list[str] = []  # to do, in order

    def run(self) -> str:
        """Rotate; return the new key's id."""
        keys = self._client.keys()
        old = next((key["id"] for key in keys if key["primary"]), None)
        if old is None:
            raise Failure(
                "this host has no key to replace",
                hint="'netctl key generate' makes one for a cluster; see cluster.key_file.",
            )
        new: str = self._client.install_key()["id"]
        self._left = [f"key use {new}", f"key rm {old}"]
        say(f"key {new} is installed; waiting until all members have it")
        self._wait_for(new, "holders", "it is missing on")
        self._try(lambda: self._client.use_key(new))
        del self._left[0]
        say(f"key {new} is in use; waiting until nobody sends with {old}")
        self._wait_for(new, "users", "it is not in use on")
        self._try(lambda: self._client.remove_key(old))
        say(f"key {old} is removed")
        return new

    def _wait_for(self, key_id: str, role: str, otherwise: str) -> None:
        """Wait until all members that are alive are among the key's `role`."""
        told: set[str] = set()
        while missing := self._missing(key_id, role):
            why = f"{otherwise} {', '.join(sorted(missing))}"
            if missing != told:
                say(f"  {why}")
                told = missing
            self._pause(why)

    def _missing(self, key_id: str, role: str) -> set[str]:
        alive = {host["name"] for host in self._client.members() if host["state"] == "alive"}
        keys = self._client.keys()
        return alive.difference(*(key[role] for key in keys if key["id"] == key_id))

    def _try(self, change: Callable[[], object]) -> None:
        """Do it as soon as it contradicts nothing any more."""
        told = ""
        while True:
            try:
                change()
            except ApiError as error:
                if error.code != "conflict":
                    raise
                if error.detail != told:
                    say(f"  {error.detail}")
                    told = error.detail
                self._pause(error.detail)
            else:
                return

    def _pause(self, why: str) -> None:
        if time.monotonic() >= self._deadline_s:
            commands = "; ".join(f"{netctl()} {command}" for command in self._left)
            raise Failure(
                f"not done in time: {why}",
                hint=f"Left to do, when that is mended: {commands}",
            )
        time.sleep(POLL_S)
