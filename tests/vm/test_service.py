"""netd as a service of systemd: its units, its watchdog, an upgrade, a reboot."""

from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.lab import Lab
from tests.lab.qemu import QemuHost
from tests.lab.waiting import wait_for
from tests.scenarios.flows import Probe, Stream
from tests.scenarios.overlay import Overlay, await_reach
from tests.vm.words import SLOW_S, reboot, shown, traces

EXPOSURE_MAX = 4.5  # of `systemd-analyze security`, 10 is the worst
WATCHDOG_S = 10
UNITS = ("netd.service", "netd.socket", "netd-registry.service")


def test_units_run_and_have_little_power(lab: Lab, one: LabHost) -> None:
    wait_for(  # the registry is started after netd, for which alone a lab waits
        lambda: all(shown(one, unit, "ActiveState") == "active" for unit in UNITS),
        20 * one.slowness,
        what=f"{UNITS} active",
    )
    assert shown(one, "netd.service", "WatchdogUSec") == "30s"
    for unit in ("netd.service", "netd-registry.service"):
        last = one.run("systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
        assert float(last.split(": ")[1].split()[0]) <= EXPOSURE_MAX, last
    one.run("systemctl", "start", "netd-wait-online.service")
    assert shown(one, "netd-wait-online.service", "Result") == "success"


def test_a_hang_an_upgrade_a_reboot(
    lab: Lab, blue: Overlay, pair: tuple[Container, Container], package: str
) -> None:
    """One after another, for an emulated processor takes long to have hosts and containers."""
    a, b = pair
    host = a.host
    assert isinstance(host, QemuHost)
    hang(host, a, b)
    upgrade(host, a, b, package)
    reboot(host)
    a.forget()
    host.containers.clear()
    host.await_ready()
    lab.await_whole()
    assert "blue" in host.networks()
    assert host.api(f"/v1/endpoints?node={host}") == []
    wait_for(lambda: not host.plan(), 20 * host.slowness, what="nothing left to do")
    await_reach(blue.container(host, "again"), b)


def hang(host: LabHost, a: Container, b: Container) -> None:
    """A daemon that cannot say any more that it lives is replaced, unseen by containers."""
    drop_in = "/run/systemd/system/netd.service.d"
    text = f"[Service]\nWatchdogSec={WATCHDOG_S}s\n"
    host.run("sh", "-c", f"mkdir -p {drop_in} && cat >{drop_in}/test.conf", feed=text)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "netd.service")
    host.await_ready()
    Probe.listen(b)
    probe = Probe(a, b.address())
    before = int(shown(host, "netd.service", "NRestarts"))
    host.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", "netd.service")
    wait_for(
        lambda: int(shown(host, "netd.service", "NRestarts")) > before,
        (WATCHDOG_S + 20) * host.slowness,
        what="netd started anew",
    )
    host.await_ready()
    assert a.pings(b.address())
    probe.assert_nothing_was_lost()
    host.run("rm", "-r", drop_in)
    host.run("systemctl", "daemon-reload")


def upgrade(host: LabHost, a: Container, b: Container, package: str) -> None:
    """A TCP connection loses nothing."""
    host.run("sh", "-c", "base64 -d >/root/netd.deb", feed=package)
    stream = Stream(a, b)
    before = shown(host, "netd.service", "MainPID")
    host.run("dpkg", "--install", "/root/netd.deb", timeout_s=SLOW_S)
    host.await_ready()
    assert shown(host, "netd.service", "MainPID") not in ("0", before)
    stream.assert_whole()
    assert not host.plan()


def test_a_removed_package_leaves_nothing(blue: Overlay, one: LabHost, package: str) -> None:
    """Comes last, for there is no netd on the host afterwards."""
    blue.container(one, "left")
    assert any("netd.service" in trace for trace in traces(one))
    if not one.succeeds("dpkg-query", "--show", "netd"):
        one.run("sh", "-c", "base64 -d >/root/netd.deb", feed=package)
        one.run("dpkg", "--install", "/root/netd.deb", timeout_s=SLOW_S)
        one.await_ready()
    one.run("dpkg", "--purge", "netd", timeout_s=SLOW_S)
    # Of the image's own installation there is more than the package has put in its place.
    assert not traces(one, "/opt/netd")
