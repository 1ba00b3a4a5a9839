"""Programs of another release of Debian on a host: with its namespaces, and its /run."""

import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.lab import Namespace
from tests.lab.process import die_with_parent

_MAKE = Path(__file__).parents[2] / "scripts/newer-engines"
_ROOT = "/mnt"
_WRITTEN = "/run/other"
_CGROUPS = "/sys/fs/cgroup"
_SHARED = ("/proc", "/dev", _CGROUPS, "/run")
_ENTER = (
    f"cd {_ROOT} && pivot_root . mnt && mount --make-rprivate /mnt && umount --lazy /mnt && "
    "echo && exec sleep infinity"
)


def debian_13() -> Path:
    """The file system that `scripts/newer-engines` makes, once."""
    made = subprocess.run([_MAKE], stdout=subprocess.PIPE, text=True, check=True)
    return Path(made.stdout.strip())


class OtherRelease:
    """The file system in `template`, which stays as it is: what is written goes with the host.

    `folders` of the host are seen at the same place. The host's `/run` is a file system of its
    own. The release has a mount namespace, whose root it is: in a chroot, what an engine executes
    in a container would be of the machine, as runc enters only the container's namespaces.
    """

    def __init__(
        self, stack: ExitStack, host: Namespace, template: Path, folders: tuple[Path, ...]
    ) -> None:
        files, work = f"{_WRITTEN}/files", f"{_WRITTEN}/work"
        host.run("mkdir", "-p", files, work)
        layers = f"lowerdir={template},upperdir={files},workdir={work}"
        host.run("mount", "-t", "overlay", "overlay", "-o", layers, _ROOT)
        # What programs mount below /run, namespaces of containers above all, is the host's, too.
        host.run("mount", "--make-shared", "/run")
        # Engines from 28 on look there for the ports of bridges: those of the host's network.
        host.run("mount", "-t", "sysfs", "sysfs", f"{_ROOT}/sys")
        for place in (*_SHARED, *map(str, folders)):
            bind = "--rbind" if place in ("/dev", _CGROUPS) else "--bind"
            host.run("mkdir", "-p", f"{_ROOT}{place}")
            host.run("mount", bind, place, f"{_ROOT}{place}")
        unshare = ("unshare", "--mount", "--propagation", "unchanged")
        waiting = subprocess.Popen(
            host.wrap(*unshare, "sh", "-c", _ENTER),
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        stack.enter_context(waiting)
        stack.callback(waiting.kill)
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"\n", "its root cannot be entered"
        # `nsenter` has forked to enter the host's processes.
        children = Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children")
        self.pid = int(children.read_text())
        self._mounts = f"--mount=/proc/{self.pid}/ns/mnt"
        self._host = host

    def wrap(self, *command: str) -> list[str]:
        """The command as it is run from outside, in the host's other namespaces."""
        return self.enter(self._host.wrap(*command))

    def enter(self, wrapped: list[str]) -> list[str]:
        """The same for a command that is already as it is run in the host's namespaces."""
        return [self._mounts if word.startswith("--mount=") else word for word in wrapped]
