"""The daemon's side: notes of deletions are worked off, the configuration is offered."""

import asyncio
import errno
import json
import logging
import os
import stat
from pathlib import Path

import pytest

from netd.daemon import cni
from netd.daemon.cni import Offer, bury, conflist
from netd.daemon.settings.runtimes import Cni
from netd.daemon.settings.values import WrongValue
from netd.runtimes.shim.tombstones import Tombstone, found
from tests.unit.engine_fixture import DISK_FULL, Host

LABELS = {
    "netd.runtime": "cni",
    "netd.runtime.network": "net",
    "netd.runtime.ifname": "eth0",
}


async def test_what_was_deleted_meanwhile_is_detached(host: Host, tmp_path: Path) -> None:
    await host.network("blue")
    gone = await host.attach("blue", "gone", labels=LABELS)
    second = await host.attach(
        "blue", "gone", ifname="eth1", labels={**LABELS, "netd.runtime.ifname": "eth1"}
    )
    other = await host.attach("blue", "other", labels=LABELS)
    folder = str(tmp_path / "deleted")
    Tombstone("cni", gone.container_id, "net", "eth0").write(folder)
    Tombstone("cni", gone.container_id, "net", "eth0").write(folder)
    Tombstone("cni", "never-seen", "net", "eth0").write(folder)

    await bury(host.engine, str(tmp_path / "netd.sock"))

    assert {endpoint.id for endpoint in host.engine.endpoints()} == {second.id, other.id}
    assert not list(found(folder))
    await bury(host.engine, str(tmp_path / "netd.sock"))
    await host.check()


async def test_what_cannot_be_detached_stays_noted(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await host.network("blue")
    stuck = await host.attach("blue", "stuck", labels=LABELS)
    Tombstone("cni", stuck.container_id, "net", "eth0").write(str(tmp_path / "deleted"))
    host.store.full = True
    await bury(host.engine, str(tmp_path / "netd.sock"))
    assert DISK_FULL in caplog.text
    host.store.full = False
    assert len(list(found(str(tmp_path / "deleted")))) == 1
    assert [endpoint.id for endpoint in host.engine.endpoints()] == [stuck.id]


async def test_a_note_that_cannot_be_removed_is_no_hindrance(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), file)

    await host.network("blue")
    await host.attach("blue", "gone", labels=LABELS)
    file = Tombstone("cni", "gone", "net", "eth0").write(str(tmp_path / "deleted"))
    monkeypatch.setattr(cni, "remove", refuse)
    await bury(host.engine, str(tmp_path / "netd.sock"))
    assert not host.engine.endpoints()
    assert f"{file}: Read-only file system" in caplog.text


async def test_the_configuration_comes_whole_and_once(tmp_path: Path) -> None:
    file = tmp_path / "net.d/05-netd.conflist"
    offer = Offer(Cni(conflist=str(file), network="blue"), "/run/netd/netd.sock")
    await offer.make()
    assert json.loads(file.read_text()) == {
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": "netd",
        "plugins": [
            {
                "type": "netd-cni",
                "network": "blue",
                "capabilities": {
                    "aliases": True,
                    "bandwidth": True,
                    "dns": True,
                    "ips": True,
                    "mac": True,
                    "portMappings": True,
                },
            }
        ],
    }
    assert stat.filemode(file.stat().st_mode) == "-rw-r--r--"
    before = file.stat().st_ino
    await offer.make()
    assert file.stat().st_ino == before
    for broken in (b"{", b"\xff"):
        before = file.stat().st_ino
        file.write_bytes(broken)
        await offer.make()
        assert file.stat().st_ino != before
        assert json.loads(file.read_text())["name"] == "netd"
    offer.withdraw()
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    leaving = Offer(Cni(conflist=str(file), withdraw=True), "/run/netd/netd.sock")
    leaving.withdraw()
    leaving.withdraw()
    assert not list(file.parent.iterdir())


async def test_no_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    offer = Offer(Cni(withdraw=True), "/run/netd/netd.sock")
    await offer.make()
    offer.withdraw()
    assert not list(tmp_path.iterdir())


async def test_a_folder_that_takes_no_file_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    offer = Offer(Cni(conflist=str(tmp_path / "file/05.conflist")), "/run/netd/netd.sock")
    with caplog.at_level(logging.ERROR):
        await offer.make()
    assert "runtimes do not find netd" in caplog.text


async def test_a_file_that_is_gone_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cni, "OFFER_S", 0.01)
    file = tmp_path / "net.d/05-netd.conflist"
    offer = Offer(Cni(conflist=str(file), network="blue"), "/run/netd/netd.sock")
    keeping = asyncio.ensure_future(offer.keep())
    try:
        for _ in range(2):
            async with asyncio.timeout(10):
                while not file.exists():
                    await asyncio.sleep(0.005)
            assert offer.remove()
            assert not offer.remove()
    finally:
        keeping.cancel()


async def test_what_does_not_work_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    offer = Offer(Cni(conflist=str(tmp_path / "file/05.conflist"), withdraw=True), "/run/x")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await offer.make()
    assert len(caplog.records) == 1
    offer.withdraw()
    assert "runtimes still find netd" in caplog.text


def test_pod_cidrs() -> None:
    settings = Cni(subnets=("10.244.3.0/24", "fd44:0:0:3::/64"), masquerade=False, name="pods")
    (plugin,) = conflist(settings, "/run/other.sock")["plugins"]
    del plugin["capabilities"]
    assert plugin == {
        "type": "netd-cni",
        "socket": "/run/other.sock",
        "ipam": {"ranges": [[{"subnet": "10.244.3.0/24"}], [{"subnet": "fd44:0:0:3::/64"}]]},
        "ipMasq": False,
        "isolated": False,
        "hairpinMode": True,
    }


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"conflist": "05-netd.conflist"}, "conflist"),
        ({"conflist": "/etc/cni/net.d/05-netd.conf"}, "conflist"),
        ({"name": ""}, "name"),
        ({"name": "Net"}, "name"),
        ({"network": "a b"}, "network"),
        ({"network": "blue", "subnets": ("10.0.0.0/24",)}, "network"),
        ({"network": "blue", "masquerade": False}, "network"),
        ({"subnets": ("10.0.0.1/24",)}, "subnets"),
    ],
)
def test_wrong_settings(settings: dict[str, object], key: str) -> None:
    with pytest.raises(WrongValue) as caught:
        Cni(**settings)  # type: ignore[arg-type]
    assert caught.value.key == key
