"""Who may call, and how the socket comes to be. Peers are real processes of other users."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from netd.api.auth import Access, Authority, Peer, peer_of
from netd.api.listening import listen
from netd.client import Client
from netd.model.errors import Conflict, Unavailable
from tests.unit.memory_engine import Served, served

NOBODY, ADMINS, VIEWERS, REGISTRY, STRANGERS = 65534, 61001, 61002, 61003, 61004
AUTHORITY = Authority(admin_gid=ADMINS, view_gid=VIEWERS, registry_uid=REGISTRY)
ROOT = Path(__file__).parents[2]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: starts other users' processes")

PEER = """
import os, sys
from netd.client import ApiError, Client, Unreachable
uid, gid, *groups = map(int, sys.argv[2:])
os.setgroups(groups)
os.setgid(gid)
os.setuid(uid)
client = Client(sys.argv[1])
said = []
for call in (
    client.status,
    lambda: client.create_network(name="blue", driver="none"),
    lambda: client.register("web-1", name="web"),
):
    try:
        call()
        said.append("yes")
    except ApiError as error:
        said.append(f"{error.status} {error.code}")
    except Unreachable as error:
        said.append("no connection" if "not allowed" in str(error) else str(error))
print(", ".join(said))
"""


async def ask_as(world: Served, uid: int, gid: int, groups: tuple[int, ...] = ()) -> str:
    """What a process of that user is told when it reads, when it writes, and when it writes what
    the registry may write.
    """

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", PEER, str(world.path), *map(str, (uid, gid, *groups))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout.strip()

    return await asyncio.to_thread(run)


@as_root
@pytest.mark.parametrize(
    ("uid", "gid", "groups", "answer"),
    [
        (0, 0, (), "yes, yes, yes"),
        (NOBODY, ADMINS, (), "yes, yes, yes"),
        (NOBODY, STRANGERS, (ADMINS,), "yes, yes, yes"),
        (NOBODY, STRANGERS, (VIEWERS,), "yes, 403 forbidden, 403 forbidden"),
        (NOBODY, VIEWERS, (), "yes, 403 forbidden, 403 forbidden"),
        (REGISTRY, STRANGERS, (), "yes, 403 forbidden, yes"),
        (NOBODY, STRANGERS, (), "403 forbidden, 403 forbidden, 403 forbidden"),
        (NOBODY, 0, (), "403 forbidden, 403 forbidden, 403 forbidden"),
    ],
)
async def test_what_each_user_may_do(
    uid: int, gid: int, groups: tuple[int, ...], answer: str
) -> None:
    async with served(authority=AUTHORITY, mode=0o666) as world:
        assert await ask_as(world, uid, gid, groups) == answer


@as_root
@pytest.mark.parametrize(
    ("uid", "groups", "answer"),
    [
        (NOBODY, (ADMINS,), "yes, yes, yes"),
        (NOBODY, (VIEWERS,), "yes, 403 forbidden, 403 forbidden"),
        (REGISTRY, (), "yes, 403 forbidden, yes"),
        (NOBODY, (), "no connection, no connection, no connection"),
    ],
)
async def test_the_sockets_own_modes_let_the_same_users_in(
    uid: int, groups: tuple[int, ...], answer: str
) -> None:
    async with served(authority=AUTHORITY) as world:
        assert stat.S_IMODE(world.path.stat().st_mode) == 0o660
        assert world.path.stat().st_gid == ADMINS
        assert await ask_as(world, uid, STRANGERS, groups) == answer


@as_root
async def test_groups_that_do_not_exist_give_nobody_rights() -> None:
    nobodys = Authority.from_names("no-such-group", "nor-this", "no-such-user")
    assert nobodys == Authority()
    async with served(authority=nobodys, mode=0o666) as world:
        assert (
            await ask_as(world, NOBODY, STRANGERS) == "403 forbidden, 403 forbidden, 403 forbidden"
        )


def test_names_are_looked_up() -> None:
    assert Authority.from_names("root", "root", "root") == Authority(
        admin_gid=0, view_gid=0, registry_uid=0
    )


def test_nobody_is_in_a_group_that_is_none() -> None:
    stranger = Peer(1, 1000, 1000, frozenset({1000}))
    assert Authority().access(stranger) is Access.NOTHING


def test_the_kernel_tells_who_the_peer_is() -> None:
    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        peer = peer_of(left)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert peer.groups == frozenset(os.getgroups())


async def test_what_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "netd.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    listener = listen(path, Authority(), 0o660)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
    listener.close()
    assert not path.exists()


async def test_a_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "netd.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)
        with pytest.raises(Conflict, match="another program listens"):
            listen(path, Authority(), 0o660)
        assert path.is_socket()


async def test_two_daemons_cannot_share_a_path(tmp_path: Path) -> None:
    path = tmp_path / "netd.sock"
    listener = listen(path, Authority(), 0o660)
    with pytest.raises(Conflict, match="another netd"):
        listen(path, Authority(), 0o660)
    listener.close()
    listen(path, Authority(), 0o660).close()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "netd.sock"
    path.write_text("precious")
    with pytest.raises(Conflict, match="not a socket"):
        listen(path, Authority(), 0o660)
    assert path.read_text() == "precious"


async def test_paths_that_cannot_be_listened_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot make"):
        listen(tmp_path / "file" / "netd.sock", Authority(), 0o660)
    with pytest.raises(Conflict, match="107 bytes"):
        listen(tmp_path / ("x" * 100), Authority(), 0o660)


async def test_a_socket_from_outside_is_served_and_left(tmp_path: Path) -> None:
    async with served() as world:
        path = tmp_path / "given.sock"
        with socket.socket(socket.AF_UNIX) as given:
            given.bind(str(path))
            given.listen(5)
            other = type(world.server)(world.engine, authority=Authority())
            await other.serve(given.dup())
            with Client(str(path)) as client:
                assert (await asyncio.to_thread(client.status))["node"] == "here"
            await other.stop()
        assert path.is_socket()
