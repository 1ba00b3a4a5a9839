"""What checks look at, from what was written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.service import CheckSpec
from netd.registry.checks import targets
from netd.registry.checks.probe import Failed, text_of
from tests.unit.checks_lab import probe


@pytest.mark.parametrize(
    ("target", "address", "expected"),
    [
        ("", "10.0.0.1", "10.0.0.1:80"),
        ("", "fd00::1", "[fd00::1]:80"),
        (":81", "10.0.0.1", "10.0.0.1:81"),
        ("10.0.0.2", "10.0.0.1", "10.0.0.2:80"),
        ("10.0.0.2:82", "10.0.0.1", "10.0.0.2:82"),
        ("[fd00::2]:82", "10.0.0.1", "[fd00::2]:82"),
        ("db.blue.netd.internal:5432", "10.0.0.1", "db.blue.netd.internal:5432"),
    ],
)
def test_what_a_target_leaves_out_is_the_instances(
    target: str, address: str, expected: str
) -> None:
    made = probe(CheckSpec(kind="tcp", target=target), address=address)
    assert str(targets.host_port(made, target)) == expected


@pytest.mark.parametrize(
    "target", ["fd00::1", "fd00::1:80", "[fd00::1]", "a:b", "a:-1", "a:٣", "a:99999"]
)
def test_what_is_no_target_is_said(target: str) -> None:
    with pytest.raises(Failed, match="target"):
        targets.host_port(probe(CheckSpec(kind="tcp")), target)


def test_an_instance_without_a_port_needs_a_target_with_one() -> None:
    with pytest.raises(Failed, match="the instance has no port"):
        targets.host_port(probe(CheckSpec(kind="tcp"), port=0), "")


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    made = probe(CheckSpec(kind="tcp"))
    try:
        target = targets.host_port(made, text)
    except Failed:
        return
    assert 1 <= target.port <= 65535


@pytest.mark.parametrize(
    ("target", "tls", "expected"),
    [
        ("", False, "http://[fd00::1]:80/"),
        ("", True, "https://[fd00::1]:80/"),
        ("/health?full=1", False, "http://[fd00::1]:80/health?full=1"),
        ("https://example.test/x", False, "https://example.test/x"),
    ],
)
def test_the_url_of_an_http_check(target: str, tls: bool, expected: str) -> None:
    made = probe(CheckSpec(kind="http", target=target, tls=tls), address="fd00::1")
    assert targets.url(made) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("", ("127.0.0.1:80", "")),
        (":90", ("127.0.0.1:90", "")),
        ("/web.Shop", ("127.0.0.1:80", "web.Shop")),
        ("10.0.0.2:90/web.Shop", ("10.0.0.2:90", "web.Shop")),
    ],
)
def test_the_service_that_a_grpc_check_asks_for(target: str, expected: tuple[str, str]) -> None:
    where, name = targets.grpc_service(probe(CheckSpec(kind="grpc", target=target)))
    assert (str(where), name) == expected


def test_an_instance_with_a_network_is_looked_at_at_its_own_addresses_only() -> None:
    spec = CheckSpec(kind="tcp")
    own = probe(spec, address="10.0.0.1", network="blue", addresses=("10.0.0.1", "fd00::1"))
    for address in ("10.0.0.1", "fd00::1", "FD00:0::1"):
        own.check_reach(address)
    for address in ("127.0.0.1", "::1", "10.0.0.2", "::ffff:10.0.0.1", "fe80::1%eth0"):
        with pytest.raises(Failed, match="not an address of this instance"):
            own.check_reach(address)
    # One whose own address is not even one has none that it reaches.
    with pytest.raises(Failed):
        probe(spec, address="web.example", endpoint="e1").check_reach("127.0.0.1")
    probe(spec, address="10.0.0.1").check_reach("127.0.0.1")


@given(st.binary(max_size=300))
def test_what_others_write_is_shown_without_control_characters(data: bytes) -> None:
    assert all(c.isprintable() or c in "\n\t" for c in text_of(data))
