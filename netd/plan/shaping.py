"""Bandwidth limits of an endpoint, as kernel objects.

A qdisc shapes only what leaves a link. What a container receives leaves the host's end of
its veth pair, so a token bucket there limits it. What it sends arrives there; it is passed
through a link of kind ifb of its own first, and a token bucket on that ifb limits it. A
policer would need no ifb, but drops instead of delaying, which costs TCP most of the rate.
"""

from typing import Final

from netd.model.endpoint import Bandwidth
from netd.model.names import ifb_name
from netd.plan.objects import Ifb, Object, Redirect, Shaper

# How much may leave at once. A busy CPU may serve the bucket's timer milliseconds late, and
# only tokens saved up meanwhile make up for it. With 10 ms, TCP fills 2 Mbit/s to 1 Gbit/s
# (96 % of it as payload), and the peak is too short to overflow a switch downstream.
BURST_MS: Final = 10
# A packet longer than the burst is never sent (sch_tbf.c: tbf_enqueue drops it; only GSO
# packets are split first). Ten full frames are TCP's initial window (RFC 6928): with room
# for them in bucket and queue, a connection over a slow limit does not begin with losses.
BURST_FRAMES: Final = 10
FRAME_OVERHEAD_BYTES: Final = 18  # Ethernet header and one VLAN tag
# How long a packet may wait in the queue before later ones are dropped: enough for TCP to
# fill the rate at the round-trip times of a continent, little enough for calls and games.
LATENCY_US: Final = 50_000


def shaping_objects(
    endpoint_id: str, host_ifname: str, bandwidth: Bandwidth, mtu: int | None
) -> list[Object]:
    """What limits the endpoint behind `host_ifname` to `bandwidth`; [] when nothing does.

    `mtu` is in bytes, None means 1500. The ifb has the veth's MTU.
    """
    mtu = mtu or 1500
    objects: list[Object] = []
    if bandwidth.ingress_bps is not None:
        objects.append(_shaper(endpoint_id, host_ifname, bandwidth.ingress_bps, mtu))
    if bandwidth.egress_bps is not None:
        ifb = ifb_name(endpoint_id)
        objects += [
            Ifb(owner=endpoint_id, name=ifb, mtu=mtu),
            _shaper(endpoint_id, ifb, bandwidth.egress_bps, mtu),
            Redirect(owner=endpoint_id, link=host_ifname, target=ifb),
        ]
    return objects


def burst_bytes(rate_bps: int, mtu: int) -> int:
    """The bucket's depth for a rate: BURST_MS of it, and at least BURST_FRAMES full frames."""
    return max(rate_bps * BURST_MS // 8_000, BURST_FRAMES * (mtu + FRAME_OVERHEAD_BYTES))


def _shaper(owner: str, link: str, rate_bps: int, mtu: int) -> Shaper:
    return Shaper(
        owner=owner,
        link=link,
        rate_bps=rate_bps,
        burst_bytes=burst_bytes(rate_bps, mtu),
        latency_us=LATENCY_US,
    )
