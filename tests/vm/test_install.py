"""netd from a checkout: OPERATIONS.md's way to install it on a machine and to remove it."""

import subprocess
from base64 import b64encode

import pytest

from tests.lab.host import LabHost
from tests.lab.lab import Lab
from tests.scenarios.overlay import Overlay, await_reach
from tests.vm.words import ROOT, commands, obey, put, traces

PARTS = (
    "netd",
    "scripts",
    "systemd",
    "pyproject.toml",
    "requirements.lock",
    "README.md",
    "LICENSE",
)
CONFLIST = "/etc/cni/net.d/05-netd.conflist"
SETTINGS = "/etc/netd/netd.toml.d/cni.toml"
# The packages that netd needs are on the machine, which reaches no registry.
OFFLINE = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/root/wheels; cd /root/checkout; "
FOREIGN = {
    "/etc/cni/net.d/10-other.conflist": "{}",
    "/opt/cni/bin/other": "",
    "/etc/systemd/system/other.service": "[Service]\nExecStart=true\n",
}


# Tells what comes into a folder, until a file is renamed to a name; then whether netd is ready.
WATCH = """
import ctypes, os, struct, subprocess, sys
CREATED, MOVED_TO = 0x100, 0x80  # inotify(7)
libc = ctypes.CDLL(None)
watch = libc.inotify_init()
folder, awaited = os.path.split(sys.argv[1])
assert libc.inotify_add_watch(watch, os.fsencode(folder), CREATED | MOVED_TO) > 0
print("ready", flush=True)
while True:
    events = os.read(watch, 65536)
    while events:
        _, mask, _, length = struct.unpack_from("iIII", events)
        name, events = events[16:16 + length].rstrip(b"\\0").decode(), events[16 + length:]
        print("moved" if mask & MOVED_TO else "created", name, flush=True)
        if name == awaited:
            ask = ("curl", "-sf", "--unix-socket", "/run/netd/netd.sock", "http://netd/readyz")
            sys.exit(subprocess.call(ask))
"""


@pytest.fixture
def checkout(one: LabHost) -> LabHost:
    """A host with this checkout in /root/checkout."""
    command = ("tar", "--create", "--gzip", "--exclude=__pycache__", *PARTS)
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    unpack = "mkdir -p /root/checkout && base64 -d | tar --extract --gzip -C /root/checkout"
    one.run("sh", "-c", unpack, feed=b64encode(archive).decode())
    return one


def test_it_is_removed_and_installed_again(lab: Lab, blue: Overlay, checkout: LabHost) -> None:
    host = checkout
    other = blue.container(lab.hosts[1], "b")
    blue.container(host, "a")
    put(host, SETTINGS, f'[cni]\nconflist = "{CONFLIST}"\n')
    host.run("systemctl", "restart", "netd.service")
    assert '"netd-cni"' in host.run("cat", CONFLIST)
    for path, text in FOREIGN.items():
        put(host, path, text)
    host.run("nft", "add", "table", "inet", "other")
    host.run("ip", "link", "add", "other", "type", "bridge")

    obey(host, OFFLINE + commands("OPERATIONS.md", "## Remove netd").splitlines()[0])
    host.containers.clear()
    host.run("ip", "netns", "delete", "a")
    assert not traces(host, "/etc/netd", "/var/lib/netd")
    for path in FOREIGN:
        host.run("test", "-e", path)
    host.run("nft", "delete", "table", "inet", "other")
    host.run("ip", "link", "delete", "other")

    obey(host, OFFLINE + commands("OPERATIONS.md", "## Install the service"))
    host.await_ready()
    assert '"netd-cni"' in host.run("cat", CONFLIST)
    lab.await_whole()
    assert "blue" in host.networks()
    await_reach(blue.container(host, "again"), other)
    host.run("rm", SETTINGS, CONFLIST)
    host.run("systemctl", "restart", "netd.service")


def test_runtimes_find_netd_once_it_is_ready(one: LabHost) -> None:
    """And not a half of its configuration."""
    put(one, SETTINGS, f'[cni]\nconflist = "{CONFLIST}"\n')
    try:
        one.stop_netd()
        one.run("rm", "-f", CONFLIST)
        watch = one.spawn("python3", "-c", WATCH, CONFLIST)
        watch.await_line("ready")
        one.start_netd()
        told = watch.finish().splitlines()
        assert told[-2:] == [f"moved {CONFLIST.rpartition('/')[2]}", '{"ok":true}'], told
        assert all(line.startswith("created .") for line in told[:-2])
        assert one.run("stat", "--format=%a %U", CONFLIST) == "644 root\n"
    finally:
        one.run("rm", "-f", SETTINGS, CONFLIST)
        one.run("systemctl", "restart", "netd.service")
