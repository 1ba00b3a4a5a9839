"""Hosts whose netd does not answer: what they told holds as long as the host itself is there.

The cluster takes a host for dead when its netd is. But a host whose netd is stopped, or is being
restarted, goes on forwarding, so its endpoints are to be reached as before. Its kernel tells the
difference: it refuses connections to netd's port, where a host that is off or cut off is silent.

To find that out takes a second. So hosts are tried from the first suspicion on: as soon as the
cluster takes one for dead, it is known whether it is there, and nothing is sent to it if not.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from netd.engine.interfaces import Cluster, ClusterChange, MemberChange, RecordChange
from netd.tasks import Tasks

RECHECK_S: Final = 2.0
SETTLE_S: Final = 10.0  # after a host is back: what it has not told of again by then is gone

log = logging.getLogger(__name__)

_Key = tuple[bytes, str, str]  # scope, table, key


class _Trial:
    """Whether a host is there, as it was found last; None: not yet."""

    there: bool | None = None
    task: asyncio.Task[None]


class _Absence:
    """What the cluster has said of a host since it does not answer."""

    def __init__(self, change: MemberChange) -> None:
        self.change = change
        self.gone: dict[_Key, RecordChange] = {}  # records that nobody shows any more
        self.told = False  # that the host is there
        self.settling: asyncio.TimerHandle | None = None


class Absences:
    """Stands between the cluster and who follows its members and records: `deliver`.

    `concerned` tells whether this host's kernel has anything of what a host has told.
    """

    def __init__(
        self,
        tasks: Tasks,
        cluster: Cluster,
        deliver: Callable[[ClusterChange], None],
        concerned: Callable[[str], bool],
    ) -> None:
        self._tasks = tasks
        self._cluster = cluster
        self._deliver = deliver
        self._concerned = concerned
        self._absent: dict[str, _Absence] = {}
        self._trials: dict[str, _Trial] = {}

    def take(self, change: ClusterChange) -> None:
        """Pass a change on, or keep it until it is known whether the host is there."""
        match change:
            case MemberChange(member=member) if member.id != self._cluster.id:
                self._member_changed(change)
            case RecordChange(owner=owner) if owner in self._absent:
                self._record_changed(self._absent[owner], change)
            case _:
                self._deliver(change)

    def names(self) -> tuple[str, ...]:
        """The hosts that are there without a netd."""
        absent = (a.change.member.name for a in self._absent.values() if a.settling is None)
        return tuple(sorted(absent))

    def _member_changed(self, change: MemberChange) -> None:
        member = change.member
        absence = self._absent.get(member.id)
        if member.state == "left":
            self._gone(change, absence)
        elif not member.reachable or member.state == "dead":
            self._silent(change, absence)
        else:
            if member.state == "suspect" and self._concerned(member.id):
                self._try(member.id)
            else:
                self._end_trial(member.id)
            self._deliver(change)
            if absence is not None and absence.settling is None:
                self._settle(absence)

    def _silent(self, change: MemberChange, absence: _Absence | None) -> None:
        """The host's netd does not answer."""
        member = change.member
        trial = self._trials.get(member.id)
        if absence is not None and absence.settling is None:
            absence.change = change
        elif trial is not None and trial.there is False:
            self._gone(change, absence)
        else:
            begun = self._absent[member.id] = _Absence(change)
            if absence is not None:
                begun.gone = absence.gone
                _end_settling(absence)
            self._try(member.id)

    # Whether the host is there

    def _try(self, member: str) -> None:
        if member not in self._trials:
            trial = self._trials[member] = _Trial()
            trial.task = self._tasks.start("silent host", self._keep_trying(member, trial))

    async def _keep_trying(self, member: str, trial: _Trial) -> None:
        while True:
            trial.there = await self._cluster.host_answers(member)
            absence = self._absent.get(member)
            if absence is None or absence.settling is not None:
                pass  # its netd is suspected only
            elif not trial.there:
                self._gone(absence.change, absence)
            elif not absence.told:
                name = absence.change.member.name
                log.warning("netd on %s does not answer, but the host is there", name)
                absence.told = True
            await asyncio.sleep(RECHECK_S)

    def _end_trial(self, member: str) -> None:
        trial = self._trials.pop(member, None)
        if trial is not None:
            trial.task.cancel()

    def _gone(self, change: MemberChange, absence: _Absence | None) -> None:
        """The host is not there: what it has told goes with it."""
        member = change.member
        if member.state != "suspect":  # else what it is will be known soon
            self._end_trial(member.id)
        if absence is not None:
            _end_settling(absence)
            self._absent.pop(member.id, None)
        self._deliver(change)
        self._deliver_all(absence)

    # It is back

    def _settle(self, absence: _Absence) -> None:
        """The host's netd answers again: wait for what it has to say."""
        loop = asyncio.get_running_loop()
        absence.settling = loop.call_later(SETTLE_S, self._settled, absence)

    def _settled(self, absence: _Absence) -> None:
        _end_settling(absence)
        self._absent.pop(absence.change.member.id, None)
        self._deliver_all(absence)

    def _record_changed(self, absence: _Absence, change: RecordChange) -> None:
        key = (change.scope, change.table, change.key)
        absence.gone.pop(key, None)
        if change.value is None and absence.settling is None:
            absence.gone[key] = change
        else:
            self._deliver(change)

    def _deliver_all(self, absence: _Absence | None) -> None:
        for change in list(absence.gone.values()) if absence is not None else ():
            self._deliver(change)


def _end_settling(absence: _Absence) -> None:
    if absence.settling is not None:
        absence.settling.cancel()
