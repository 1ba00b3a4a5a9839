"""Instances registered, renewed, changed and cancelled.

An instance is registered with the daemon of the host whose registry its client talks to. A client
may go to the registry of another host at any time: what it says there has that host register the
same instance with a later stamp, whereupon the first one removes its own, see `Handover`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec.structs import replace

from netd.locks import KeyedLocks
from netd.model.service import CheckStatus, Maintenance
from netd.naming.wire import canonical
from netd.registry.api import Refused
from netd.registry.catalog.daemon import Daemon
from netd.registry.eureka.claims import Claims
from netd.registry.eureka.clients import Clients
from netd.registry.eureka.handover import Handover
from netd.registry.eureka.heartbeats import Heartbeats
from netd.registry.eureka.instances import UNKNOWN, Instance, Malformed, complaint
from netd.registry.eureka.registering import registering
from netd.registry.eureka.registrations import (
    Registration,
    begun_as,
    is_live,
    is_out,
    spec_of,
)
from netd.registry.eureka.seen import Key, Name, Seen
from netd.registry.eureka.statuses import effective
from netd.registry.eureka.view import View
from netd.registry.http.call import Failure
from netd.registry.http.caller import Caller, Callers


class Older(Exception):
    """Another registry has an older copy of the instance than this one, which is `instance`."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(f"the copy of {instance.instance_id} here is newer")
        self.instance = instance


class Leases:
    """What is asked for raises `Failure` for what the client is told instead. `now_ms` is Unix
    time.
    """

    def __init__(
        self,
        view: View,
        callers: Callers,
        clients: Clients,
        daemon: Daemon,
        now_ms: Callable[[], int],
    ) -> None:
        self._view = view
        self._callers = callers
        self._claims = Claims(view, callers, clients)
        self._daemon = daemon
        self._now_ms = now_ms
        self._locks: KeyedLocks[Key] = KeyedLocks()
        self._handover = Handover(view, daemon, self._locks)
        self._heartbeats = Heartbeats(view, daemon, now_ms)

    @property
    def handovers(self) -> int:
        """Instances that are to be given up, as another host has them."""
        return self._handover.waiting

    @property
    def handed_over(self) -> int:
        """Instances that were given up."""
        return self._handover.done

    async def stop(self) -> None:
        await self._handover.stop()
        await self._daemon.close()

    def renewed_ms(self, seen: Seen) -> int:
        """When the lease was renewed last, as far as this host knows; 0 if it does not."""
        return self._heartbeats.last_ms(seen.service.id)

    # What clients ask for

    async def register(
        self, instance: Instance, app: str, caller: Caller, *, replicated: bool = False
    ) -> None:
        """Have the catalogue show the instance, unless it shows a newer version of it."""
        lacking = complaint(instance, app)
        if lacking:
            raise Failure(400, lacking)
        if canonical(instance.ip_addr) is None:
            raise Failure(400, f"ipAddr {instance.ip_addr[:60]!r} is no IP address")
        self._claims.demand(caller, instance.ip_addr)
        key = self._claims.key_of(instance)
        async with self._locks.hold(key):
            self._claims.demand_free(key, caller)
            current = self._current(key)
            await self._write(key, self._settled(instance, current, replicated=replicated))

    async def renew(
        self,
        name: Name,
        caller: Caller,
        *,
        dirty_ms: int | None = None,
        override: str = UNKNOWN,
        replicated: bool = False,
    ) -> None:
        """Extend a lease. 404 asks the client to register again. Raises `Older`."""
        async with self._registered(name, caller) as (seen, known):
            instance = known.instance
            if instance.status == UNKNOWN:
                raise Failure(404, "")
            if dirty_ms is not None and dirty_ms > instance.dirty_ms:
                raise Failure(404, "")
            if replicated and dirty_ms is not None and dirty_ms < instance.dirty_ms:
                raise Older(instance)
            if replicated and override not in (UNKNOWN, instance.overridden_status):
                status = effective(known.own_status, override, UNKNOWN, replicated=True)
                changed = replace(instance, status=status, overridden_status=override)
                await self._write(seen.key, replace(known, instance=changed))
            elif self._is_own(seen) and (instance.status == "UP" or is_out(seen.service)):
                await self._heartbeats.next(seen.service)
            else:
                await self._write(seen.key, known)

    async def cancel(self, name: Name, caller: Caller) -> None:
        key = self._claims.meant(name, caller)
        async with self._locks.hold(key):
            holders = self._view.registered(key)
            if not holders or _known(holders[0]).cancelled:
                await self._daemon_does_for(name, caller, None)
                return
            self._claims.demand(caller, _address(holders[0]))
            others = [seen for seen in holders if seen.service.node != self._view.node]
            if others:
                # They remove theirs when they see this, and `Handover` then removes this one.
                await self._write(key, replace(_known(holders[0]), cancelled=True))
            else:
                await self._remove(holders[0].service.id)

    async def set_status(self, name: Name, status: str, caller: Caller) -> None:
        """Have `status` hold, whatever the instance itself says, but for DOWN and STARTING."""
        key = self._claims.meant(name, caller)
        async with self._locks.hold(key):
            if not self._view.registered(key):
                out = Maintenance(enable=status != "UP", reason=f"set to {status} by Eureka's API")
                await self._daemon_does_for(name, caller, out)
                return
        async with self._registered(name, caller) as (seen, known):
            await self._change(seen.key, known, status=status, overridden_status=status)

    async def clear_status(self, name: Name, status: str, caller: Caller) -> None:
        """Have `status` hold until the instance says another, or with "" its own last word."""
        key = self._claims.meant(name, caller)
        async with self._locks.hold(key):
            if not self._view.registered(key):
                await self._daemon_does_for(name, caller, Maintenance(enable=False))
                return
        async with self._registered(name, caller) as (seen, known):
            now = status or known.own_status
            await self._change(seen.key, known, status=now, overridden_status=UNKNOWN)

    async def add_metadata(self, name: Name, more: dict[str, str], caller: Caller) -> None:
        async with self._registered(name, caller) as (seen, known):
            await self._change(seen.key, known, metadata={**known.instance.metadata, **more})

    # How it is done

    def _settled(
        self, instance: Instance, current: Seen | None, *, replicated: bool
    ) -> Registration:
        known = None if current is None else _known(current)
        live = current is not None and is_live(current.service)
        return registering(instance, known, self._now_ms(), live=live, replicated=replicated)

    async def _change(self, key: Key, known: Registration, **fields: object) -> None:
        changed = replace(known.instance, updated_ms=self._now_ms(), **fields)
        await self._write(key, replace(known, instance=changed))

    async def _write(self, key: Key, registration: Registration) -> None:
        """Register it on this host, with a stamp later than those of all other hosts.

        It is out of maintenance before it says that it is UP, and in after it has said that it is
        not: so whatever fails, the next heartbeat finds what is to be done. What others have
        asked for stays, also when another host takes the instance over.
        """
        instance = registration.instance
        ident = self._claims.ident(key)
        own = self._view.own(ident)
        holders = self._view.registered(key)
        before = holders[0] if holders else None
        kept_out = before is not None and is_out(before.service) and not _known(before).is_out
        up = instance.status == "UP"
        registration = replace(
            registration, stamp_ms=self._stamp(key, registration), is_out=not up and not kept_out
        )
        if own is not None and is_out(own) and up and not kept_out:
            await self._maintain(ident, Maintenance(enable=False))
        begun = begun_as(own, up=up and not kept_out and not registration.cancelled)
        await self._put(ident, registration, begun)
        if registration.cancelled:
            return
        reason = f"Eureka: {instance.status}"
        if before is not None and kept_out:
            reason = f"in maintenance on {before.service.node}"
        changed = before is None or _known(before).instance.status != instance.status
        if (kept_out or not up) and (own is None or not is_out(own) or (changed and not kept_out)):
            await self._maintain(ident, Maintenance(enable=True, reason=reason))
        if own is None and begun == "passing":
            self._heartbeats.note(ident)
        else:
            await self._heartbeats.first(ident)

    async def _put(self, ident: str, registration: Registration, begun: CheckStatus) -> None:
        endpoint = self._callers.endpoint_at(registration.instance.ip_addr)
        try:
            await self._daemon.register(ident, spec_of(registration, endpoint, begun))
        except Malformed as error:
            raise Failure(400, str(error)) from None
        except Refused as error:
            # 404 would ask for the same again: its endpoint has just ended, or the like.
            raise Failure(400 if error.status == 404 else error.status, error.detail) from None

    def _stamp(self, key: Key, registration: Registration) -> int:
        holders = self._view.registered(key)
        others = [_known(seen).stamp_ms for seen in holders if not self._is_own(seen)]
        if not others or registration.stamp_ms > max(others):
            return registration.stamp_ms
        return max(self._now_ms(), max(others) + 1)

    async def _maintain(self, ident: str, asked: Maintenance) -> None:
        try:
            await self._daemon.maintain(ident, asked)
        except Refused as error:
            raise Failure(error.status, error.detail) from None

    async def _remove(self, ident: str) -> None:
        await self._daemon.deregister(ident)
        self._heartbeats.forget(ident)

    async def _daemon_does_for(self, name: Name, caller: Caller, out: Maintenance | None) -> None:
        """Deregister what somebody else has registered, or take it out or in."""
        seen = self._view.instance(*name, caller.scope)
        if seen is None:
            raise Failure(404, "")
        self._claims.demand(caller, seen.service.address)
        if not self._is_own(seen):
            raise Failure(409, f"it is registered on {seen.service.node}; change it there")
        try:
            if out is None:
                await self._daemon.deregister(seen.service.id)
            else:
                await self._daemon.maintain(seen.service.id, out)
        except Refused as error:
            raise Failure(error.status, error.detail) from None

    @asynccontextmanager
    async def _registered(
        self, name: Name, caller: Caller
    ) -> AsyncIterator[tuple[Seen, Registration]]:
        """What a client has registered and may change, while nobody else changes it."""
        key = self._claims.meant(name, caller)
        async with self._locks.hold(key):
            current = self._current(key)
            if current is None:
                raise Failure(404, "")
            self._claims.demand(caller, _address(current))
            yield current, _known(current)

    def _current(self, key: Key) -> Seen | None:
        holders = self._view.registered(key)
        return holders[0] if holders and not _known(holders[0]).cancelled else None

    def _is_own(self, seen: Seen) -> bool:
        return seen.service.node == self._view.node


def _known(seen: Seen) -> Registration:
    assert seen.registration is not None
    return seen.registration


def _address(seen: Seen) -> str:
    return seen.service.address
