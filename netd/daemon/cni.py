"""What the daemon does for runtimes that speak CNI: it works off what they deleted while it was
away, and offers its configuration once it can serve them.
"""

import asyncio
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from netd.daemon.settings.runtimes import Cni
from netd.engine.core import Engine
from netd.model.errors import NetdError
from netd.runtimes.cni.call import VERSIONS
from netd.runtimes.shim.daemon import DEFAULT_SOCKET, tombstones_of
from netd.runtimes.shim.tombstones import found, remove

log = logging.getLogger(__name__)

PLUGIN: Final = "netd-cni"
# A folder that a runtime's installation makes anew has no file of netd's, and without one no pod
# comes or goes.
OFFER_S: Final = 10.0
CAPABILITIES: Final = ("aliases", "bandwidth", "dns", "ips", "mac", "portMappings")


async def bury(engine: Engine, socket: str) -> None:
    """Detach what runtimes have deleted while nobody listened at `socket`.

    To be done before anybody does: nobody has attached the same again by then. What cannot be
    detached stays for the next call of the plugin.
    """
    for file, tombstone in found(tombstones_of(socket)):
        try:
            for endpoint in engine.endpoints(container_id=tombstone.container):
                if tombstone.names(endpoint.labels):
                    await engine.detach(endpoint.id)
            remove(file)
        except NetdError as error:
            log.error("container %s stays attached: %s", tombstone.container, error.detail)
        except OSError as error:
            log.error("a note of what was deleted stays: %s: %s", error.filename, error.strerror)


class Offer:
    """The runtimes' configuration as a file of theirs; nothing where none is configured."""

    def __init__(self, settings: Cni, socket: str) -> None:
        self._settings = settings
        self._refusal = ""
        self._text = json.dumps(conflist(settings, socket), indent=2) + "\n"

    async def make(self) -> None:
        """Have runtimes find netd. They watch the folder: a file that is as it should be stays."""
        if not self._settings.conflist:
            return
        refusal = ""
        try:
            await asyncio.to_thread(_install, Path(self._settings.conflist), self._text)
        except OSError as error:
            refusal = f"{error.filename}: {error.strerror}"
            if refusal != self._refusal:
                log.error("runtimes do not find netd: %s", refusal)
        self._refusal = refusal

    async def keep(self) -> None:
        """Have it there again when it is gone, until this is cancelled."""
        while True:
            await asyncio.sleep(OFFER_S)
            await self.make()

    def withdraw(self) -> None:
        """Have runtimes start no more containers, if that is wanted while netd is away."""
        if self._settings.withdraw:
            self.remove()

    def remove(self) -> bool:
        """Have runtimes find netd no more; whether they could."""
        if not self._settings.conflist:
            return False
        try:
            Path(self._settings.conflist).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            log.error("runtimes still find netd: %s: %s", error.filename, error.strerror)
            return False
        return True


def conflist(settings: Cni, socket: str) -> dict[str, Any]:
    """The network configuration list.

    Its `cniVersion` is one that runtimes of 2021 know, too; those that know `cniVersions` take
    the newest of both.
    """
    plugin: dict[str, Any] = {"type": PLUGIN}
    if socket != DEFAULT_SOCKET:
        plugin["socket"] = socket
    if settings.network:
        plugin["network"] = settings.network
    if settings.subnets:
        plugin["ipam"] = {"ranges": [[{"subnet": subnet}] for subnet in settings.subnets]}
    if not settings.masquerade:
        plugin |= {"ipMasq": False, "isolated": False, "hairpinMode": True}
    plugin["capabilities"] = dict.fromkeys(CAPABILITIES, True)
    return {
        "cniVersion": VERSIONS[-2],
        "cniVersions": list(VERSIONS),
        "name": settings.name,
        "plugins": [plugin],
    }


def _install(file: Path, text: str) -> None:
    """Write it whole or not at all. Its folder is made; what is there already is left alone."""
    with suppress(FileNotFoundError):
        if file.read_bytes() == text.encode():
            return
    file.parent.mkdir(parents=True, exist_ok=True)
    # A name that no runtime takes for a configuration.
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text(text)
        draft.chmod(0o644)  # there are no secrets in it, and some runtimes are not root
        draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)
