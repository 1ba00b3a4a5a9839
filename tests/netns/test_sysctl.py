"""Kernel parameters, in the namespace of the calling thread."""

from collections.abc import Callable
from pathlib import Path

import pytest

from netd.kernel import sysctl
from netd.kernel.netns import Namespaces
from tests.netns.conftest import Container, run

FORWARD = "net/ipv4/ip_forward"


def test_a_value_is_read_as_it_was_written() -> None:
    assert sysctl.read(FORWARD) == "0"
    sysctl.write(FORWARD, "1")
    assert sysctl.read(FORWARD) == "1"
    assert run("sysctl", "-n", "net.ipv4.ip_forward") == "1\n"


def test_a_value_of_several_numbers_is_kept_whole() -> None:
    sysctl.write("net/ipv4/ip_local_port_range", "20000 30000")
    assert sysctl.read("net/ipv4/ip_local_port_range") == "20000\t30000"


def test_interface_names_may_have_dots() -> None:
    run("ip", "link", "add", "eth0.5", "type", "ifb")
    sysctl.write("net/ipv4/conf/eth0.5/route_localnet", "1")
    assert sysctl.read("net/ipv4/conf/eth0.5/route_localnet") == "1"
    assert sysctl.read("net/ipv4/conf/eth0/route_localnet") is None


def test_the_threads_namespace_decides(container: Callable[[], Container]) -> None:
    made = container()
    namespaces = Namespaces()
    with Path(made.path).open("rb") as namespace, namespaces.entered(namespace.fileno()):
        sysctl.write(FORWARD, "1")
    namespaces.close()
    assert sysctl.read(FORWARD) == "0"
    assert made.run("sysctl", "-n", "net.ipv4.ip_forward") == "1\n"


def test_an_unknown_parameter_is_none_to_read_and_an_error_to_write() -> None:
    assert sysctl.read("net/ipv4/no_such_thing") is None
    assert sysctl.read(f"{FORWARD}/below") is None
    with pytest.raises(FileNotFoundError):
        sysctl.write("net/ipv4/no_such_thing", "1")


def test_a_refused_value_is_an_error_and_changes_nothing() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        sysctl.write(FORWARD, "blue")
    assert sysctl.read(FORWARD) == "0"


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "net/../../etc/passwd", "net//ipv4", "..", "./net", "net/\0", "net/"],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="kernel parameter"):
        sysctl.read(name)
    with pytest.raises(ValueError, match="kernel parameter"):
        sysctl.write(name, "1")


def test_a_value_with_a_newline_is_refused() -> None:
    with pytest.raises(ValueError, match="newline"):
        sysctl.write(FORWARD, "1\n0")
    assert sysctl.read(FORWARD) == "0"
