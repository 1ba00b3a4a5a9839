"""Traffic control: token buckets and the redirection of what a link receives.

What is netd's carries its number 28260, 0x6e64 ("nd"): a root qdisc as its handle, a filter
as its preference. A root qdisc with another handle is somebody else's and is left alone;
the kernel's default ones have the handle 0 and give way (net/sched/sch_api.c).
"""

import errno
import socket
from collections.abc import Collection

from netd.kernel import tc_messages
from netd.kernel.netlink import Message, NetlinkError, NetlinkSocket
from netd.kernel.tc_messages import QDISCS, TokenBucket
from netd.plan.objects import HOST, Object, Redirect, Shaper, State, state_of
from netd.plan.operations import Failure, Operation


class TrafficControl:
    """Shapers and redirections in the network namespace of `rtnl`.

    The calling thread must be in that namespace: links are named to the kernel by index.
    `rtnl` stays the caller's to close.
    """

    def __init__(self, rtnl: NetlinkSocket) -> None:
        self._rtnl = rtnl

    def apply(self, operation: Operation) -> Failure | None:
        """Carry out an operation on a Shaper or Redirect; None says that it is so now.

        `add` and `change` are one: each puts right what is there. A changed Shaper keeps its
        queue: no packet is lost unless the new queue is too short for it. Deleting what is
        not there, or was on a link that is not there, succeeds.
        """
        removing = operation.verb in ("delete", "retire")
        try:
            match operation.object:
                case Shaper(link=link) if removing:
                    self._unshape(_index(link))
                case Shaper(link=link) as shaper:
                    self._shape(_index(link), shaper)
                case Redirect(link=link) if removing:
                    self._unredirect(_index(link))
                case Redirect(link=link, target=target):
                    self._redirect(_index(link), _index(target))
                case other:
                    raise TypeError(f"{type(other).__name__} is not traffic control")
        except NetlinkError as error:
            if removing and error.errno == errno.ENODEV:
                return None
            message = error.strerror or str(error)
            return Failure(operation=operation, errno=error.errno or 0, message=message)
        return None

    def observe(self, links: Collection[str], wanted: State) -> State:
        """The Shapers and Redirects that carry netd's number.

        `links` are the names of all links with netd's tag, so that a limit that nobody wants
        any more is found; the links of `wanted` are looked at in any case. The kernel has no
        room for an owner: it is that of the object of `wanted` with the same key, "" where
        there is none. A Shaper is given as it is wanted when the kernel's rounded numbers
        are what it makes of the wanted ones. Raises NetlinkError.
        """
        names = set(links).union(
            obj.link for obj in wanted.values() if isinstance(obj, Shaper | Redirect)
        )
        found: list[Object] = []
        for qdisc in self._rtnl.dump(QDISCS):
            if qdisc is None or (link := _name(qdisc.ifindex)) not in names:
                continue
            if qdisc.bucket is not None:
                found.append(_shaper(link, qdisc.bucket, wanted))
            elif (target := self._target(qdisc.ifindex)) is not None:
                owner = _owner(wanted, (HOST, "redirect", link))
                found.append(Redirect(owner=owner, link=link, target=_name(target)))
        return state_of(found)

    def _shape(self, index: int, shaper: Shaper) -> None:
        refused = self._rtnl.send([tc_messages.tbf_creation(index, shaper)])
        if error := refused.get(0):
            if error.errno != errno.EEXIST:
                raise error
            raise NetlinkError(
                errno.EEXIST,
                f"{shaper.link} has a root qdisc that netd did not make; "
                f"see `tc qdisc show dev {shaper.link}`",
            )

    def _unshape(self, index: int) -> None:
        self._remove(tc_messages.tbf_deletion(index))

    def _redirect(self, index: int, target: int) -> None:
        # The filter is made anew, not replaced: what arrives between the two requests passes
        # unshaped, and nothing is lost.
        refused = self._rtnl.send(
            [
                tc_messages.ingress_creation(index),
                tc_messages.redirect_deletion(index),
                tc_messages.redirect_creation(index, target),
            ]
        )
        if error := refused.get(2):
            no_qdisc = refused.get(0)
            raise no_qdisc if no_qdisc and no_qdisc.errno != errno.EEXIST else error

    def _unredirect(self, index: int) -> None:
        self._remove(tc_messages.redirect_deletion(index))
        if not self._rtnl.dump(tc_messages.filters(index)):
            self._remove(tc_messages.ingress_deletion(index))

    def _remove(self, message: Message) -> None:
        # For a qdisc or filter that is not there, or is not the one that was named, the kernel
        # says EINVAL as well as ENOENT.
        error = self._rtnl.send([message]).get(0)
        if error and error.errno not in (errno.ENOENT, errno.EINVAL):
            raise error

    def _target(self, index: int) -> int | None:
        """The index of the link that netd redirects to, 0 when it is gone; None without one."""
        targets = self._rtnl.dump(tc_messages.filters(index))
        return next((target for target in targets if target is not None), None)


def _shaper(link: str, bucket: TokenBucket, wanted: State) -> Shaper:
    key = (HOST, "shaper", link)
    want = wanted.get(key)
    if isinstance(want, Shaper) and bucket.fulfils(want):
        return want
    return Shaper(
        owner=_owner(wanted, key),
        link=link,
        rate_bps=bucket.rate * 8,
        burst_bytes=bucket.burst_bytes,
        latency_us=bucket.latency_us,
    )


def _owner(wanted: State, key: tuple[str, ...]) -> str:
    return wanted[key].owner if key in wanted else ""


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise NetlinkError(errno.ENODEV, name) from None


def _name(index: int) -> str:
    """The link's name, "" when it is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""
