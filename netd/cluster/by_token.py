"""Entering the cluster by the token of the configuration, once its issuer is there."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from netd.cluster.addresses import Place
from netd.cluster.participation import Participation
from netd.cluster.running import Running
from netd.cluster.tokens import JoinToken
from netd.model.errors import NetdError, Unavailable

AGAIN_S: Final = 2.0  # at first; each time twice as long ...
AGAIN_MAX_S: Final = 60.0  # ... up to this

log = logging.getLogger(__name__)


class JoinByToken:
    """`problem` says why it has not succeeded yet. The issuer may be at `also` as well."""

    def __init__(
        self, participation: Participation, token: JoinToken, also: Sequence[Place]
    ) -> None:
        self.problem = ""
        self._participation = participation
        self._token = token
        self._also = also
        self._running: Running | None = None

    async def run(self) -> None:
        """Try until the issuer is there: hosts may start in any order."""
        pause_s = AGAIN_S
        while not self._has_gone_on():
            try:
                problem = await self._enter()
            except Unavailable as error:
                problem = error.detail
            except NetdError as error:
                self._note(error.detail)
                return
            self._note(f"{problem}; it is tried again" if problem else "")
            if not problem:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_MAX_S)

    async def _enter(self) -> str:
        """Why no member has answered; "" when one has."""
        self._running = await self._participation.enter(self._token, self._also)
        places = [*(Place(*address) for address in self._token.addresses), *self._also]
        answers = await asyncio.gather(*map(self._running.join, places))
        return "" if "" in answers else "; ".join(answers)

    def _has_gone_on(self) -> bool:
        """Whether somebody has had this host enter or leave meanwhile."""
        return self._participation.running is not self._running

    def _note(self, detail: str) -> None:
        if detail and detail != self.problem:
            log.warning("this host is on its own: %s", detail)
        self.problem = detail
