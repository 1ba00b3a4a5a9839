"""The notation of published ports."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.cli.ports import COUNT_MAX, format_ports, parse_ports


def ports(
    host: int, container: int, protocol: str = "tcp", host_ip: str = "", count: int = 1
) -> dict[str, object]:
    return {
        "host_port": host,
        "container_port": container,
        "protocol": protocol,
        "host_ip": host_ip,
        "count": count,
    }


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("8080:80", ports(8080, 80)),
        ("8080:80/tcp", ports(8080, 80)),
        ("53:53/UDP", ports(53, 53, "udp")),
        ("5000-5009:6000-6009/sctp", ports(5000, 6000, "sctp", count=10)),
        ("127.0.0.1:8080:80", ports(8080, 80, host_ip="127.0.0.1")),
        ("[::1]:8080-8081:80-81/udp", ports(8080, 80, "udp", "::1", 2)),
        ("[2001:DB8:0::1]:1:65535", ports(1, 65535, host_ip="2001:db8::1")),
        ("0.0.0.0:80:80", ports(80, 80, host_ip="0.0.0.0")),
    ],
)
def test_docker_forms_are_read(text: str, meaning: dict[str, object]) -> None:
    assert parse_ports(text) == meaning


@pytest.mark.parametrize(
    ("text", "blame"),
    [
        ("", "does not have the form"),
        ("80", "does not have the form"),
        ("80:", "does not have the form"),
        ("::1:8080:80", "an IPv6 host is in brackets"),
        ("8080:80/tcp/udp", "does not have the form"),
        ("8080:80 ", "does not have the form"),
        ("8080:80\n", "does not have the form"),
        ("٨٠:80", "does not have the form"),
        ("-1:80", "does not have the form"),
        ("8080:80/icmp", "'icmp' is not a protocol"),
        ("0:80", "0 is out of range"),
        ("80:65536", "65536 is out of range"),
        ("90-80:1-11", "90-80 runs backwards: write 80-90"),
        ("8080-8082:80", "ranges of different size: 3 and 1 ports"),
        ("8080:80-81", "ranges of different size: 1 and 2 ports"),
        ("1-1025:1-1025", "has 1025 ports: one range has at most 1024"),
        ("localhost:8080:80", "'localhost' is not an IP address"),
        ("127.1:8080:80", "'127.1' is not an IP address"),
        ("[127.0.0.1]:8080:80", "brackets are for IPv6"),
        ("[]:8080:80", "does not have the form"),
    ],
)
def test_what_is_wrong_is_named(text: str, blame: str) -> None:
    with pytest.raises(ValueError, match=re.escape(blame)):
        parse_ports(text)


counts = st.integers(1, COUNT_MAX)


@given(
    data=st.data(),
    count=counts,
    protocol=st.sampled_from(["tcp", "udp", "sctp"]),
    host_ip=st.one_of(st.just(""), st.ip_addresses().map(str)),
)
def test_what_is_written_is_read_back(
    data: st.DataObject, count: int, protocol: str, host_ip: str
) -> None:
    first = st.integers(1, 65536 - count)
    mapping = ports(data.draw(first), data.draw(first), protocol, host_ip, count)
    assert parse_ports(format_ports(mapping)) == mapping


@given(
    st.one_of(
        st.text(), st.from_regex(r"([\[\]0-9a-f:.\-]*:)?[0-9-]+:[0-9-]+(/[a-z]*)?", fullmatch=True)
    )
)
def test_any_text_is_refused_or_has_a_meaning_in_bounds(text: str) -> None:
    try:
        mapping = parse_ports(text)
    except ValueError:
        return
    host_port, count = mapping["host_port"], mapping["count"]
    assert 1 <= host_port <= host_port + count - 1 <= 65535
    assert mapping["host_ip"] in ("", str(ipaddress.ip_address(mapping["host_ip"] or "::")))
