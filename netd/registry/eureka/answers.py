"""Answers to whoever reads, made once for each version of what they show."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from netd.naming.values import Scope
from netd.registry.eureka import json_form, xml_form
from netd.registry.eureka.changes import Change
from netd.registry.eureka.instances import Instance
from netd.registry.eureka.seen import Seen
from netd.registry.eureka.statuses import hashcode
from netd.registry.eureka.view import View
from netd.registry.http.answers import Body

COMPLETE: Final = "1"  # the version that complete answers say
KEPT_BYTES_MAX: Final = 64 * 1024 * 1024
AT_ONCE_MAX: Final = 200  # instances that are written before others may go on
_PACKED_AT_ONCE: Final = 64 * 1024  # bytes; more is packed by a thread

_Key = tuple[str, "Form", frozenset[str] | None]
_Part = tuple[Seen, str]  # with the action


class Form(NamedTuple):
    """How an answer is written: in `json` or `xml`, with all of an instance or the least."""

    name: str = "xml"
    reduced: bool = False

    @property
    def type(self) -> str:
        return f"application/{self.name}"


class Answers:
    """Bytes of answers. None is for what there is nothing of."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._version = view.version
        self._kept: dict[_Key, Body] = {}
        self.size = 0  # bytes that are kept
        self._making = asyncio.Lock()  # who asks for the same meanwhile gets the same

    async def all(self, scope: Scope, form: Form) -> Body:
        return await self._get("all", scope, form, lambda: self._all(scope, form))

    async def delta(self, scope: Scope, form: Form) -> Body:
        """What has changed lately, with the hash code of all there is now."""
        if self._view.changes.expire():
            self._forget()
        return await self._get("delta", scope, form, lambda: self._delta(scope, form))

    async def application(self, app: str, scope: Scope, form: Form) -> Body | None:
        found = self._view.application(app, scope)
        if not found:
            return None
        name = f"app {app.upper()}"

        async def make() -> Body:
            written = await _write([(seen, "ADDED") for seen in found], form)
            one = _of(form).application(app.upper(), written)
            return Body(_of(form).one_application(one), form.type)

        return await self._get(name, scope, form, make)

    async def of_vip(self, vip: str, scope: Scope, form: Form, *, secure: bool) -> Body | None:
        """The instances with this virtual address, among several that they may have."""
        wanted = vip.lower()
        found = [
            seen
            for seen in self._view.shown(scope)
            if seen.instance is not None and wanted in _vips(seen.instance, secure=secure)
        ]
        if not found:
            return None
        return await self._applications([(seen, "ADDED") for seen in found], COMPLETE, form)

    def instance(self, instance: Instance, form: Form) -> Body:
        written = _of(form).write_instance(instance, "ADDED", reduced=form.reduced)
        return Body(_of(form).one_instance(written), form.type)

    async def _all(self, scope: Scope, form: Form) -> Body:
        parts = [(seen, "ADDED") for seen in self._view.shown(scope)]
        return await self._applications(parts, COMPLETE, form)

    async def _delta(self, scope: Scope, form: Form) -> Body:
        version = str(self._view.version)
        code = hashcode(_statuses(self._view.shown(scope)))
        parts: list[_Part] = [
            self._told(change, scope)
            for change in self._view.changes
            if scope.sees(change.seen.service.network)
        ]
        return await self._applications(parts, version, form, code)

    def _told(self, change: Change, scope: Scope) -> _Part:
        """A change as it is to who may see another instance of that name instead."""
        app, instance_id, _ = change.seen.key
        now = self._view.instance(app, instance_id, scope)
        if now is None or now.key == change.seen.key:
            return change.seen, change.action
        return now, "MODIFIED"

    async def _applications(
        self, parts: Sequence[_Part], version: str, form: Form, code: str | None = None
    ) -> Body:
        if code is None:
            code = hashcode(_statuses(seen for seen, _ in parts))
        written = await _write(parts, form)
        of_app: dict[str, list[bytes]] = {}
        for (seen, _), data in zip(parts, written, strict=True):
            of_app.setdefault(seen.key[0], []).append(data)
        apps = [_of(form).application(name, each) for name, each in of_app.items()]
        return Body(_of(form).applications(version, code, apps), form.type)

    async def _get(
        self, what: str, scope: Scope, form: Form, make: Callable[[], Awaitable[Body]]
    ) -> Body:
        key = (what, form, scope.networks)
        body = self._find(key)
        if body is not None:
            return body
        async with self._making:
            body = self._find(key)
            if body is not None:
                return body
            version = self._view.version
            body = await make()
            if version == self._view.version:
                self._keep(key, body)
            return body

    def _find(self, key: _Key) -> Body | None:
        if self._version != self._view.version:
            self._forget()
        return self._kept.get(key)

    def _keep(self, key: _Key, body: Body) -> None:
        if self.size + 2 * len(body.plain) > KEPT_BYTES_MAX:
            self._forget()
        self._kept[key] = body
        self.size += 2 * len(body.plain)  # with what is packed of it

    def _forget(self) -> None:
        self._version = self._view.version
        self._kept.clear()
        self.size = 0


async def pack(body: Body) -> None:
    """Have a long body packed before it is asked for, without keeping the event loop."""
    if len(body.plain) > _PACKED_AT_ONCE:
        await asyncio.to_thread(body.packed)


class _Writer(NamedTuple):
    write_instance: Callable[..., bytes]
    one_instance: Callable[[bytes], bytes]
    application: Callable[[str, Iterable[bytes]], bytes]
    one_application: Callable[[bytes], bytes]
    applications: Callable[[str, str, Iterable[bytes]], bytes]


def _writer(module: object) -> _Writer:
    return _Writer(*(getattr(module, name) for name in _Writer._fields))


_WRITERS: Final = {"json": _writer(json_form), "xml": _writer(xml_form)}


def _of(form: Form) -> _Writer:
    return _WRITERS[form.name]


async def _write(parts: Sequence[_Part], form: Form) -> list[bytes]:
    written = []
    for number, (seen, action) in enumerate(parts, 1):
        written.append(seen.written(form.name, action, reduced=form.reduced))
        if number % AT_ONCE_MAX == 0:
            await asyncio.sleep(0)
    return written


def _statuses(all_seen: Iterable[Seen]) -> Iterable[str]:
    return (seen.instance.status for seen in all_seen if seen.instance is not None)


def _vips(instance: Instance, *, secure: bool) -> list[str]:
    text = instance.secure_vip_address if secure else instance.vip_address
    return [each.strip().lower() for each in text.split(",")]
