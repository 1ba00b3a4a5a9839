"""Traffic control in netlink's words: requests as bytes, answers as values.

Sources: include/uapi/linux/pkt_sched.h, pkt_cls.h; how the kernel reads them:
net/sched/sch_tbf.c, cls_u32.c, act_mirred.c.
"""

from socket import htons
from typing import Any, Final, NamedTuple

from pyroute2.netlink import nla, rtnl
from pyroute2.netlink.rtnl.tcmsg import act_mirred, sched_tbf, tcmsg
from pyroute2.protocols import ETH_P_ALL

from netd.kernel import tag
from netd.kernel.codec import Attribute, decoded, encoded, nested
from netd.kernel.netlink import Message, Query
from netd.kernel.uapi import NLM_F_CREATE, NLM_F_EXCL
from netd.plan.objects import Shaper

PREFERENCE: Final = tag.LINK_GROUP

# include/uapi/linux/pkt_sched.h
TC_H_MIN_INGRESS = 0xFFFFFFF2  # the parent of filters on what a link receives
TC_INGRESS_HANDLE = 0xFFFF0000
TC_LINKLAYER_ETHERNET = 1
PSCHED_TICK_NS = 64
U32_MAX = 0xFFFFFFFF

# Where netd's qdiscs and filters are, in the words of struct tcmsg.
_SHAPER: Final = {"handle": tag.LINK_GROUP << 16, "parent": rtnl.TC_H_ROOT}
_INGRESS: Final = {"handle": TC_INGRESS_HANDLE, "parent": rtnl.TC_H_INGRESS}
_REDIRECT: Final = {"parent": TC_H_MIN_INGRESS, "info": PREFERENCE << 16 | htons(ETH_P_ALL)}
_TARGET: Final = (
    *("TCA_OPTIONS", "TCA_U32_ACT", "TCA_ACT_PRIO_1"),
    *("TCA_ACT_OPTIONS", "TCA_MIRRED_PARMS", "ifindex"),
)


class _TbfOptions(nla):  # type: ignore[misc]  # pyroute2 has no types
    """A token bucket's options. pyroute2's own lack rates of 64 bits and bursts in bytes.

    They also bring a table of transmission times, which the kernel does not want when it is
    told the link layer.
    """

    nla_map = (
        (1, "TCA_TBF_PARMS", "Parameters"),
        (4, "TCA_TBF_RATE64", "uint64"),
        (6, "TCA_TBF_BURST", "uint32"),
    )

    class Parameters(nla):  # type: ignore[misc]
        fields = sched_tbf.options.tbf_parms.fields


class _TrafficMessage(tcmsg):  # type: ignore[misc]
    """pyroute2's, with the token bucket above."""

    def get_plugin(self, plug: str, *args: Any, **kwargs: Any) -> Any:
        if plug == "options" and self.get_attr("TCA_KIND") == "tbf":
            return _TbfOptions
        return super().get_plugin(plug, *args, **kwargs)


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


class Qdisc(NamedTuple):
    """What netd looks at: a token bucket of its own, or (None) what holds filters on input."""

    ifindex: int
    bucket: TokenBucket | None


def tbf_creation(index: int, shaper: Shaper) -> Message:
    """Make the root qdisc of a link a token bucket of netd's, or change the one that is.

    CREATE without REPLACE and EXCL is all of it in one step, free of races: a root qdisc with
    netd's handle is changed in place, a default one gives way, any other is EEXIST.
    """
    rate = shaper.rate_bps // 8
    parameters = {
        "rate___reserved": TC_LINKLAYER_ETHERNET,  # `linklayer` since Linux 3.8
        "rate": min(rate, U32_MAX),
        "limit": _limit_bytes(shaper),
    }
    options = [("TCA_TBF_PARMS", parameters), ("TCA_TBF_BURST", shaper.burst_bytes)]
    if rate > U32_MAX:
        options.append(("TCA_TBF_RATE64", rate))
    payload = _payload(index, "tbf", ("TCA_OPTIONS", nested(*options)), **_SHAPER)
    return Message(rtnl.RTM_NEWQDISC, NLM_F_CREATE, payload)


def tbf_deletion(index: int) -> Message:
    return Message(rtnl.RTM_DELQDISC, 0, _payload(index, "tbf", **_SHAPER))


def ingress_creation(index: int) -> Message:
    """Give a link something to hang filters on; EEXIST when it has, be it ingress or clsact."""
    payload = _payload(index, "ingress", **_INGRESS)
    return Message(rtnl.RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, payload)


def ingress_deletion(index: int) -> Message:
    """Remove a qdisc of kind ingress; EINVAL when it is a clsact."""
    return Message(rtnl.RTM_DELQDISC, 0, _payload(index, "ingress", **_INGRESS))


def redirect_creation(index: int, target: int) -> Message:
    """Pass all that a link receives through `target`. Twice is two filters."""
    redirect = {"direction": "egress", "action": "redirect", "ifindex": target}
    action = nested(
        ("TCA_ACT_KIND", "mirred"), ("TCA_ACT_OPTIONS", act_mirred.get_parameters(redirect))
    )
    options = nested(
        # One key with an empty mask matches all; not every kernel has the matchall classifier.
        ("TCA_U32_SEL", {"keys": ["0x0/0x0+0"]}),
        ("TCA_U32_ACT", nested(("TCA_ACT_PRIO_1", action))),
    )
    payload = _payload(index, "u32", ("TCA_OPTIONS", options), **_REDIRECT)
    return Message(rtnl.RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, payload)


def redirect_deletion(index: int) -> Message:
    """Remove all filters of netd's preference."""
    return Message(rtnl.RTM_DELTFILTER, 0, _payload(index, "u32", **_REDIRECT))


def filters(index: int) -> Query[int | None]:
    """The filters on what a link receives.

    Of one that netd made, the index of the link that it redirects to, 0 when that is gone.
    """
    payload = encoded(tcmsg, index=index, parent=TC_H_MIN_INGRESS)
    return Query(rtnl.RTM_GETTFILTER, payload, rtnl.RTM_NEWTFILTER, _decode_filter)


def _decode_filter(data: bytes, start: int, _end: int) -> int | None:
    message = decoded(tcmsg, data, start)
    return message.get(_TARGET) if message["info"] >> 16 == PREFERENCE else None


def _decode_qdisc(data: bytes, start: int, _end: int) -> Qdisc | None:
    """None for all others."""
    if data[start + 8 : start + 12] == bytes(4):  # tcm_handle
        return None  # the default, which each of many links has: not worth pyroute2's 20 µs
    message = decoded(_TrafficMessage, data, start)
    place = {"handle": message["handle"], "parent": message["parent"]}
    if place["parent"] == rtnl.TC_H_INGRESS:
        return Qdisc(message["index"], None)
    if place == _SHAPER and message.get("kind") == "tbf":
        return Qdisc(message["index"], _token_bucket(message.get("options")))
    return None


QDISCS: Final = Query(rtnl.RTM_GETQDISC, encoded(tcmsg), rtnl.RTM_NEWQDISC, _decode_qdisc)


def _token_bucket(options: Any) -> TokenBucket:
    parameters = options.get_attr("TCA_TBF_PARMS")
    rate = options.get_attr("TCA_TBF_RATE64") or parameters["rate"]
    return TokenBucket(rate, parameters["limit"], parameters["buffer"])


def _limit_bytes(shaper: Shaper) -> int:
    # As tc-tbf(8) derives it. 32 bits hold it up to about 570 Gbit/s at 50 ms.
    queued = shaper.rate_bps * shaper.latency_us // 8_000_000
    return min(queued + shaper.burst_bytes, U32_MAX)


def _payload(index: int, kind: str, *options: Attribute, **place: int) -> bytes:
    return encoded(_TrafficMessage, ("TCA_KIND", kind), *options, index=index, **place)
