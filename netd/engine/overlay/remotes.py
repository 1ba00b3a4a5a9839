"""What is on the other hosts, and what of it belongs into this host's kernel.

All of it comes from records. Of two endpoints with the same address or MAC the one that was
attached last has it, and one of this host before any other. Changes are collected and applied
together; those that come meanwhile make the next batch.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from netd.engine.overlay.announcing import Announcing
from netd.engine.parts import Parts
from netd.model.endpoint import Endpoint
from netd.model.errors import KernelFailure
from netd.model.network import Network
from netd.model.overlay import RemoteEndpoint
from netd.plan.diff import diff
from netd.plan.objects import Object, State, state_of
from netd.plan.operations import Operation
from netd.plan.overlay import Opening, are_within, flood_objects, gateway_mac, remote_objects
from netd.plan.tunnels import FdbEntry

log = logging.getLogger(__name__)

HOST_ITSELF = ""  # in the place of an endpoint's id: the host's own addresses in the network


class Key(NamedTuple):
    """Something on another host; `member` is the host's id."""

    network_id: str
    member: str
    endpoint_id: str

    @property
    def owner(self) -> str:
        """Whose objects they are: ids of endpoints may be here and there, for a moment."""
        return f"{self.member[:16]}-{self.endpoint_id or self.network_id}"


class Remotes:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: dict[Key, RemoteEndpoint] = {}
        self._holders: defaultdict[tuple[str, str], set[Key]] = defaultdict(set)
        self._of_member: defaultdict[str, set[Key]] = defaultdict(set)
        self._of_network: defaultdict[str, set[Key]] = defaultdict(set)
        # (network, address or MAC) -> id of the endpoint, or of the network for the host's own
        self._local: dict[tuple[str, str], str] = {}
        self._places: dict[str, str] = {}  # member -> its address in the underlay
        self._opened: dict[str, Network] = {}
        self._dirty: dict[Key, None] = {}
        self._new: set[str] = set()  # owners of what came while its network was open
        self._announcing = Announcing(parts)
        self._news = asyncio.Event()
        self.writing = asyncio.Lock()  # held while entries are written

    # What changes

    def put(self, key: Key, remote: RemoteEndpoint | None) -> None:
        """What a host says of an endpoint, or nothing any more."""
        old = self._known.pop(key, None)
        if old is not None:
            self._touch(self._rivals(key, old))
            for token in _tokens(key.network_id, old.addresses, old.mac):
                self._holders[token].discard(key)
                if not self._holders[token]:
                    del self._holders[token]
        if remote is not None:
            self._known[key] = remote
            for token in _tokens(key.network_id, remote.addresses, remote.mac):
                self._holders[token].add(key)
            self._touch(self._rivals(key, remote))
        if remote is not None and old is None and key.network_id in self._opened:
            self._new.add(key.owner)
        index = self._of_member[key.member], self._of_network[key.network_id]
        for keys in index:
            keys.add(key) if remote is not None else keys.discard(key)
        self._touch((key,))

    def move(self, member: str, address: str | None) -> None:
        """A host has this address in the underlay, or is gone."""
        if self._places.get(member) == address:
            return
        if address is None:
            del self._places[member]
        else:
            self._places[member] = address
        self._touch(self._of_member.get(member, ()))

    def open(self, network: Network, opening: Opening) -> None:
        """The network's link is there: what is on other hosts can be written."""
        self._opened[network.id] = network
        for token in _own_tokens(network, opening):
            self._local[token] = network.id
        self._touch(self._of_network.get(network.id, ()))

    async def close(self, network_id: str) -> None:
        """The network's link goes, and takes what was written along."""
        async with self.writing:
            self._opened.pop(network_id, None)
            for token in [token for token, owner in self._local.items() if owner == network_id]:
                del self._local[token]
            for key in self._of_network.get(network_id, ()):
                self._parts.intent.desired.drop(key.owner)
                self._dirty.pop(key, None)

    async def put_local(self, endpoint: Endpoint) -> None:
        """An endpoint of this host is about to have its addresses; others have them no more."""
        tokens = _tokens(endpoint.network_id, endpoint.addresses, endpoint.mac)
        for token in tokens:
            self._local[token] = endpoint.id
        displaced = {key for token in tokens for key in self._holders.get(token, ())}
        if displaced:
            self._touch(displaced)
            await self._apply_changes()

    def remove_local(self, endpoint: Endpoint) -> None:
        for token in _tokens(endpoint.network_id, endpoint.addresses, endpoint.mac):
            if self._local.get(token) == endpoint.id:
                del self._local[token]
                self._touch(self._holders.get(token, ()))

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._news.wait()
            await self._apply_changes()

    async def idle(self) -> None:
        """Return when all that was told has been applied."""
        while self._dirty or self.writing.locked():
            await self._apply_changes()

    # What is asked

    def __len__(self) -> int:
        """How many endpoints other hosts have told of, and hosts of themselves."""
        return len(self._known)

    @property
    def waiting(self) -> int:
        """How many of them are to be looked at before the kernel is as they say."""
        return len(self._dirty)

    def endpoints(self) -> Iterator[tuple[Key, RemoteEndpoint]]:
        """All that hosts have told of, their own addresses too."""
        return iter(self._known.items())

    def get(self, network_id: str, member: str, endpoint_id: str) -> RemoteEndpoint | None:
        return self._known.get(Key(network_id, member, endpoint_id))

    def has_endpoints(self, network_id: str, member: str) -> bool:
        """Whether a host has told of any endpoint on a network."""
        found = self._of_network.get(network_id, set()) & self._of_member.get(member, set())
        return any(key.endpoint_id != HOST_ITSELF for key in found)

    def entries_of(self, tunnels: Container[str]) -> list[Object]:
        """The forwarding entries that go with these links, all that are wanted by now."""
        wanted = self._parts.intent.desired.state.values()
        return [obj for obj in wanted if isinstance(obj, FdbEntry) and obj.link in tunnels]

    def place_of(self, member: str) -> str | None:
        return self._places.get(member)

    # How it works

    def _touch(self, keys: Iterable[Key]) -> None:
        self._dirty.update(dict.fromkeys(keys))
        if self._dirty:
            self._news.set()

    def _rivals(self, key: Key, remote: RemoteEndpoint) -> set[Key]:
        tokens = _tokens(key.network_id, remote.addresses, remote.mac)
        return {other for token in tokens for other in self._holders.get(token, ())} - {key}

    async def _apply_changes(self) -> None:
        async with self.writing:
            self._news.clear()
            dirty, self._dirty = self._dirty, {}
            new, self._new = self._new, set()
            parts = self._parts
            with parts.busy.work_on(*(key.owner for key in dirty)):
                operations = self._take_over(dirty)
                if not operations:
                    return
                try:
                    failures = await parts.kernel.apply(operations, {})
                except KernelFailure as error:
                    log.warning("%d entries of other hosts: %s", len(operations), error.detail)
                    return  # a look at intervals finds what is missing
                for failure in failures[:5]:
                    log.warning("%s", failure.text())
        await self._announcing.announce([op for op in operations if op.object.owner in new])

    def _take_over(self, dirty: Iterable[Key]) -> list[Operation]:
        """Have intent as the records say; return what that changes."""
        desired = self._parts.intent.desired
        wanted: State = {}
        before: State = {}
        changed = [(key, self._objects_of(key)) for key in dirty]
        for key, objects in changed:
            before |= state_of(desired.of(key.owner))
            wanted |= state_of(objects)
        # What is written for somebody else, or was found after a restart, is changed, not added.
        before |= {key: desired.state[key] for key in wanted if key in desired.state}
        before = {key: obj for key, obj in before.items() if desired.state.get(key) is obj}
        for key, _ in changed:
            desired.drop(key.owner)
        for key, objects in changed:
            if objects:
                desired.put(key.owner, objects)
        return diff(wanted, before)

    def _objects_of(self, key: Key) -> list[Object]:
        remote, network = self._known.get(key), self._opened.get(key.network_id)
        place = self._places.get(key.member)
        if remote is None or network is None or place is None or self._is_superseded(key, remote):
            return []
        if not are_within(network, remote.addresses):
            return []
        objects = remote_objects(network, key.owner, remote.mac, remote.addresses, place)
        if key.endpoint_id == HOST_ITSELF:
            objects += flood_objects(network, key.owner, place)
        return objects

    def _is_superseded(self, key: Key, remote: RemoteEndpoint) -> bool:
        """Whether somebody else has its address, or its MAC, by now."""
        tokens = _tokens(key.network_id, remote.addresses, remote.mac)
        if any(token in self._local for token in tokens):
            return True
        rank = (remote.since_ms, key)
        return any(
            (self._known[other].since_ms, other) > rank
            for token in tokens
            for other in self._holders.get(token, ())
        )


def _own_tokens(network: Network, opening: Opening) -> list[tuple[str, str]]:
    """What is the gateway's, and the host's own: nobody else's, whatever others tell."""
    gateways = _tokens(network.id, network.gateways, gateway_mac(network))
    return gateways + _tokens(network.id, opening.addresses, opening.mac(network))


def _tokens(network_id: str, addresses: Iterable[str], mac: str) -> list[tuple[str, str]]:
    """What only one can have at a time."""
    return [
        (network_id, mac),
        *((network_id, text.partition("/")[0]) for text in addresses),
    ]
