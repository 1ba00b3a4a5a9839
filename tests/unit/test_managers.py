"""Which programs would meddle with netd's links."""

from pathlib import Path

from netd.kernel.managers import unaware_managers

SYSTEMD = Path(__file__).parents[2] / "systemd"


def put(root: Path, name: str, text: str = "") -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_host_without_managers(tmp_path: Path) -> None:
    assert unaware_managers(tmp_path) == frozenset()


def test_both_run_and_know_nothing(tmp_path: Path) -> None:
    put(tmp_path, "run/NetworkManager/NetworkManager.pid", "700")
    put(tmp_path, "run/systemd/netif/state")
    put(tmp_path, "etc/systemd/network/10-lan.network", "[Match]\nName=eth0\n")
    assert unaware_managers(tmp_path) == {"NetworkManager", "systemd-networkd"}


def test_the_files_that_netd_ships_are_understood(tmp_path: Path) -> None:
    put(tmp_path, "run/NetworkManager/NetworkManager.pid", "700")
    put(tmp_path, "run/systemd/netif/state")
    [unmanaged] = SYSTEMD.glob("*.network")
    put(tmp_path, f"etc/systemd/network/{unmanaged.name}", unmanaged.read_text())
    [keep_off] = SYSTEMD.glob("*etwork*anager*.conf")
    put(tmp_path, f"etc/NetworkManager/conf.d/{keep_off.name}", keep_off.read_text())
    assert unaware_managers(tmp_path) == frozenset()
