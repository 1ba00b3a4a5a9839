"""The other hosts as ends of tunnels: where they are, and what they carry."""

import ipaddress
from typing import Literal, TypeVar

import msgspec

from netd.engine.interfaces import MemberChange, RecordChange
from netd.engine.overlay.remotes import HOST_ITSELF, Key, Remotes
from netd.engine.parts import Parts
from netd.model.errors import NetdError
from netd.model.overlay import RemoteEndpoint, Vtep
from netd.model.views import Member
from netd.plan.addresses import parse_mac
from netd.plan.objects import HOST_OWNER, Object, SetElement, state_of

VTEPS = "vtep"  # the table of hosts that have a network open; key <network id>, global
ENDPOINTS = "endpoint"  # the table of endpoints; key their id, in the network's scope
_OWNER = "vteps"  # of the elements of the firewall's sets, among what is desired
_NOT_THERE = ("dead", "left")

Told = TypeVar("Told", Vtep, RemoteEndpoint)


class Peers:
    def __init__(self, parts: Parts, own: Member, remotes: Remotes) -> None:
        self._parts = parts
        self._own_id = own.id
        self._remotes = remotes
        self._names: dict[str, str] = {}  # of all members ever seen, by id
        self._places: dict[str, str] = {}  # member -> address in the underlay
        self._vteps: dict[tuple[str, str], Vtep] = {}  # (network, member)
        self.own_place = place_of(own)
        self.ignored = 0  # records that could not be read

    def member_changed(self, change: MemberChange) -> bool:
        """Whether another host has come, gone or moved."""
        member = change.member
        self._names[member.id] = member.name
        place = place_of(member)
        if member.id == self._own_id:
            moved = place != self.own_place
            self.own_place = place
            return moved
        if member.state in _NOT_THERE or not place:
            changed = self._places.pop(member.id, None) is not None
            self._remotes.move(member.id, None)
            return changed
        changed = self._places.get(member.id) != place
        self._places[member.id] = place
        self._remotes.move(member.id, place)
        return changed

    def recorded(self, change: RecordChange) -> bool:
        """A record of the tables of this module; whether the MTU may be another now."""
        if change.owner == self._own_id:
            return False
        match change.table:
            case "vtep":
                return self._vtep_changed(change)
            case "endpoint":
                remote = self._read(change.value, RemoteEndpoint)
                key = Key(change.scope.hex(), change.owner, change.key)
                self._remotes.put(key, remote)
        return False

    def _vtep_changed(self, change: RecordChange) -> bool:
        vtep = self._read(change.value, Vtep)
        place = (change.key, change.owner)
        if vtep is None:
            self._vteps.pop(place, None)
        else:
            self._vteps[place] = vtep
        itself = None
        if vtep is not None:
            itself = RemoteEndpoint(
                name="", container_id="", addresses=vtep.addresses, mac=vtep.mac
            )
        self._remotes.put(Key(change.key, change.owner, HOST_ITSELF), itself)
        return True

    def name_of(self, member: str) -> str:
        """What a host is called; its id if that is not known."""
        return self._names.get(member, member)

    def places(self) -> tuple[str, ...]:
        """The other hosts' addresses in the underlay."""
        return tuple(self._places.values())

    def vteps(self, network_id: str) -> dict[str, Vtep]:
        """The other hosts that have a network open, by member."""
        return {
            member: vtep for (network, member), vtep in self._vteps.items() if network == network_id
        }

    def networks_of(self, member: str) -> list[str]:
        """The ids of the networks that a host has open."""
        return [network for network, owner in self._vteps if owner == member]

    def family(self) -> Literal[4, 6]:
        return 6 if ":" in self.own_place else 4

    def update_firewall(self, *, tunnels: bool) -> tuple[list[Object], list[Object]]:
        """Whose tunnelled packets are taken: (what came, what is no longer wanted)."""
        desired = self._parts.intent.desired
        old = state_of(desired.of(_OWNER))
        places = self._places.values() if tunnels else ()
        new = state_of(
            SetElement(
                owner=HOST_OWNER, set_name="vteps6" if ":" in place else "vteps4", element=(place,)
            )
            for place in places
        )
        if new != old:
            desired.put(_OWNER, list(new.values()))
        return (
            [obj for key, obj in new.items() if key not in old],
            [obj for key, obj in old.items() if key not in new],
        )

    def _read(self, value: bytes | None, kind: type[Told]) -> Told | None:
        """What a host tells; None for what no netd would write."""
        if value is None:
            return None
        try:
            told = msgspec.json.decode(value, type=kind)
            parse_mac(told.mac, "mac")
            addresses = [ipaddress.ip_interface(text) for text in told.addresses]
            if not addresses or any("%" in text for text in told.addresses):
                raise ValueError("an address that is of one link only")
        except (ValueError, RecursionError, NetdError):  # msgspec's errors are ValueErrors
            self.ignored += 1
            return None
        return told


def place_of(member: Member) -> str:
    """The member's address in the underlay; "" where it listens nowhere."""
    host = member.address.rpartition(":")[0].strip("[]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""
