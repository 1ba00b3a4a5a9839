"""This node as others see it: what it answers to accusations, and to others who are it as well."""

from typing import Final

from netd.gossip.codec import place_of
from netd.gossip.messages import (
    INCARNATION_MAX,
    Alive,
    Dead,
    Introduce,
    Left,
    MemberRow,
    Suspect,
)
from netd.gossip.news import News
from netd.gossip.parts import Parts
from netd.gossip.post import Post
from netd.gossip.problems import Problems
from netd.gossip.spreading import Spreading
from netd.gossip.standing import Standing
from netd.gossip.values import EpochWanted, State

RENEW_S: Final = 60.0
_GOODBYES: Final = 8  # members that are told of a departure at once


class Oneself:
    """Only here are new incarnations of this node begun.

    `yielded`: somebody else runs under this identity with a higher epoch, and this node is silent.
    """

    def __init__(
        self,
        parts: Parts,
        post: Post,
        news: News,
        spreading: Spreading,
        problems: Problems,
        standing: Standing,
    ) -> None:
        self.leaving = False
        self.yielded = False
        self._parts = parts
        self._post = post
        self._news = news
        self._spreading = spreading
        self._problems = problems
        self._standing = standing
        self._renewed_s = parts.now_s - RENEW_S
        self._later_epoch = -1  # the latest that this node was met in and is not in itself
        self._taken_in = False

    def leave(self) -> None:
        """Say goodbye."""
        parts, me = self._parts, self._parts.me
        self.leaving = True
        left = parts.signer.left(me.epoch, me.incarnation)
        self._news.drop(me.id)
        self._news.put(me.id, left)
        for member in parts.members.pick(parts.random, _GOODBYES):
            self._post.send(member.address, left)
        self._spreading.kick()

    def renew(self, epoch: int) -> None:
        """Go on as a new run of the same node."""
        parts, me = self._parts, self._parts.me
        parts.identity = parts.identity._replace(epoch=epoch)
        protocols = (parts.settings.protocol_min, parts.settings.protocol_max)
        introduction = parts.signer.introduction(parts.identity, 0, protocols)
        parts.members.present(me, introduction)
        me.incarnation = 0
        me.proof = introduction
        parts.members.changed(me)
        self._standing.announce(me, State.ALIVE)

    def welcomed(self) -> None:
        """A member has taken this node in, and told all that it knows."""
        self._taken_in |= self._later_epoch <= self._parts.me.epoch

    # What others say of it

    def hear(self, said: Alive | Suspect | Dead | Left) -> None:
        parts, me = self._parts, self._parts.me
        if isinstance(said, Suspect | Dead):
            self._refute(said.epoch, said.incarnation)
            return
        later = (said.epoch, said.incarnation) > (me.epoch, me.incarnation)
        gone = isinstance(said, Left) and said.epoch == me.epoch and not self.leaving
        if not later and not gone:
            return
        check = parts.checker.alive if isinstance(said, Alive) else parts.checker.left
        if check(me.public_key, said):  # type: ignore[arg-type]
            self.meet_clone(said.epoch, "another process")

    def hear_introduction(self, said: Introduce) -> None:
        me = self._parts.me
        newer = (said.epoch, said.incarnation) > (me.epoch, me.incarnation)
        mine = me.introduction
        same = (said.epoch, said.incarnation) == (mine.epoch, mine.incarnation)
        other = same and said.signature != mine.signature
        if (newer or other) and self._parts.checker.introduction(said):
            self.meet_clone(said.epoch, f"{said.name} at {place_of(said)}")

    def hear_row(self, row: MemberRow) -> bool:
        """Somebody's view of this node; whether a copy of it may have left, which only a
        signature tells.
        """
        if row.epoch != self._parts.me.epoch:
            return False
        if row.state in (State.SUSPECT, State.DEAD):
            self._refute(row.epoch, row.incarnation)
        if row.state == State.LEFT:
            self.hear_forgotten()
        return row.state == State.LEFT and not self.leaving

    def hear_forgotten(self) -> None:
        """For somebody this run is over, as it was away too long or a copy of it has left."""
        if not self.leaving:
            self._want_epoch(self._parts.me.epoch)

    def _refute(self, epoch: int, incarnation: int) -> None:
        """Say the contrary, unless it is old, however far ahead the accusation is: whoever believes
        it has to hear more. Where there is no more to be said, another run begins.
        """
        parts, me = self._parts, self._parts.me
        if epoch != me.epoch or incarnation < me.incarnation or self.leaving:
            return
        if incarnation >= INCARNATION_MAX:
            self._want_epoch(epoch)
            return
        me.incarnation = incarnation + 1
        me.proof = parts.signer.alive(me.epoch, me.incarnation)
        parts.health.worse()
        parts.counters["refutations"] += 1
        parts.members.changed(me)
        self._standing.tell(me)
        self._standing.changed(me, State.ALIVE)

    # Others that are it

    def meet_clone(self, epoch: int, who: str) -> None:
        """Somebody has this node's key: its state folder was copied, or a machine's image.

        A higher epoch wins and this node falls silent; with the same one, both ask for a new
        epoch, once a minute at most, and the higher of those wins. A run that has only begun is
        the latest, whatever its epoch says: the machine was set back, and its clock perhaps too.
        """
        parts = self._parts
        self._later_epoch = max(self._later_epoch, epoch)
        if epoch > parts.me.epoch and not self._taken_in:
            self._want_epoch(epoch)
            return
        self._problems.set(
            "cloned-identity",
            parts.me.id,
            f"{who} runs under this node's identity: its state folder is a copy",
        )
        if epoch > parts.me.epoch:
            self.yielded = True
        else:
            self._want_epoch(epoch)

    def _want_epoch(self, above: int) -> None:
        parts = self._parts
        if parts.now_s - self._renewed_s >= RENEW_S:
            self._renewed_s = parts.now_s
            parts.events.append(EpochWanted(above=above))
