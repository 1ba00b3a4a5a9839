"""A lab of virtual machines: QEMU, with hardware support where there is some.

The machines run Debian with systemd, from the disk that `scripts/vm-image` makes. They are on the
bridge of `outside`, in which QEMU itself runs too: with it all of them end. By a second link, of
QEMU's user network, this machine reaches their ssh; it is a port of `outside`'s loopback.
"""

import os
import shutil
import subprocess
import time
import uuid
from base64 import b64encode
from pathlib import Path
from typing import Final, Literal

import msgspec

from tests.lab.lab import Lab
from tests.lab.machine import Machine, running
from tests.lab.service import ServiceHost, hold_connection, write_ssh_config
from tests.lab.underlay import LAST, OUTSIDE, Plan, start_outside
from tests.lab.waiting import wait_for

ROOT: Final = Path(__file__).parents[2]
FIRST_PORT: Final = 2200
BOOT_DEADLINE_S: Final = 600.0
_KEY_FILE: Final = "/etc/netd/cluster.key"
_CONSOLE: Final = "console=ttyS0 quiet systemd.show_status=0"


class QemuHost(ServiceHost):
    """A virtual machine. In its folder are `disk`, `console` (what it printed) and `pid`."""

    def __init__(self, lab: "QemuLab", plan: Plan, number: int) -> None:
        self.folder = lab.folder / plan.name(number)
        super().__init__(plan.name(number), plan.address(number))
        self.slowness = 1.5 if has_kvm() else 6.0
        self._number = number
        self._plan = plan
        self._lab = lab

    def ssh(self) -> list[str]:
        return self._lab.wrap("ssh", "-F", str(self._lab.folder / "ssh.conf"))

    def install(self, image: Path, key: str) -> None:
        """Make its disk."""
        self.folder.mkdir()
        disk = self.folder / "disk"
        subprocess.run(
            ("cp", "--reflink=auto", "--sparse=always", str(image / "disk"), str(disk)), check=True
        )
        settings = self._plan.settings(self._number, key_file=_KEY_FILE)
        files = {
            "/etc/hosts": self._plan.hosts_file(),
            "/etc/netd/netd.toml": settings,
            _KEY_FILE: key,
            "/etc/systemd/network/30-underlay.network": self._network(),
        }
        write_files(disk, files, self.folder)

    def _network(self) -> str:
        """For systemd-networkd."""
        addresses = "".join(
            f"[Address]\nAddress={address}\nDuplicateAddressDetection=none\n"
            for address in self._plan.addresses(self._number)
        )
        gateways = "".join(f"Gateway={last}\n" for last in LAST.values())
        network = f"[Network]\nIPv6AcceptRA=no\n{gateways}"
        return f"[Match]\nName={self.uplink}\n{network}{addresses}"

    def boot(self) -> None:
        """Start it without waiting for anything."""
        name, folder, image = self.name, self.folder, self._lab.image
        mac = f"52:54:00:{self._number >> 8:02x}:{self._number & 255:02x}"
        machine_id = uuid.uuid5(uuid.NAMESPACE_URL, str(folder)).hex
        forward = f"hostfwd=tcp:127.0.0.1:{FIRST_PORT + self._number}-:22"
        # On a busy machine an emulated timer is so late that the kernel would take it for broken.
        words = f"root=/dev/vda rw {_CONSOLE} net.ifnames=0 mitigations=off no_timer_check"
        command = (
            *(
                "nice",
                "-n",
                "5",
                "qemu-system-x86_64",
                "-name",
                name,
                "-nodefaults",
                "-no-user-config",
            ),
            *("-machine", "q35,usb=off", "-display", "none"),
            *("-m", str(self._lab.memory_mib), "-smp", str(self._lab.processors)),
            *(("-accel", "kvm", "-cpu", "host") if has_kvm() else ("-cpu", "Nehalem")),
            *("-kernel", str(image / "kernel"), "-initrd", str(image / "initrd")),
            *("-append", f"{words} systemd.hostname={name} systemd.machine_id={machine_id}"),
            *("-drive", f"if=virtio,format=raw,file={folder / 'disk'}"),
            *("-netdev", f"tap,id=underlay,ifname={name},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev=underlay,mac={mac}:01,romfile="),
            *("-netdev", f"user,id=management,restrict=on,{forward}"),
            *("-device", f"virtio-net-pci,netdev=management,mac={mac}:02,romfile="),
            *("-device", "virtio-rng-pci", "-serial", f"file:{folder / 'console'}"),
            *("-daemonize", "-pidfile", str(folder / "pid")),
        )
        self._lab.in_outside(*command)

    def await_ssh(self) -> None:
        """Return when it lets us in; fail when that takes too long, or it has ended."""
        deadline_s = time.monotonic() + BOOT_DEADLINE_S
        while not hold_connection(self.ssh(), self.name, 60):
            console = (self.folder / "console").read_text(errors="replace")[-2000:]
            assert self._runs(), f"{self} has ended: {console}"
            assert time.monotonic() < deadline_s, f"{self} does not let us in: {console}"
            time.sleep(1)  # nothing tells from outside that ssh is there

    def answers(self) -> bool:
        """Whether it lets us in now, after a connection that it may have closed."""
        end = [*self.ssh(), "-O", "exit", self.name]
        subprocess.run(end, capture_output=True, timeout=60, check=False)
        return hold_connection(self.ssh(), self.name, 60)

    def _runs(self) -> bool:
        return self._signal("0")

    def _signal(self, number: str) -> bool:
        command = ("sh", "-c", f"kill -{number} $(cat {self.folder / 'pid'})")
        wrapped = self._lab.wrap(*command)
        return subprocess.run(wrapped, capture_output=True, check=False).returncode == 0

    def cut_power(self) -> None:
        self._signal("KILL")
        wait_for(lambda: not self._runs(), what=f"{self} off")

    def restore_power(self) -> None:
        self.boot()
        self.await_ssh()


class QemuLab(Lab):
    """The lab in a folder, which may be there already. When `tied`, it ends with this process.

    The folder must not be below /run, which the machine `outside` has of its own.
    """

    processors = 1
    memory_mib = 384

    def __init__(self, folder: Path, *, tied: bool = True) -> None:
        self.hosts: list[QemuHost] = []
        self.folder = folder
        self.image = Path()
        self.outside = Machine(folder / OUTSIDE)
        self._tied = tied
        self._file = folder / "lab.json"
        if self._file.exists():
            self._add_hosts(msgspec.json.decode(self._file.read_bytes(), type=_Made))

    def _add_hosts(self, made: "_Made") -> None:
        self.image = Path(made.image)
        self.hosts = [QemuHost(self, made.plan, 1 + at) for at in range(made.plan.count)]

    def up(self, count: int, *, profile: str = "fast", family: Literal[4, 6] = 4) -> None:
        plan = Plan(count, profile, family, registry=True)  # by its unit
        made = _Made(plan, str(make_image()))
        self._file.write_bytes(msgspec.json.encode(made))
        start_outside(self.outside, plan, tied=self._tied)
        ports = {plan.name(number): FIRST_PORT + number for number in range(1, count + 1)}
        write_ssh_config(self.folder / "ssh.conf", Path(made.image) / "ssh", ports)
        key = b64encode(os.urandom(32)).decode() + "\n"
        self._add_hosts(made)
        for host in self.hosts:
            self.in_outside("ip", "tuntap", "add", "mode", "tap", "name", host.name)
            self.in_outside("ip", "link", "set", host.name, "up", "master", "br0")
            host.install(self.image, key)
            host.boot()
        for host in self.hosts:
            host.await_ssh()
        for host in self.hosts:
            host.await_ready()
        self.await_whole()

    def down(self) -> None:
        for host in self.hosts:
            for container in host.containers.values():
                container.forget()
        self.outside.off()
        for machine in running(self.folder):  # of a lab that was not finished
            machine.off()
        shutil.rmtree(self.folder)

    def wrap(self, *command: str) -> list[str]:
        """A local command that runs `command` where QEMU runs."""
        return self.outside.wrap(*command)

    def in_outside(self, *command: str) -> None:
        """Run a program where QEMU runs; fails with what it says."""
        done = subprocess.run(
            self.wrap(*command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


class _Made(msgspec.Struct, frozen=True):
    """What is in `lab.json`."""

    plan: Plan
    image: str


def has_kvm() -> bool:
    """Whether the processor helps with virtual machines, and the kernel lets us use that."""
    flags = Path("/proc/cpuinfo").read_text()
    return (" vmx" in flags or " svm" in flags) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def make_image() -> Path:
    """The folder of the image, which is made when there is none of this checkout."""
    done = subprocess.run(
        (str(ROOT / "scripts/vm-image"),), stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(done.stdout.strip())


def write_files(disk: Path, files: dict[str, str], folder: Path) -> None:
    """Write new files into an ext4 file system that nobody uses; keys for root only."""
    words = []
    for number, (place, text) in enumerate(files.items()):
        local = folder / f"file-{number}"
        local.touch(mode=0o600 if place.endswith(".key") else 0o644)
        local.write_text(text)
        path = Path(place)
        words += [f"cd {path.parent}", f"write {local} {path.name}"]
    script = folder / "files"
    script.write_text("\n".join(words) + "\n")
    command = ("debugfs", "-w", "-f", str(script), str(disk))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # It always ends with 0; beside what is wrong it says which version it is.
    assert len(done.stderr.splitlines()) <= 1, done.stderr
