"""Bundles for plain OCI runtimes, and how these run on a host."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests.interop.docker_engine import DockerHost, image

HOOK = Path(__file__).parents[2] / "netd/runtimes/oci/netd-oci-hook"
RUNTIMES = ("runc", "crun")


def installed(runtime: str) -> bool:
    return shutil.which(runtime) is not None


# crun takes no machine that has both versions of control groups.
_UNIFIED = """
umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"
"""


class Oci:
    """`runtime` on a host makes containers from bundles whose hook is netd's. Their ids are unique
    in its `realm`, a folder of the runtime's.
    """

    def __init__(self, host: DockerHost, runtime: str, realm: str = "oci") -> None:
        self.host = host
        self.runtime = runtime
        self._folder = host.folder / realm / runtime
        self._root = self._folder / "rootfs"
        self._runtime: tuple[str, ...] = (runtime, "--root", f"/run/{realm}-{runtime}")
        if runtime == "crun":
            within = ("unshare", "--mount", "sh", "-c", _UNIFIED, "sh")
            self._runtime = (*within, *self._runtime, "--cgroup-manager", "disabled")
        self._template = (runtime, "spec")
        with image() as file, tarfile.open(fileobj=file) as archive:
            archive.extractall(self._root, filter="fully_trusted")

    def create(
        self, name: str, *command: str, annotations: dict[str, str], network: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """`RUNTIME create`: the container waits for `start`."""
        bundle = self._folder / name
        bundle.mkdir()
        config = self._config(bundle, command, annotations, network=network)
        (bundle / "config.json").write_text(json.dumps(config))
        return self._call("create", "--bundle", str(bundle), name, out=self._folder / f"{name}.out")

    def call(self, *command: str) -> str:
        """The runtime's output."""
        done = self._call(*command, out=None)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, name: str, **annotations: str) -> str:
        """What the runtime says to a container that cannot be."""
        wanted = {f"netd.{key}": text for key, text in annotations.items()}
        done = self.create(name, "true", annotations=wanted)
        self._call("delete", "--force", name, out=None)
        assert done.returncode != 0
        return self.said(name)

    def said(self, name: str) -> str:
        """What the runtime and the hook wrote when the container was created."""
        files = (self._folder / f"{name}.out", self._folder / f"{name}.err")
        return "".join(file.read_text() for file in files if file.exists())

    def start(self, name: str, *command: str, annotations: dict[str, str]) -> None:
        """A container that goes on."""
        made = self.create(name, *command, annotations=annotations)
        assert made.returncode == 0, self.said(name)
        self.call("start", name)

    def _call(self, *command: str, out: Path | None) -> "subprocess.CompletedProcess[str]":
        # A container keeps what `create` has for output: a pipe would not end before it does.
        sink: Any = subprocess.PIPE if out is None else out.open("w")
        try:
            return subprocess.run(
                self.host.wrap(*self._runtime, *command),
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, text=True, timeout=60,
                check=False,
            )  # fmt: skip
        finally:
            if out is not None:
                sink.close()

    def _config(
        self, bundle: Path, command: tuple[str, ...], annotations: dict[str, str], *, network: bool
    ) -> dict[str, Any]:
        """The runtime's own template, with a command, annotations and the hook."""
        self.host.run(*self._template, "--bundle", str(bundle))
        config: dict[str, Any] = json.loads((bundle / "config.json").read_text())
        config["process"]["terminal"] = False
        config["process"]["args"] = list(command)
        for kind in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][kind].append("CAP_NET_RAW")
        config["root"] = {"path": str(self._root), "readonly": True}
        # crun shows nothing of what hooks say, unless it is told where to write it.
        config["annotations"] = {**annotations, "run.oci.hooks.stderr": f"{bundle}.err"}
        if not network:
            kept = [each for each in config["linux"]["namespaces"] if each["type"] != "network"]
            config["linux"]["namespaces"] = kept
        hook = {"path": str(HOOK), "env": [f"NETD_SOCKET={self.host.socket}"]}
        config["hooks"] = {
            point: [{**hook, "args": ["netd-oci-hook", point]}]
            for point in ("createRuntime", "poststop")
        }
        return config
