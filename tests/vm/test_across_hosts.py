"""Containers on two machines with Debian's kernel."""

from tests.lab.container import Container


def test_containers_talk_across_hosts(pair: tuple[Container, Container]) -> None:
    a, b = pair
    b.serve("hello from b")
    for family in (4, 6):
        assert a.pings(b.address(family))
        assert a.fetch(b.address(family)) == f"hello from b to {a.address(family)}\n"
