"""Recognising network namespaces."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from netd.kernel import capabilities
from netd.kernel.netns import Namespaces
from netd.model.errors import Invalid, NotFound
from tests.netns.conftest import Container, run


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    made = Namespaces()
    yield made
    made.close()


def test_identifies_a_namespace_by_pid_and_by_path(
    namespaces: Namespaces, container: Callable[[], Container]
) -> None:
    box = container()
    box.run("ip", "link", "add", "br7", "type", "bridge")
    by_pid, links = namespaces.identify(path=None, pid=box.pid)
    by_path, _ = namespaces.identify(path=box.path, pid=None)
    assert by_pid == by_path
    assert by_pid.key == box.key
    assert by_pid.pid == box.pid
    assert bool(by_pid.cookie) == ("netns-cookie" in capabilities.probe())
    assert links == {"lo", "br7"}


def test_each_namespace_has_its_own_cookie(
    namespaces: Namespaces, container: Callable[[], Container]
) -> None:
    if "netns-cookie" not in capabilities.probe():
        pytest.skip("this kernel has no SO_NETNS_COOKIE (Linux 5.14)")
    found = {namespaces.identify(path=None, pid=container().pid)[0].cookie for _ in range(3)}
    assert len(found) == 3


def test_a_bind_mount_has_no_pid(
    namespaces: Namespaces, container: Callable[[], Container], tmp_path: Path
) -> None:
    box = container()
    place = tmp_path / "netns"
    place.touch()
    run("mount", "--bind", box.path, str(place))
    try:
        sandbox, _ = namespaces.identify(path=str(place), pid=None)
        box.kill()
        assert sandbox.pid is None
        assert namespaces.alive(sandbox)
    finally:
        run("umount", str(place))
    assert not namespaces.alive(sandbox)


def test_knows_its_own_namespace(namespaces: Namespaces) -> None:
    sandbox, _ = namespaces.identify(path=None, pid=os.getpid())
    assert sandbox.inode == namespaces.home_inode


def test_dies_with_its_process(namespaces: Namespaces, container: Callable[[], Container]) -> None:
    box = container()
    sandbox, _ = namespaces.identify(path=box.path, pid=None)
    assert namespaces.alive(sandbox)
    box.kill()
    assert not namespaces.alive(sandbox)


def test_another_namespace_at_the_same_path_is_not_alive(
    namespaces: Namespaces, container: Callable[[], Container], tmp_path: Path
) -> None:
    link = tmp_path / "netns"
    first, second = container(), container()
    link.symlink_to(first.path)
    sandbox, _ = namespaces.identify(path=str(link), pid=None)
    link.unlink()
    link.symlink_to(second.path)
    assert not namespaces.alive(sandbox)


def test_another_boot_is_not_alive(
    namespaces: Namespaces, container: Callable[[], Container]
) -> None:
    sandbox, _ = namespaces.identify(path=container().path, pid=None)
    assert not namespaces.alive(msgspec.structs.replace(sandbox, boot_id="another"))
    assert not namespaces.alive(msgspec.structs.replace(sandbox, cookie=sandbox.cookie + 1))
    assert not namespaces.alive(msgspec.structs.replace(sandbox, pid_start_ticks=1))


@pytest.mark.parametrize(
    "path", ["/proc/self/ns/mnt", "/proc/self/ns/pid", "/etc/passwd", "/tmp", "/dev/null"]
)
def test_refuses_what_is_no_network_namespace(namespaces: Namespaces, path: str) -> None:
    with pytest.raises(Invalid, match="not a network namespace") as caught:
        namespaces.identify(path=path, pid=None)
    assert caught.value.field == "netns"


def test_does_not_block_on_a_fifo(namespaces: Namespaces, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(Invalid):
        namespaces.identify(path=str(fifo), pid=None)


@pytest.mark.parametrize("path", ["ns/net", "", "../proc/self/ns/net", "/a\0b", "/" + "x" * 5000])
def test_refuses_what_is_no_absolute_path(namespaces: Namespaces, path: str) -> None:
    with pytest.raises(Invalid):
        namespaces.identify(path=path, pid=None)


def test_says_what_is_missing(namespaces: Namespaces) -> None:
    with pytest.raises(NotFound) as caught:
        namespaces.identify(path="/run/netns/no-such-namespace", pid=None)
    assert caught.value.field == "netns"
    with pytest.raises(NotFound, match="4194304") as caught:
        namespaces.identify(path=None, pid=4194304)
    assert caught.value.field == "pid"


def test_leaves_no_descriptor_open(
    namespaces: Namespaces, container: Callable[[], Container]
) -> None:
    box = container()
    descriptors = Path("/proc/self/fd")
    before = {entry.name for entry in descriptors.iterdir()}
    sandbox, _ = namespaces.identify(path=box.path, pid=None)
    namespaces.alive(sandbox)
    for wrong in ("/proc/self/ns/mnt", "/etc/passwd"):
        with pytest.raises(Invalid):
            namespaces.identify(path=wrong, pid=None)
    assert {entry.name for entry in descriptors.iterdir()} == before


def test_returns_to_the_host_when_the_work_inside_fails(
    namespaces: Namespaces, container: Callable[[], Container]
) -> None:
    here = Path("/proc/thread-self/ns/net")
    seen = []
    descriptor = os.open(container().path, os.O_RDONLY)

    def fail() -> None:
        with namespaces.entered(descriptor):
            seen.append(here.stat().st_ino)
            raise RuntimeError

    inside = os.fstat(descriptor).st_ino
    with pytest.raises(RuntimeError):
        fail()
    os.close(descriptor)
    assert seen == [inside]
    assert here.stat().st_ino == namespaces.home_inode
