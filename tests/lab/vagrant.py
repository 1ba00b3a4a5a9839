"""A lab of the machines that Vagrant has made: see vagrant/Vagrantfile.

Vagrant makes and removes them (`vagrant up`, `vagrant destroy`); here they are taken as they are.
"""

import subprocess
from pathlib import Path
from typing import Final, Literal

from tests.lab.lab import Lab
from tests.lab.service import ServiceHost, hold_connection
from tests.lab.waiting import wait_for

FOLDER: Final = Path(__file__).parents[2] / "vagrant"
HOSTS: Final = 3
ADDRESSES: Final = {4: "192.168.56.{}", 6: "fd56::{}"}  # as in the Vagrantfile, from 11 on
BOOT_DEADLINE_S: Final = 300.0


class VagrantHost(ServiceHost):
    """A machine of the lab, reached as `vagrant ssh` does, but as root."""

    uplink = "eth1"

    def __init__(self, ssh_config: Path, number: int) -> None:
        super().__init__(f"host-{number}", ADDRESSES[4].format(10 + number))
        self._ssh_config = ssh_config

    def ssh(self) -> list[str]:
        return ["ssh", "-F", str(self._ssh_config)]

    def wrap(self, *command: str) -> list[str]:
        *ssh, line = super().wrap(*command)
        return [*ssh, f"sudo -H {line}"]

    def cut_power(self) -> None:
        vagrant("halt", "--force", self.name)

    def restore_power(self) -> None:
        vagrant("up", "--no-provision", self.name)
        wait_for(
            lambda: hold_connection(self.ssh(), self.name, 60),
            BOOT_DEADLINE_S,
            what=f"ssh on {self}",
        )


class VagrantLab(Lab):
    """The machines; `folder` has what ssh needs to know of them."""

    def __init__(self, folder: Path) -> None:
        self.hosts: list[VagrantHost] = []
        self.folder = folder

    def up(self, count: int, *, profile: str = "fast", family: Literal[4, 6] = 4) -> None:
        if count > HOSTS or family != 4:
            raise ValueError(f"Vagrant's lab has {HOSTS} hosts that talk by IPv4")
        vagrant("up")
        config = self.folder / "ssh.conf"
        config.write_text(vagrant("ssh-config"))
        self.hosts = [VagrantHost(config, number) for number in range(1, count + 1)]
        for host in self.hosts:
            assert hold_connection(host.ssh(), host.name, 60), f"no ssh to {host}"
            host.await_ready()
        self.await_whole()

    def down(self) -> None:
        """Leave the machines to Vagrant, without containers."""
        for host in self.hosts:
            host.clear()


def vagrant(*words: str) -> str:
    """Run vagrant on the lab; what it prints."""
    done = subprocess.run(
        ("vagrant", *words), cwd=FOLDER, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, f"vagrant {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout
