"""Which names are allowed, and the names of links that netd makes."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.errors import Invalid
from netd.model.names import (
    IFNAME_MAX_BYTES,
    LABEL_MAX_BYTES,
    LABELS_MAX,
    bridge_name,
    check_container_id,
    check_endpoint_name,
    check_ifname,
    check_labels,
    check_network_name,
    ifb_name,
    is_endpoint_link,
    shim_name,
    veth_name,
)

NETWORKS = st.from_regex(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?", fullmatch=True)
IDS = st.text(string.hexdigits.lower()[:16], min_size=16, max_size=16)


@pytest.mark.parametrize("name", ["a", "blue", "a.b-c_d", "0", "x" * 63, "e" * 15, "e" * 17])
def test_network_names(name: str) -> None:
    check_network_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "Blue", "-a", "a-", ".", "..", "a/b", "a b", "a\n", "a\0b", "x" * 64, "ä", "a%d", '"'],
)
def test_what_is_no_network_name(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_network_name(name)
    assert caught.value.field == "name"


@given(IDS)
def test_an_id_is_no_network_name(name: str) -> None:
    with pytest.raises(Invalid, match="are an id"):
        check_network_name(name)


@pytest.mark.parametrize("name", ["web", "web-1", "_srv", "A", "x" * 63])
def test_endpoint_names(name: str) -> None:
    check_endpoint_name(name, "name")


@pytest.mark.parametrize("name", ["", "a.b", "-a", "a-", "a b", "a\n", "x" * 64, "é"])
def test_what_is_no_endpoint_name(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_endpoint_name(name, "aliases[3]")
    assert caught.value.field == "aliases[3]"


@pytest.mark.parametrize("name", ["c1", "0123456789abcdef" * 4, "a_b.c:d@e-f"])
def test_container_ids(name: str) -> None:
    check_container_id(name)


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a b", "a\n", "x" * 129, "é"])
def test_what_is_no_container_id(name: str) -> None:
    with pytest.raises(Invalid):
        check_container_id(name)


@pytest.mark.parametrize("name", ["eth0", "a.100", "wlan+", "x" * 15, "_", "veth@if2"])
def test_interface_names(name: str) -> None:
    check_ifname(name)


@pytest.mark.parametrize(
    "name",
    ["", "lo", ".", "..", "all", "default", "a/b", "eth%d", "a b", "a\tb", "a:1", "x" * 16, "é"],
)
def test_what_is_no_interface_name(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_ifname(name)
    assert caught.value.field == "ifname"


@given(st.text(max_size=20))
def test_an_allowed_interface_name_is_harmless_everywhere(name: str) -> None:
    """In /proc/sys, in nft, on a command line."""
    try:
        check_ifname(name)
    except Invalid:
        return
    assert len(name.encode()) <= IFNAME_MAX_BYTES
    assert not set(name) & set("/%:\"'\\ \t\n\0;{}$")


def test_labels_are_bounded() -> None:
    check_labels({f"k{n}": "v" * LABEL_MAX_BYTES for n in range(LABELS_MAX)})
    for labels in (
        {f"k{n}": "" for n in range(LABELS_MAX + 1)},
        {"": "v"},
        {"k" * (LABEL_MAX_BYTES + 1): "v"},
        {"k": "é" * LABEL_MAX_BYTES},
    ):
        with pytest.raises(Invalid):
            check_labels(labels)


@given(NETWORKS)
def test_links_of_networks_have_names_that_the_kernel_takes(network: str) -> None:
    for prefix, name in (("nd-", bridge_name(network)), ("ns-", shim_name(network))):
        check_ifname(name)
        assert name.startswith(prefix)
        if len(network) <= IFNAME_MAX_BYTES - len(prefix):
            assert name == prefix + network


@given(NETWORKS, NETWORKS)
def test_links_of_networks_differ(one: str, other: str) -> None:
    assert (bridge_name(one) == bridge_name(other)) == (one == other)


@given(IDS)
def test_links_of_endpoints_have_names_that_the_kernel_takes(endpoint_id: str) -> None:
    names = {veth_name(endpoint_id), ifb_name(endpoint_id)}
    assert len(names) == 2
    for name in names:
        check_ifname(name)
        assert is_endpoint_link(name)


@pytest.mark.parametrize("name", ["eth0", "nd-blue", "ns-blue", "nv", "nvidia0", "veth12345678"])
def test_links_of_others_are_not_taken_for_endpoints(name: str) -> None:
    assert not is_endpoint_link(name)
