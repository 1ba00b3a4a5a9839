"""The Unix socket of the page, for a registry that netd starts: it cannot make one itself, as the
folder is root's and the groups are not its own. A service manager has a unit for it.
"""

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from netd.api.auth import Authority
from netd.api.listening import Listener, admit_to, listen
from netd.model.errors import NetdError

log = logging.getLogger(__name__)

NAME: Final = "page.sock"  # beside the API's socket
_MODE: Final = 0o660


class PageSocket:
    """`page.sock` in `folder`, open to those who may read the API by `authority`."""

    def __init__(self, folder: Path, authority: Callable[[], Authority]) -> None:
        self._path = folder / NAME
        self._authority = authority
        self._listener: Listener | None = None

    def open(self) -> socket.socket | None:
        """A new listening socket in the place of the last one, for the caller to close; None where
        it cannot be had, of which the log says why.
        """
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        try:
            self._listener = listen(self._path, self._authority(), _MODE)
        except NetdError as error:
            log.error("there is no page at %s: %s", self._path, error.detail)
            return None
        return self._listener.sock

    def admit(self) -> None:
        """Open the one that the service manager has made to those who may look, if there is one."""
        if self._path.is_socket():
            admit_to(self._path, self._authority())
