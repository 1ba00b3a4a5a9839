"""A host with a real containerd beside netd, in namespaces of its own; see `docker_engine.py`.

`ctr` finds plugins in /opt/cni/bin and their configuration in /etc/cni/net.d, wherever it runs:
both folders are the host's own.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.interop.docker_engine import READY_S, DockerHost, Entered, image
from tests.lab.process import die_with_parent

IMAGE = "docker.io/library/bb:latest"
PLUGIN = Path(__file__).parents[2] / "netd/runtimes/cni/netd-cni"
REFERENCE = Path("/usr/lib/cni")
CONFLIST = "/etc/cni/net.d/05-netd.conflist"

# Its CRI part wants more of a host than there is here; `ctr` does not use it.
_SETTINGS = """
version = 2
root = "/run/ctd/root"
state = "/run/ctd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/run/ctd/ctd.sock"
"""
_FOLDERS = "/opt/cni/bin /etc/cni/net.d /run/ctd"
# Control groups have no namespace that would take them along when a test ends.
_RUN = ("run", "--cni", "--snapshotter", "native", "--cgroup", "")


class ContainerdHost(DockerHost):
    """netd offers its configuration where `ctr run --cni` looks for it."""

    SETTINGS = _SETTINGS
    IMAGES = "default"  # containerd's namespace that the image is for

    def __init__(
        self, stack: ExitStack, folder: Path, cni: str, beside: DockerHost | None = None
    ) -> None:
        super().__init__(stack, folder, beside)
        self._containerd: Entered | None = None
        self.containerd_log = folder / "containerd.log"
        for place in ("/opt", "/etc/cni", "/var/lib"):
            self.run("mount", "-t", "tmpfs", "tmpfs", place)
        self.run("sh", "-c", f"mkdir -p {_FOLDERS}")
        for plugin in (PLUGIN, *REFERENCE.iterdir()):
            self.run("ln", "-s", str(plugin), f"/opt/cni/bin/{plugin.name}")
        self.run("ip", "link", "set", "lo", "up")
        text = f'[cni]\nconflist = "{CONFLIST}"\n{cni}'
        self.configuration.write_text(self.configuration.read_text() + text)
        (folder / "containerd.toml").write_text(self.SETTINGS)

    def start_runtime(self) -> None:
        """Start it and return when it answers."""
        with self.containerd_log.open("ab") as log:
            waiting = subprocess.Popen(
                self.wrap("containerd", "--config", str(self.folder / "containerd.toml")),
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        self._stack.enter_context(waiting)
        self._stack.callback(waiting.kill)
        self._containerd = Entered(waiting)
        deadline_s = time.monotonic() + READY_S
        while not self.succeeds(*_CTR, "version"):
            if waiting.poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError(f"no engine:\n{self.containerd_log.read_text()[-4000:]}")
            time.sleep(0.05)  # nothing tells from outside that it begins to answer

    def stop_runtime(self) -> None:
        assert self._containerd is not None
        self._containerd.terminate()
        self._containerd.wait(timeout=READY_S)
        self._containerd = None

    def kill_runtime(self) -> None:
        assert self._containerd is not None
        self._containerd.kill()
        self._containerd.wait(timeout=READY_S)
        self._containerd = None

    def import_image(self) -> None:
        """The image `bb`."""
        file = self.folder / "bb.tar"
        with image() as archive:
            file.write_bytes(_packed(archive.read()))
        self.ctr("-n", self.IMAGES, "image", "import", "--snapshotter", "native", str(file))

    def ctr(self, *command: str, check: bool = True, timeout_s: float = 60) -> str:
        return self.run(*_CTR, *command, check=check, timeout_s=timeout_s).strip()

    def run_container(self, name: str, *command: str, flags: tuple[str, ...] = ()) -> str:
        """`ctr run --cni`: with `-d` among the flags it goes on, else its output."""
        return self.ctr(*_RUN, *flags, IMAGE, name, *command)

    def run_container_failing(self, name: str) -> str:
        """What `ctr` says to a container that does not start."""
        done = subprocess.run(
            self.wrap(*_CTR, *_RUN, "--rm", IMAGE, name, "true"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0, done.stdout
        return done.stderr

    def start_container(self, name: str, *command: str) -> "subprocess.Popen[str]":
        """One that is waited for while something happens; its end is `ctr`'s."""
        return self.start(self._stack, *_CTR, *_RUN, "--rm", IMAGE, name, *command)

    def end_container(self, name: str) -> None:
        """Kill and remove one that goes on. `ctr` calls no plugin for such a one: runtimes do."""
        self.ctr("task", "rm", "--force", name)
        self.ctr("container", "rm", name)

    def execute(self, container: str, *command: str) -> str:
        identity = f"x{os.urandom(4).hex()}"
        return self.ctr("task", "exec", "--exec-id", identity, container, *command)

    def addresses(self, container_id: str) -> list[str]:
        """The addresses that netd has for a container, without their prefix lengths."""
        found = self.client.endpoints(container_id=container_id)
        return [text.partition("/")[0] for each in found for text in each["addresses"]]


_CTR = ("ctr", "--address", "/run/ctd/ctd.sock")


def installed() -> bool:
    return all(shutil.which(program) for program in ("containerd", "ctr", "runc"))


def _packed(layer: bytes) -> bytes:
    """A file system as an image, in the form of `docker save`."""
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config: dict[str, Any] = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Cmd": ["sleep", "inf"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in (
            ("layer.tar", layer),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
