"""Traffic control requests byte by byte, and what is read in a message."""

import pytest
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from netd.kernel import tc_messages, uapi
from netd.kernel.codec import encoded, nested
from netd.kernel.tc_messages import QDISCS, Qdisc, TokenBucket
from netd.plan.objects import Shaper

LINK = 7
AT_ROOT = "00000000 07000000 0000646e ffffffff 00000000 08000100 74626600"  # struct tcmsg, kind


def shaper(rate_bps: int, burst_bytes: int) -> Shaper:
    return Shaper(link="nv1", rate_bps=rate_bps, burst_bytes=burst_bytes, latency_us=50_000)


@pytest.mark.parametrize(
    ("rate_bps", "burst_bytes", "options"),
    [
        (
            20_000_000,
            25_000,
            "34000200 28000100 00010000 00000000 a0252600 00000000 00000000 00000000 "
            "f0490200 00000000 00000000 08000600 a8610000",
        ),
        (  # more bytes per second than 32 bits hold
            40_000_000_000,
            50_000_000,
            "40000200 28000100 00010000 00000000 ffffffff 00000000 00000000 00000000 "
            "00a3e111 00000000 00000000 08000600 80f0fa02 0c000400 00f2052a 01000000",
        ),
    ],
)
def test_a_token_bucket(rate_bps: int, burst_bytes: int, options: str) -> None:
    made = tc_messages.tbf_creation(LINK, shaper(rate_bps, burst_bytes))
    assert made.payload.hex(" ", 4) == f"{AT_ROOT} {options}"
    assert tc_messages.tbf_deletion(LINK).payload.hex(" ", 4) == AT_ROOT


def test_a_redirection() -> None:
    assert tc_messages.redirect_creation(LINK, 9).payload.hex(" ", 4) == (
        "00000000 07000000 00000000 f2ffffff 0003646e 08000100 75333200 60000200 "
        # one key with an empty mask, the last one
        "24000500 01000100 00000000 00000000 00000000 00000000 00000000 00000000 00000000 "
        # the packet is stolen, and leaves through link 9
        "38000700 34000100 0b000100 6d697272 65640000 24000280 20000200 "
        "00000000 00000000 04000000 00000000 00000000 01000000 09000000"
    )
    assert tc_messages.redirect_deletion(LINK).payload.hex(" ", 4) == (
        "00000000 07000000 00000000 f2ffffff 0003646e 08000100 75333200"
    )
    assert tc_messages.ingress_creation(LINK).payload.hex(" ", 4) == (
        "00000000 07000000 0000ffff f1ffffff 00000000 0c000100 696e6772 65737300"
    )


def read(payload: bytes) -> Qdisc | None:
    size = uapi.NLMSGHDR.size + len(payload)
    header = uapi.NLMSGHDR.pack(size, QDISCS.answer, 0, 1, 0)
    return QDISCS.decode(header + payload, len(header), size)


def test_a_token_bucket_is_read_as_it_was_written() -> None:
    encoded(tcmsg, ("TCA_KIND", "tbf"))  # pyroute2 prepares a class once, at its first use
    made = tc_messages.tbf_creation(LINK, shaper(40_000_000_000, 50_000_000))
    assert read(made.payload) == Qdisc(LINK, TokenBucket(5_000_000_000, 300_000_000, 0))


def test_only_netds_token_buckets_and_what_holds_filters_are_looked_at() -> None:
    assert read(tc_messages.ingress_creation(LINK).payload) == Qdisc(LINK, None)
    root = {"index": LINK, "parent": 0xFFFFFFFF}
    assert read(encoded(tcmsg, ("TCA_KIND", "noqueue"), handle=0, **root)) is None
    foreign = ("TCA_OPTIONS", nested(("TCA_TBF_PARMS", {"rate": 1})))
    assert read(encoded(tcmsg, ("TCA_KIND", "tbf"), foreign, handle=1 << 16, **root)) is None
