"""Words for tests of netd as a service."""

import json
import re
from pathlib import Path
from typing import Final

from netd.kernel.tag import LINK_GROUP
from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.lab.qemu import BOOT_DEADLINE_S, QemuHost
from tests.lab.underlay import LAST
from tests.lab.waiting import wait_for

ROOT: Final = Path(__file__).parents[2]
SLOW_S: Final = 300.0  # an emulated processor installs a package in a minute


def shown(host: LabHost, unit: str, name: str) -> str:
    """A property of a unit."""
    return host.run("systemctl", "show", "--value", "--property", name, unit).strip()


def commands(page: str, heading: str, number: int = 0) -> str:
    """A block of commands below a heading of a page that only machines with systemd can run."""
    section = (ROOT / page).read_text().split(f"\n{heading}\n")[1].split("\n## ")[0]
    found: list[str] = re.findall(r"```sh\n(.*?)```", section, re.S)
    return found[number]


def obey(host: LabHost, script: str, timeout_s: float = SLOW_S) -> str:
    """Run commands of a page as they stand there; all of them must succeed."""
    return host.run("bash", "-e", "-o", "pipefail", "-c", script, timeout_s=timeout_s)


def put(host: LabHost, path: str, text: str) -> None:
    """Write a file, and its folder where there is none."""
    host.run("sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1"', "sh", path, feed=text)


def links(host: LabHost) -> set[str]:
    """Names of netd's links on a host."""
    listed = json.loads(host.run("ip", "-json", "-details", "link"))
    return {link["ifname"] for link in listed if link["group"] == str(LINK_GROUP)}


def traces(host: LabHost, *but: str) -> list[str]:
    """What is there of netd on a host, `but` for that folder and what is in it."""
    # Only names that are unmistakable: others have a `netdev`, a `netdata`.
    names = r"\( -name netd -o -name netd[-.]* -o -name *[-.]netd[-.]* -o -name netctl \)"
    paths = host.run("sh", "-fc", f"find /etc /opt /run /usr /var/lib {names} -print").splitlines()
    found = [path for path in paths if not f"{path}/".startswith(tuple(f"{b}/" for b in but))]
    for command in (
        ("systemctl", "list-unit-files", "--no-legend", "netd*"),
        ("systemctl", "list-units", "--all", "--no-legend", "netd*"),
        ("getent", "passwd", "netd-registry"),
        ("getent", "group", "netd", "netd-view", "netd-registry"),
        ("nft", "list", "table", "inet", "netd"),
        ("ip", "route", "show", "table", "all", "protocol", "110"),
        ("pgrep", "--full", "--list-full", "/opt/netd/bin"),
    ):
        found += host.run(*command, code=None).splitlines()
    forwarding = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
    on = [line for line in host.run("sysctl", *forwarding).splitlines() if line.endswith("1")]
    return [*found, *links(host), *on]


def finds_server(client: LabHost, host: LabHost, port: int) -> bool:
    """Whether a web server answers on that port of another machine, whatever it says."""
    url = f"http://{host.address}:{port}/"
    return client.succeeds("curl", "-s", "-o", "/dev/null", "--max-time", "3", url)


def reaches_outside(container: Container) -> bool:
    """Whether it reaches a machine that knows no way back to its network: by masquerading."""
    return container.pings(str(LAST[4]), wait_s=1)


def reboot(host: QemuHost) -> None:
    """Return when it lets us in again. Nothing is left of its containers."""
    boot = _boot_of(host)
    host.run("systemctl", "reboot", code=None)  # the connection ends before the answer
    wait_for(
        lambda: host.answers() and _boot_of(host) != boot, BOOT_DEADLINE_S, what=f"{host} again"
    )


def _boot_of(host: LabHost) -> str:
    return host.run("cat", "/proc/sys/kernel/random/boot_id")
