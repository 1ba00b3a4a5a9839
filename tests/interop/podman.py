"""Podman on a host with netd, with storage of its own.

Debian's Podman 4.3 has a netavark that knows no plugins, which came with 1.5; so its networks are
CNI's, which it still has.
"""

import json
from pathlib import Path
from typing import Any

from tests.interop.docker_engine import DockerHost, image

PLUGIN = Path(__file__).parents[2] / "netd/runtimes/cni/netd-cni"
CONFLIST = "/etc/cni/net.d/05-netd.conflist"
IMAGE = "localhost/bb:latest"

_SETTINGS = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
enable_port_reservation = false
[network]
cni_plugin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
"""
FOLDERS = {"cni": "/etc/cni/net.d", "netavark": "/run/networks"}  # where its networks are


class Podman:
    """netd offers its configuration, of `network`, where Podman looks for networks; with "" Podman
    has its own only. To be made before the host's daemon starts.
    """

    def __init__(self, host: DockerHost, network: str = "", backend: str = "cni") -> None:
        self.host = host
        for place in ("/opt", "/etc/cni", "/var/lib/cni", "/var/lib/containers"):
            if Path(place).is_dir():
                host.run("mount", "-t", "tmpfs", "tmpfs", place)
        host.run("mkdir", "-p", "/opt/cni/bin", "/etc/cni/net.d", "/var/lib/cni")
        host.run("ln", "-s", str(PLUGIN), "/opt/cni/bin/netd-cni")
        if network:
            text = f'[cni]\nconflist = "{CONFLIST}"\nnetwork = "{network}"\n'
            host.configuration.write_text(host.configuration.read_text() + text)
        settings = host.folder / "containers.conf"
        place = f'network_backend = "{backend}"\nnetwork_config_dir = "{FOLDERS[backend]}"\n'
        settings.write_text(_SETTINGS + place)
        self._podman = (
            *("env", f"CONTAINERS_CONF={settings}"),
            *("podman", "--root", str(host.folder / "storage"), "--runroot", "/run/podman"),
            *("--tmpdir", "/run/libpod", "--storage-driver", "vfs"),
        )

    def import_image(self) -> None:
        file = self.host.folder / "podman.tar"
        with image() as archive:
            file.write_bytes(archive.read())
        self.call("import", str(file), IMAGE)

    def call(self, *command: str, check: bool = True) -> str:
        return self.host.run(*self._podman, *command, check=check, timeout_s=60).strip()

    def fails(self, *command: str) -> bool:
        return not self.host.succeeds(*self._podman, *command)

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call("inspect", container))[0]
        return found
