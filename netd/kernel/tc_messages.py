"""Traffic control in netlink's words: requests as bytes, answers as values.

Sources: include/uapi/linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h; how the kernel reads
them: net/sched/sch_tbf.c, cls_u32.c, act_mirred.c.
"""

import socket
import struct
from typing import Final, NamedTuple

from netd.kernel import tag
from netd.kernel.attributes import attribute, attributes
from netd.kernel.netlink import Message, Query
from netd.kernel.uapi import NLM_F_CREATE, NLM_F_EXCL, U32
from netd.plan.objects import Shaper

TBF_HANDLE: Final = tag.LINK_GROUP << 16
PREFERENCE: Final = tag.LINK_GROUP

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST = 1, 4, 6
TCA_U32_SEL, TCA_U32_ACT = 5, 7
TCA_ACT_KIND, TCA_ACT_OPTIONS = 1, 2
TCA_MIRRED_PARMS = 2
TC_H_ROOT = 0xFFFFFFFF
TC_H_INGRESS = 0xFFFFFFF1  # the parent of a qdisc of kind ingress or clsact
TC_H_MIN_INGRESS = 0xFFFFFFF2  # the parent of their filters
TC_INGRESS_HANDLE = 0xFFFF0000
TC_LINKLAYER_ETHERNET = 1
TC_U32_TERMINAL = 1
TC_ACT_STOLEN = 4
TCA_EGRESS_REDIR = 1
ETH_P_ALL = 3
PSCHED_TICK_NS = 64
U32_MAX = 0xFFFFFFFF

TCMSG = struct.Struct("=BxxxiIII")  # family, link, handle, parent, info
RATESPEC = struct.Struct("=BBHhHI")  # cell log, link layer, overhead, cell align, mpu, bytes/s
TBF_QOPT = struct.Struct("=12s12sIII")  # rate, peak rate, limit in bytes, burst in ticks, mtu
U32_SEL = struct.Struct("=BBBxHHHhI")  # flags, offset shift, keys, mask, off, offoff, hoff, hmask
U32_KEY = struct.Struct("=IIii")  # mask, value, offset, offset mask
MIRRED = struct.Struct("=IIiiiiI")  # index, capabilities, action, references, binds, what, link
U64 = struct.Struct("=Q")

FILTER_INFO: Final = PREFERENCE << 16 | socket.htons(ETH_P_ALL)


class Qdisc(NamedTuple):
    """A queueing discipline of the link `ifindex`. `options` is the raw TCA_OPTIONS."""

    ifindex: int
    kind: str
    handle: int
    parent: int
    options: bytes

    @property
    def shapes(self) -> bool:
        """Whether it is a token bucket that netd made."""
        return (self.kind, self.handle, self.parent) == ("tbf", TBF_HANDLE, TC_H_ROOT)


class TokenBucket(NamedTuple):
    """A tbf as the kernel reports it: bytes per second, bytes, and ticks of 64 ns."""

    rate: int
    limit: int
    ticks: int

    @property
    def burst_bytes(self) -> int:
        return self.ticks * PSCHED_TICK_NS * self.rate // 1_000_000_000

    @property
    def latency_us(self) -> int:
        return max(self.limit - self.burst_bytes, 0) * 1_000_000 // self.rate

    def fulfils(self, shaper: Shaper) -> bool:
        """Whether this is what the kernel makes of `shaper`: it rounds, and holds 32 bits."""
        rate = shaper.rate_bps // 8
        exact = shaper.burst_bytes * 1_000_000_000 // rate // PSCHED_TICK_NS
        # A transmission time is computed with a 31-bit reciprocal of the rate.
        same_burst = abs(self.ticks - (exact & U32_MAX)) <= 2 + (exact >> 28)
        return same_burst and (self.rate, self.limit) == (rate, _limit_bytes(shaper))


class Filter(NamedTuple):
    """A filter. `target` is the link that a u32 filter redirects to by mirred, 0 when gone."""

    preference: int
    target: int | None


def tbf_creation(index: int, shaper: Shaper) -> Message:
    """Make the root qdisc of a link a token bucket of netd's, or change the one that is.

    CREATE without REPLACE and EXCL is all of it in one step, free of races: a root qdisc with
    netd's handle is changed in place, a default one gives way, any other is EEXIST.
    """
    rate = shaper.rate_bps // 8
    # With a link layer given, the kernel wants no table of transmission times.
    spec = RATESPEC.pack(0, TC_LINKLAYER_ETHERNET, 0, 0, 0, min(rate, U32_MAX))
    parameters = TBF_QOPT.pack(spec, bytes(RATESPEC.size), _limit_bytes(shaper), 0, 0)
    options = attribute(TCA_TBF_PARMS, parameters)
    options += attribute(TCA_TBF_BURST, U32.pack(shaper.burst_bytes))
    if rate > U32_MAX:
        options += attribute(TCA_TBF_RATE64, U64.pack(rate))
    payload = _payload(index, TBF_HANDLE, TC_H_ROOT, 0, "tbf", options)
    return Message(RTM_NEWQDISC, NLM_F_CREATE, payload)


def tbf_deletion(index: int) -> Message:
    return Message(RTM_DELQDISC, 0, _payload(index, TBF_HANDLE, TC_H_ROOT, 0, "tbf"))


def ingress_creation(index: int) -> Message:
    """Give a link something to hang filters on; EEXIST when it has, be it ingress or clsact."""
    payload = _payload(index, TC_INGRESS_HANDLE, TC_H_INGRESS, 0, "ingress")
    return Message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, payload)


def ingress_deletion(index: int) -> Message:
    """Remove a qdisc of kind ingress; EINVAL when it is a clsact."""
    payload = _payload(index, TC_INGRESS_HANDLE, TC_H_INGRESS, 0, "ingress")
    return Message(RTM_DELQDISC, 0, payload)


def redirect_creation(index: int, target: int) -> Message:
    """Pass all that a link receives through `target`. Twice is two filters."""
    mirred = MIRRED.pack(0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, target)
    action = attribute(TCA_ACT_KIND, b"mirred\0")
    action += attribute(TCA_ACT_OPTIONS, attribute(TCA_MIRRED_PARMS, mirred))
    # One key with an empty mask matches all; not every kernel has the matchall classifier.
    selector = U32_SEL.pack(TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + U32_KEY.pack(0, 0, 0, 0)
    options = attribute(TCA_U32_SEL, selector) + attribute(TCA_U32_ACT, attribute(1, action))
    payload = _payload(index, 0, TC_H_MIN_INGRESS, FILTER_INFO, "u32", options)
    return Message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, payload)


def redirect_deletion(index: int) -> Message:
    """Remove all filters of netd's preference."""
    payload = _payload(index, 0, TC_H_MIN_INGRESS, FILTER_INFO, "u32")
    return Message(RTM_DELTFILTER, 0, payload)


def decode_tbf(qdisc: Qdisc) -> TokenBucket:
    found = attributes(qdisc.options, 0, len(qdisc.options))
    spec, _, limit, ticks, _ = TBF_QOPT.unpack_from(qdisc.options, found[TCA_TBF_PARMS][0])
    rate = RATESPEC.unpack(spec)[-1]
    if wide := found.get(TCA_TBF_RATE64):
        (rate,) = U64.unpack_from(qdisc.options, wide[0])
    return TokenBucket(rate, limit, ticks)


def filters(index: int) -> Query[Filter]:
    """The filters on what a link receives."""
    payload = TCMSG.pack(socket.AF_UNSPEC, index, 0, TC_H_MIN_INGRESS, 0)
    return Query(RTM_GETTFILTER, payload, RTM_NEWTFILTER, _decode_filter)


def _decode_qdisc(data: bytes, start: int, end: int) -> Qdisc:
    _, index, handle, parent, _ = TCMSG.unpack_from(data, start)
    found = attributes(data, start + TCMSG.size, end)
    kind, options = found[TCA_KIND], found.get(TCA_OPTIONS)
    return Qdisc(
        ifindex=index,
        kind=data[kind[0] : kind[1] - 1].decode(),
        handle=handle,
        parent=parent,
        options=data[options[0] : options[1]] if options else b"",
    )


QDISCS: Final = Query(RTM_GETQDISC, bytes(TCMSG.size), RTM_NEWQDISC, _decode_qdisc)


def _decode_filter(data: bytes, start: int, end: int) -> Filter:
    preference = TCMSG.unpack_from(data, start)[-1] >> 16
    place: tuple[int, int] | None = (start + TCMSG.size, end)
    for kind in (TCA_OPTIONS, TCA_U32_ACT, 1, TCA_ACT_OPTIONS, TCA_MIRRED_PARMS):
        place = attributes(data, *place).get(kind) if place else None
    if place is None or place[1] - place[0] < MIRRED.size:
        return Filter(preference, None)
    return Filter(preference, MIRRED.unpack_from(data, place[0])[-1])


def _limit_bytes(shaper: Shaper) -> int:
    # As tc-tbf(8) derives it. 32 bits hold it up to about 570 Gbit/s at 50 ms.
    queued = shaper.rate_bps * shaper.latency_us // 8_000_000
    return min(queued + shaper.burst_bytes, U32_MAX)


def _payload(
    index: int, handle: int, parent: int, info: int, kind: str, options: bytes = b""
) -> bytes:
    header = TCMSG.pack(socket.AF_UNSPEC, index, handle, parent, info)
    header += attribute(TCA_KIND, kind.encode() + b"\0")
    return header + attribute(TCA_OPTIONS, options) if options else header
