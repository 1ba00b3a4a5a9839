"""Which objects limit an endpoint's bandwidth."""

from hypothesis import given
from hypothesis import strategies as st

from netd.model.endpoint import Bandwidth
from netd.plan.diff import diff
from netd.plan.objects import Ifb, Redirect, Shaper, state_of
from netd.plan.shaping import burst_bytes, shaping_objects

ENDPOINT = "0123456789abcdef"
VETH = "nv0123456789ab"
IFB = "ni0123456789ab"


def test_no_limit_needs_nothing() -> None:
    assert shaping_objects(ENDPOINT, VETH, Bandwidth(), 1500) == []


def test_what_a_container_receives_is_shaped_on_the_host_veth() -> None:
    objects = shaping_objects(ENDPOINT, VETH, Bandwidth(ingress_bps=100_000_000), 1500)
    assert objects == [
        Shaper(
            owner=ENDPOINT,
            link=VETH,
            rate_bps=100_000_000,
            burst_bytes=125_000,
            latency_us=50_000,
        )
    ]


def test_what_a_container_sends_is_shaped_on_an_ifb_of_its_own() -> None:
    objects = shaping_objects(ENDPOINT, VETH, Bandwidth(egress_bps=8_000), 9000)
    assert objects == [
        Ifb(owner=ENDPOINT, name=IFB, mtu=9000),
        Shaper(owner=ENDPOINT, link=IFB, rate_bps=8_000, burst_bytes=90_180, latency_us=50_000),
        Redirect(owner=ENDPOINT, link=VETH, target=IFB),
    ]


def test_both_directions_are_limited_independently() -> None:
    objects = shaping_objects(
        ENDPOINT, VETH, Bandwidth(ingress_bps=20_000_000, egress_bps=5_000_000), None
    )
    rates = {obj.link: obj.rate_bps for obj in objects if isinstance(obj, Shaper)}
    assert rates == {VETH: 20_000_000, IFB: 5_000_000}


def test_the_ifb_exists_before_packets_are_sent_to_it() -> None:
    objects = shaping_objects(ENDPOINT, VETH, Bandwidth(egress_bps=5_000_000), 1500)
    order = [type(op.object) for op in diff(state_of(objects), {})]
    assert order == [Ifb, Shaper, Redirect]


def test_packets_are_sent_elsewhere_before_the_ifb_goes() -> None:
    objects = shaping_objects(ENDPOINT, VETH, Bandwidth(egress_bps=5_000_000), 1500)
    order = [(op.verb, type(op.object)) for op in diff({}, state_of(objects))]
    assert order == [("delete", Redirect), ("delete", Ifb)]


def test_another_rate_is_a_change_of_the_shaper_alone() -> None:
    slow = shaping_objects(ENDPOINT, VETH, Bandwidth(egress_bps=5_000_000), 1500)
    fast = shaping_objects(ENDPOINT, VETH, Bandwidth(egress_bps=9_000_000), 1500)
    operations = diff(state_of(fast), state_of(slow))
    assert [(op.verb, type(op.object)) for op in operations] == [("change", Shaper)]


@given(
    rate_bps=st.integers(min_value=8_000, max_value=1_000_000_000_000),
    mtu=st.integers(min_value=68, max_value=65_535),
)
def test_a_burst_holds_a_full_frame_and_fits_the_kernels_field(rate_bps: int, mtu: int) -> None:
    burst = burst_bytes(rate_bps, mtu)
    assert mtu + 18 <= burst < 2**32
