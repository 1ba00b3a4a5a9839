"""Docker's driver `netd`, where there is to be one."""

import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from netd.api.auth import Authority
from netd.api.listening import Listener, listen
from netd.daemon.settings.runtimes import Docker
from netd.engine.core import Engine
from netd.model.condition import Condition
from netd.model.errors import Conflict, Unavailable
from netd.runtimes.docker.server import DockerPlugin

log = logging.getLogger(__name__)

CODE: Final = "docker-driver"
_MODE: Final = 0o600  # engines are root
# systemd opens no socket of a service that runs, and netd.socket would start it again.
REMEDY: Final = (
    "under systemd leave docker.enabled out, as its unit may not write there, and use "
    "netd-docker.socket: systemctl enable netd-docker.socket; systemctl stop netd.socket netd; "
    "systemctl start netd-docker.socket netd"
)


class DockerFront:
    """`sockets` are those that the service manager has opened: their being there asks for it."""

    def __init__(self, asked: Docker, engine: Engine, sockets: Sequence[socket.socket]) -> None:
        self._asked = asked
        self._engine = engine
        self._sockets = sockets
        self._listener: Listener | None = None
        self.plugin = DockerPlugin(engine, api=asked.api)

    async def open(self) -> None:
        """Answer engines. When netd cannot listen for them, the log and a condition of the host
        say so, and it goes on: all other containers need it.
        """
        try:
            if self._sockets:
                await self.plugin.serve(self._sockets[0])
            elif self._asked.enabled:
                self._listener = listen(Path(self._asked.socket), Authority(), _MODE)
                await self.plugin.serve(self._listener.sock)
        except (Conflict, Unavailable) as error:
            log.error("Docker has no driver netd: %s; %s", error.detail, REMEDY)
            condition = Condition(
                code=CODE,
                severity="error",
                detail=f"Docker has no driver netd: {error.detail}",
                remedy=REMEDY,
            )
            self._engine.show(CODE, [condition])

    async def close(self) -> None:
        """Answer no longer. Does nothing when it did not."""
        await self.plugin.stop()
        if self._listener is not None:
            # A socket that nobody listens on has engines wait 15 s for it again and again.
            self._listener.close()
            self._listener = None
