"""Follows the engine, which tells drivers no names: which container has which endpoint.

Beside the plugin's calls, never within one: the engine may hold a lock until that is answered.
"""

import asyncio
import json
import logging
from contextlib import suppress
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError

from netd.model.endpoint import Endpoint, EndpointPatch
from netd.model.errors import Invalid, NetdError
from netd.runtimes.docker.container_names import (
    Container,
    EngineNetwork,
    Happening,
    names_of,
)
from netd.runtimes.docker.idle import Idle, idle
from netd.runtimes.docker.networks import Networks
from netd.runtimes.docker.translation import (
    ALIASES_LABEL,
    CONTAINER_LABEL,
    NAME_LABEL,
    NETWORK_LABEL,
)
from netd.runtimes.docker.use_cases import UseCases
from netd.runtimes.docker.wire import NetworkCall
from netd.tasks import Tasks

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
ANSWER_S: Final = 15.0
STARTED_S: Final = 120.0  # a container that starts answers when it has, however busy the host is
FORGOTTEN_S: Final = 10.0  # for so long the engine does not show what it is about to create
QUESTIONS_MAX: Final = 64  # at a time
WAITING_MAX: Final = 1000
LINE_MAX_BYTES: Final = 1 << 20
_NONSENSE: Final = (
    aiohttp.ClientResponseError,
    HttpProcessingError,  # a line that is too long is one, and no ClientError
    ValueError,  # msgspec's errors are ValueErrors
)
_UNREACHABLE: Final = (OSError, TimeoutError, aiohttp.ClientError, *_NONSENSE)

T = TypeVar("T")


class Namer:
    """`api` is the path of the engine's socket."""

    def __init__(self, cases: UseCases, networks: Networks, api: str) -> None:
        self._cases = cases
        self._networks = networks
        self._api = api
        self._room = asyncio.Semaphore(QUESTIONS_MAX)
        self._places = asyncio.Semaphore(WAITING_MAX)
        self.waiting = 0  # containers whose names are asked for
        self._is_managers = False  # the engine's socket, when it was last seen
        self.activated = asyncio.Event()  # set when an engine begins to use netd
        self.followed = asyncio.Event()  # set while the engine is followed
        self.caught_up = asyncio.Event()  # and what it has, and has forgotten, is known

    async def run(self) -> None:
        """Follow the engine, and the next one when it has ended, for ever."""
        while True:
            runs = False
            try:
                async with self._session() as session:
                    await self._follow(session)
            except _UNREACHABLE as error:
                log.debug("no engine at %s: %s", self._api, error)
                runs = isinstance(error, _NONSENSE)
            finally:
                self.followed.clear()
                self.caught_up.clear()
            if self._is_managers and not runs:
                # To connect would start an engine that somebody has stopped.
                self.activated.clear()
                await self.activated.wait()
            else:
                await asyncio.sleep(RETRY_S)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            "http://docker",
            connector=aiohttp.UnixConnector(path=self._api, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_S),
            read_bufsize=LINE_MAX_BYTES,
        )

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        wanted = json.dumps({"type": ["network", "container"], "event": ["connect", "rename"]})
        work = Tasks()  # ends with the session that it uses
        try:
            async with (
                session.get("/events", params={"filters": wanted}) as events,
                idle(self._api) as unused,
            ):
                events.raise_for_status()
                self._is_managers = unused.is_managers
                # What happens from now on is told; so now what is so already.
                work.start("names of Docker's containers now", self._catch_up(session))
                work.start("the end of Docker's engine", self._let_go(events, unused))
                self.followed.set()
                async for line in events.content:
                    happening = msgspec.json.decode(line, type=Happening)
                    await self._places.acquire()  # until then the engine's side fills up
                    self.waiting += 1
                    work.start("names of a container", self._heed(session, happening))
        finally:
            await work.stop()

    async def _let_go(self, events: aiohttp.ClientResponse, unused: Idle) -> None:
        """Follow the engine no longer when it begins to end: it would wait for that."""
        with suppress(OSError):
            await unused.closed()
        events.close()

    async def _catch_up(self, session: aiohttp.ClientSession) -> None:
        try:
            for network in await self._engine_networks(session):
                try:
                    await self._name_network(session, network.id)
                except (aiohttp.ClientResponseError, NetdError) as error:
                    log.warning("network %s of Docker's: %s", network.id[:12], error)  # just gone
            await self._end_forgotten(session)
            self.caught_up.set()
        except (*_UNREACHABLE, NetdError) as error:
            log.warning("the engine's containers: %s", error)

    async def _end_forgotten(self, session: aiohttp.ClientSession) -> None:
        """End what an engine that was killed at the wrong moment knows nothing of any more."""
        networks, endpoints = await self._forgotten(session)
        if not networks and not endpoints:
            return
        await asyncio.sleep(FORGOTTEN_S)
        networks_still, endpoints_still = await self._forgotten(session)
        for endpoint_id in endpoints & endpoints_still:
            log.warning("the engine does not know the container of endpoint %s", endpoint_id)
            await self._cases.detach(endpoint_id)
        used = {endpoint.labels.get(NETWORK_LABEL) for endpoint in self._cases.endpoints()}
        for docker_id in (networks & networks_still) - used:
            log.warning("the engine does not know network %s any more", docker_id[:12])
            await self._networks.delete(NetworkCall(network_id=docker_id))

    async def _forgotten(self, session: aiohttp.ClientSession) -> tuple[set[str], set[str]]:
        """Networks, by the engine's ids, and endpoints, by netd's, that it does not know.

        Of endpoints only those whose end is still where netd has put it: no container has it.
        """
        networks = set(self._networks.ids())
        unmoved = await self._cases.unmoved()
        shown = await self._engine_networks(session)
        known: set[str] = set()
        for network in shown if unmoved else ():
            whole = await self._get(session, f"/networks/{network.id}", EngineNetwork)
            known |= {attached.endpoint_id for attached in (whole.containers or {}).values()}
        endpoints = {
            endpoint.id
            for endpoint in self._cases.endpoints()
            if endpoint.id in unmoved and endpoint.container_id not in known
        }
        return networks - {network.id for network in shown}, endpoints

    async def _engine_networks(self, session: aiohttp.ClientSession) -> tuple[EngineNetwork, ...]:
        filters = quote(json.dumps({"driver": ["netd"]}))
        return await self._get(session, f"/networks?filters={filters}", tuple[EngineNetwork, ...])

    async def _heed(self, session: aiohttp.ClientSession, happening: Happening) -> None:
        try:
            match happening.type, happening.action:
                case "network", "connect" if happening.actor.id in self._networks.ids():
                    container = happening.actor.attributes.get("container", "")
                    # The name is known before the container runs, the rest only when it does.
                    await self._name_network(session, happening.actor.id, but=container)
                    await self._name_container(session, container)
                case "container", "rename":
                    await self._name_container(session, happening.actor.id)
                case _:
                    pass
        except (*_UNREACHABLE, NetdError) as error:
            log.warning("the engine's containers: %s", error)
        finally:
            self.waiting -= 1
            self._places.release()

    async def _name_network(
        self, session: aiohttp.ClientSession, docker_id: str, but: str = ""
    ) -> None:
        """Name all on a network; `but` only by what the network tells."""
        network = await self._get(session, f"/networks/{docker_id}", EngineNetwork)
        for container_id, attached in network.joined.items():
            endpoint = self._find(attached.endpoint_id)
            if endpoint is not None and not endpoint.aliases:
                await self._put(endpoint, container_id, attached.name, (), {})
                if container_id != but:
                    await self._name_container(session, container_id)

    async def _name_container(self, session: aiohttp.ClientSession, container_id: str) -> None:
        path = f"/containers/{quote(container_id)}/json"
        found = await self._get(session, path, Container, within_s=STARTED_S)
        for member in found.memberships:
            endpoint = self._find(member.endpoint_id)
            if endpoint is not None:
                await self._put(endpoint, found.id, found.name, member.aliases or (), found.labels)

    async def _put(
        self,
        endpoint: Endpoint,
        container_id: str,
        name: str,
        aliases: tuple[str, ...],
        labels: dict[str, str],
    ) -> None:
        name = name.removeprefix("/")
        given = endpoint.labels.get(ALIASES_LABEL, "").split(",")
        names = names_of(container_id, name, (*given, *aliases))
        own = endpoint.name
        if own in (endpoint.container_id[:12], endpoint.labels.get(NAME_LABEL)):
            own = name if name in names else ""  # else it was given as netd.name
        names = tuple(text for text in names if text != own)
        known = {CONTAINER_LABEL: container_id, NAME_LABEL: name}
        wanted = EndpointPatch(
            name=own, aliases=names, labels={**endpoint.labels, **labels, **known}
        )
        try:
            await self._cases.update_endpoint(endpoint.id, wanted)
        except Invalid as error:
            # Somebody's label, as the names are known to be right: those are not to suffer.
            log.warning("container %s: %s", name, error.detail)
            wanted = msgspec.structs.replace(wanted, labels={**endpoint.labels, **known})
            await self._cases.update_endpoint(endpoint.id, wanted)

    def _find(self, endpoint_id: str) -> Endpoint | None:
        found = self._cases.endpoints(container_id=endpoint_id) if endpoint_id else ()
        return found[0] if found else None

    async def _get(
        self,
        session: aiohttp.ClientSession,
        path: str,
        kind: type[T],
        within_s: float = ANSWER_S,
    ) -> T:
        async with self._room, asyncio.timeout(within_s), session.get(path) as answer:
            answer.raise_for_status()
            return msgspec.json.decode(await answer.read(), type=kind)
