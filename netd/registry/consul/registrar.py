"""Registering with the agent: what is asked for becomes instances of this host's."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from netd.locks import KeyedLocks
from netd.model.service import NODE_SERVICE, Maintenance, ServiceSpec
from netd.registry.catalog.catalog import Catalog
from netd.registry.catalog.daemon import Daemon
from netd.registry.catalog.records import Instance, node_record
from netd.registry.consul.check_bodies import CheckBody, Rules, check_of
from netd.registry.consul.fields import Fields
from netd.registry.consul.guests import demand_check_id, demand_name
from netd.registry.consul.registered import Checks, as_registered, with_checks
from netd.registry.consul.service_bodies import (
    ServiceBody,
    own_instance_id,
    own_name,
    service_of,
)
from netd.registry.http.call import Failure
from netd.registry.http.caller import Caller, Callers

_SIDECAR_FIRST = 21_000  # of the ports that Consul gives to proxies
_SIDECAR_LAST = 21_255


class Registrar:
    """All calls raise `Failure`, `Refused` and `Unreachable`. Those about one instance are done
    one after the other: each is made of what the last has left. So are those about one id of a
    check, which only one instance has.
    """

    def __init__(self, catalog: Catalog, daemon: Daemon, callers: Callers) -> None:
        self._catalog = catalog
        self._daemon = daemon
        self._callers = callers
        self._turns: KeyedLocks[str] = KeyedLocks()

    @asynccontextmanager
    async def turn(self, checks: Iterable[str], instances: Iterable[str]) -> AsyncIterator[None]:
        """To change these instances, and checks that are called so, past this registrar."""
        keys = {f"check {each}" for each in checks}
        async with self._turns.hold_all(keys), self._turns.hold_all(instances):
            yield

    # Services

    async def register(self, caller: Caller, fields: Fields, *, replace_checks: bool) -> None:
        body = service_of(fields, self._rules(caller))
        await self._put(caller, body, replace_checks=replace_checks)
        if body.sidecar is not None:
            await self._put(caller, self._sidecar(caller, body, body.sidecar), replace_checks=True)

    async def deregister(self, caller: Caller, ident: str) -> None:
        instance = self.demand(caller, ident)
        async with self._turns.hold(instance.id):
            await self._daemon.deregister(instance.id)
        proxy = self._catalog.find(self._catalog.own_node, _sidecar_ident(ident))
        if proxy is not None and proxy.extra.get("Kind") == "connect-proxy":
            await self._daemon.deregister(proxy.id)

    async def maintain(self, caller: Caller, ident: str, maintenance: Maintenance) -> None:
        instance = self.demand(caller, ident)
        await self._daemon.maintain(instance.id, maintenance)

    def demand(self, caller: Caller, ident: str) -> Instance:
        """An instance of this host's that the caller may change."""
        instance = self._catalog.find(self._catalog.own_node, ident)
        if instance is None:
            raise unknown_service(ident)
        self._demand_right(caller, instance)
        return instance

    async def _put(self, caller: Caller, body: ServiceBody, *, replace_checks: bool) -> None:
        node = self._catalog.own_node
        demand_name(caller, body.name)
        caller.rights.demand("service", body.name, "write")
        address = body.address or (caller.own[0] if caller.own else "")
        if not caller.speaks_for(address):
            who = f"an address of {caller.address}"
            raise Failure(403, f"Permission denied: {address} is not {who}")
        known = self._catalog.find(node, body.ident)
        if known is not None:
            self._demand_right(caller, known)
        for check in body.checks:
            demand_check_id(caller, check, body.ident)
        instance_id = own_instance_id(body.ident, node) if known is None else known.id
        async with self._turns.hold_all(_of_checks(body.checks)):
            await self._take_over(caller, body.checks, instance_id)
            await self._write(caller, body, instance_id, address, replace_checks=replace_checks)

    async def _write(
        self,
        caller: Caller,
        body: ServiceBody,
        instance_id: str,
        address: str,
        *,
        replace_checks: bool,
    ) -> None:
        async with self._turns.hold(instance_id):
            known = self._catalog.instance(instance_id)
            if known is not None:
                self._demand_right(caller, known)
            checks = Checks(None if replace_checks else known)
            for check in body.checks:
                checks.put(check)
            shown = {"id": body.ident, "name": body.name, "address": body.address or address}
            extra = {**shown, **body.extra}
            spec = ServiceSpec(
                name=own_name(body.name),
                address=address,
                port=body.port,
                tags=body.tags,
                meta=body.meta,
                weights=body.weights,
                endpoint=self._callers.endpoint_at(address) if address else "",
            )
            await self._daemon.register(instance_id, with_checks(spec, extra, checks))

    def _sidecar(self, caller: Caller, body: ServiceBody, fields: Fields) -> ServiceBody:
        """The proxy of a service; with what is not said taken from the service."""
        given = {
            "Name": f"{body.name}-sidecar-proxy",
            "ID": _sidecar_ident(body.ident),
            "Address": body.address,
            "Tags": list(body.tags),
            "Meta": body.meta,
            "Kind": "connect-proxy",
            "Proxy": {
                "DestinationServiceName": body.name,
                "DestinationServiceID": body.ident,
                "LocalServiceAddress": "127.0.0.1",
                "LocalServicePort": body.port,
                "Mode": "",
                "MeshGateway": {},
                "Expose": {},
            },
            "Port": fields.number("port") or self._free_port(),
            "Checks": [{"Name": "Connect Sidecar Aliasing", "AliasService": body.ident}],
        }
        return service_of(Fields(given), self._rules(caller))

    def _free_port(self) -> int:
        everything = self._callers.of("127.0.0.1").scope
        own = self._catalog.of_node(self._catalog.own_node, everything)
        taken = {each.service.port for each in own}
        for port in range(_SIDECAR_FIRST, _SIDECAR_LAST + 1):
            if port not in taken:
                return port
        raise Failure(500, "none of the ports for proxies is free")

    # Checks

    async def add_check(self, caller: Caller, fields: Fields) -> None:
        name = fields.text("name")
        if not name:
            raise Failure(400, "Missing check name")
        check = check_of(fields, name, name, self._rules(caller))
        await self.put_check(caller, check, fields.text("serviceid"))

    async def put_check(self, caller: Caller, check: CheckBody, owner: str) -> None:
        """`owner` is the id of the service that it is a check of; "" for the host itself."""
        if owner:
            known: Instance | None = self.demand(caller, owner)
        else:
            demand_host(caller)
            caller.rights.demand("node", self._catalog.own_node, "write")
            known = self._catalog.record_of(self._catalog.own_node)
        demand_check_id(caller, check, owner)
        async with self._turns.hold_all(_of_checks((check,))):
            await self._take_over(caller, (check,), "" if known is None else known.id)
            await self._change_checks(known, put=check)

    async def _take_over(
        self, caller: Caller, checks: Iterable[CheckBody], instance_id: str
    ) -> None:
        """Have no other instance have checks of these ids. Raises `Failure` 403, having changed
        nothing, where the caller may not change one that has.
        """
        found = [(check.ident, self._catalog.find_check(check.ident)) for check in checks]
        others = [(own[0], ident) for ident, own in found if own and own[0].id != instance_id]
        for instance, _ in others:
            self._demand_right(caller, instance)
        for instance, ident in others:
            await self._drop_check(instance, ident)

    async def remove_check(self, caller: Caller, ident: str) -> None:
        found = self._catalog.find_check(ident)
        if found is None:
            return
        self._demand_right(caller, found[0])
        await self._drop_check(found[0], ident)

    async def maintain_node(self, maintenance: Maintenance) -> None:
        record = self._catalog.record_of(self._catalog.own_node)
        if record is None:
            if not maintenance.enable:
                return
            await self._change_checks(None)
        await self._daemon.maintain(node_record(self._catalog.own_node), maintenance)
        record = self._catalog.record_of(self._catalog.own_node)
        if record is not None and not record.service.checks:
            await self._daemon.deregister(record.id)

    async def _drop_check(self, instance: Instance, ident: str) -> None:
        await self._change_checks(instance, drop=ident)
        record = self._catalog.instance(instance.id)
        if record is not None and record.is_node and not record.service.checks:
            await self._daemon.deregister(record.id)

    async def _change_checks(
        self, instance: Instance | None, *, put: CheckBody | None = None, drop: str = ""
    ) -> None:
        """Register an instance again with one check more or less; None is this host itself."""
        own_record = node_record(self._catalog.own_node)
        instance_id = own_record if instance is None else instance.id
        async with self._turns.hold(instance_id):
            known = self._catalog.instance(instance_id)
            if known is None and instance is not None:
                raise unknown_service(instance.ident)
            checks = Checks(known)
            if put is not None:
                checks.put(put)
            if drop:
                checks.drop(drop)
            if known is None:
                spec = ServiceSpec(name=NODE_SERVICE)
                extra: dict[str, Any] = {}
            else:
                spec = as_registered(known)
                extra = known.extra
            await self._daemon.register(instance_id, with_checks(spec, extra, checks))

    def _rules(self, caller: Caller) -> Rules:
        def find(ident: str, node: str) -> tuple[str, str]:
            """To a container one that it does not see is as one that there is not."""
            own = self._catalog.own_node
            place = self._alias_node(caller, node) if node else own
            elsewhere = "" if ident and place.lower() == own.lower() else place
            if not ident:
                return elsewhere, ""
            known = self._catalog.find(place, ident)
            if known is None and caller.is_host:
                return elsewhere, own_instance_id(ident, place)  # of one that is still to come
            if known is None or not _sees(caller, known):
                raise Failure(400, f'Invalid check: there is no service ID "{ident}" to be seen')
            return elsewhere, known.id

        scripts = self._catalog.zone.settings.script_checks and caller.is_host
        return Rules(scripts, find)

    def _alias_node(self, caller: Caller, node: str) -> str:
        """The name of a node that an alias looks at."""
        if not caller.is_host:
            raise Failure(400, "Invalid check: alias_node is for the host's own programs")
        known = self._catalog.node(node)
        name = node[:256] if known is None else known.name
        if not caller.rights.may("node", name, "read"):
            raise Failure(400, f'Invalid check: there is no node "{name}" to be seen')
        return name

    def _demand_right(self, caller: Caller, instance: Instance) -> None:
        if instance.service.node != self._catalog.own_node:
            raise Failure(500, f"{instance.ident} is of host {instance.service.node}: ask there")
        demand_own(caller, instance)
        demand_write(caller, instance)


def demand_host(caller: Caller) -> None:
    """Raise `Failure` 403 unless it is the host that asks."""
    if not caller.is_host:
        raise Failure(403, "Permission denied: this is for the host itself")


def demand_write(caller: Caller, instance: Instance) -> None:
    """Raise `Failure` 403 unless the caller's rights let it change this one."""
    if instance.is_node:
        caller.rights.demand("node", instance.node, "write")
    else:
        caller.rights.demand("service", instance.name, "write")


def demand_own(caller: Caller, instance: Instance) -> None:
    """Raise `Failure` 403 unless the caller may speak for the address of an instance."""
    if not caller.speaks_for(instance.service.address):
        who = f"an address of {caller.address}"
        raise Failure(403, f'Permission denied: service ID "{instance.ident}" is not at {who}')


def _sees(caller: Caller, instance: Instance) -> bool:
    may = caller.rights.may("service", instance.name, "read")
    return may and caller.scope.sees(instance.service.network)


def unknown_service(ident: str) -> Failure:
    return Failure(
        404,
        f'Unknown service ID "{ident}". Ensure that the service ID is passed, not the '
        "service name.",
    )


def _of_checks(checks: Iterable[CheckBody]) -> set[str]:
    """The keys of their turns: ids of instances have no blanks."""
    return {f"check {check.ident}" for check in checks}


def _sidecar_ident(ident: str) -> str:
    return f"{ident}-sidecar-proxy"
