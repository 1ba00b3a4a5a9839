"""The page's Unix socket: made by the daemon or the service manager, used by the registry."""

import configparser
import os
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from netd.api.auth import Authority
from netd.daemon.page import PageSocket
from netd.daemon.settings import NEEDS_RESTART
from netd.daemon.settings.registry import Page
from netd.registry import main

UNITS = Path(__file__).parents[2] / "systemd"
ACL = "system.posix_acl_access"


def test_a_new_one_takes_the_place_of_the_last(tmp_path: Path) -> None:
    page = PageSocket(tmp_path, Authority)
    path = tmp_path / "page.sock"
    first = page.open()
    assert first is not None
    before = path.stat()
    assert stat.S_IMODE(before.st_mode) == 0o660
    with first:
        second = page.open()  # the last registry has ended, whatever it has left
    assert second is not None
    with second, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
    assert path.is_socket()


def test_who_may_look_is_who_may_read(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    sock = PageSocket(tmp_path, lambda: Authority(admin_gid=1234, view_gid=1235)).open()
    assert sock is not None
    sock.close()
    path = tmp_path / "page.sock"
    assert path.stat().st_gid == 1234
    assert (1235).to_bytes(4, "little") in os.getxattr(path, ACL)


def test_one_of_the_service_manager_is_opened_to_readers(tmp_path: Path) -> None:
    page = PageSocket(tmp_path, lambda: Authority(view_gid=1235))
    page.admit()  # there is none
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(tmp_path / "page.sock"))
        page.admit()
    assert (1235).to_bytes(4, "little") in os.getxattr(tmp_path / "page.sock", ACL)


def test_without_it_the_registry_starts_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "page.sock").write_text("not a socket")
    assert PageSocket(tmp_path, Authority).open() is None
    assert "is not a socket" in caplog.text
    with socket.socket(socket.AF_UNIX) as other:
        (tmp_path / "page.sock").unlink()
        other.bind(str(tmp_path / "page.sock"))
        other.listen()
        assert PageSocket(tmp_path, Authority).open() is None
    assert "another program listens" in caplog.text


def test_the_registry_takes_it_from_whoever_has_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(tmp_path / "page.sock"))
        found = main._page_socket(os.dup(given.fileno()))
        assert found is not None
        with found:
            assert found.getsockname() == str(tmp_path / "page.sock")
    monkeypatch.delenv("LISTEN_PID", raising=False)
    assert main._page_socket(None) is None


def test_the_unit_gives_the_registry_its_socket() -> None:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / "netd-page.socket")
    unit = dict(parser["Socket"])
    assert unit["FileDescriptorName"] == "netd-page.socket"
    assert unit["ListenStream"] == "/run/netd/page.sock"
    assert unit["Service"] == "netd-registry.service"
    assert (unit["SocketMode"], unit["SocketGroup"]) == ("0660", "netd")
    assert "Sockets=netd-page.socket" in (UNITS / "netd-registry.service").read_text()


@pytest.mark.parametrize("address", ["127.0.0.1:8501", "[::1]:8501", ""])
def test_addresses_of_the_page(address: str) -> None:
    assert msgspec.convert({"address": address}, Page).address == address


@pytest.mark.parametrize(
    "address", ["8501", "localhost:8501", "::1:8501", "127.0.0.1:0", "127.0.0.1:99999"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="ADDRESS:PORT"):
        msgspec.convert({"address": address}, Page)


def test_its_settings_need_a_restart() -> None:
    assert {"page.enabled", "page.address"} <= NEEDS_RESTART
