"""What users would use instead, called as their runtimes call them."""

import json
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.lab import Host, Namespace

CNI_FOLDER = Path("/usr/lib/cni")


class Peer(ABC):
    """Connects and disconnects an existing network namespace."""

    name = ""

    @abstractmethod
    def attach(self, space: Namespace) -> None: ...

    @abstractmethod
    def detach(self, space: Namespace) -> None: ...


def run_program(
    host: Namespace, command: list[str], text: str, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        host.wrap(*command),
        input=text,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


class CniBridge(Peer):
    """The CNI reference plugin `bridge` with `host-local` addresses."""

    name = "CNI bridge"
    program = CNI_FOLDER / "bridge"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._config = json.dumps(
            {
                "cniVersion": "1.0.0",
                "name": "bench",
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(host.folder / "cni"),
                    "ranges": [[{"subnet": "10.77.0.0/16"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        )

    def attach(self, space: Namespace) -> None:
        self._call("ADD", space)

    def detach(self, space: Namespace) -> None:
        self._call("DEL", space)

    def _call(self, command: str, space: Namespace) -> None:
        environment = {
            "CNI_PATH": str(CNI_FOLDER),
            "CNI_IFNAME": "eth0",
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"bench{space.pid}",
            "CNI_NETNS": space.path,
        }
        run_program(self._host, [str(self.program)], self._config, environment)


class NetdCni(CniBridge):
    """netd's own CNI plugin, the interpreter's start included, on a network that is there."""

    name = "netd-cni"
    program = Path(__file__).parents[2] / "netd/runtimes/cni/netd-cni"

    def __init__(self, host: Host, network: str) -> None:
        super().__init__(host)
        self._config = json.dumps(
            {
                "cniVersion": "1.0.0",
                "name": "bench",
                "type": "netd-cni",
                "network": network,
                "socket": host.socket,
            }
        )


class Netavark(Peer):
    """netavark, which sets up Podman's networks."""

    name = "netavark"

    def __init__(self, host: Host, program: str) -> None:
        self._host = host
        self._program = program
        self._next = 0
        self._addresses: dict[int, str] = {}

    def attach(self, space: Namespace) -> None:
        self._next += 1
        number = self._next + 1
        self._addresses[space.pid] = f"10.88.{number // 250}.{number % 250 + 2}"
        self._call("setup", space)

    def detach(self, space: Namespace) -> None:
        self._call("teardown", space)

    def _call(self, command: str, space: Namespace) -> None:
        network = {
            "name": "bench",
            "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
            "driver": "bridge",
            "network_interface": "podman0",
            "subnets": [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}],
            "ipv6_enabled": False,
            "internal": False,
            "dns_enabled": False,
            "ipam_options": {"driver": "host-local"},
        }
        options = {
            "container_id": f"{space.pid:064d}",
            "container_name": f"bench{space.pid}",
            "networks": {
                "bench": {
                    "static_ips": [self._addresses[space.pid]],
                    "interface_name": "eth0",
                }
            },
            "network_info": {"bench": network},
        }
        run_program(self._host, [self._program, command, space.path], json.dumps(options), {})


class DockerConnect(Peer):
    """`docker network connect` of a running container, by Docker Engine."""

    name = "Docker Engine"

    def __init__(self, host: Host, stack: ExitStack) -> None:
        self._socket = host.folder / "docker.sock"
        self._docker("engine", host, stack)
        for network in ("home", "bench"):
            self._call("network", "create", network)
        self._container = self._call("run", "-d", "--network", "home", "bb", "sleep", "infinity")

    def _docker(self, folder: str, host: Host, stack: ExitStack) -> None:
        base = host.folder / folder
        base.mkdir()
        self._engine = host.start(
            stack,
            # In a mount namespace of its own, with which its mounts end.
            *("unshare", "--mount", "sh", "-c", 'exec dockerd "$@" 2>"$0"', str(base / "log")),
            *("--data-root", str(base / "data"), "--exec-root", str(base / "exec")),
            *("--pidfile", str(base / "pid"), "--host", f"unix://{self._socket}"),
            *("--storage-driver", "vfs", "--log-level", "error"),
        )
        deadline_s = time.monotonic() + 30
        while subprocess.run(
            ["docker", "-H", f"unix://{self._socket}", "info"], capture_output=True, check=False
        ).returncode:
            if time.monotonic() > deadline_s or self._engine.poll() is not None:
                raise RuntimeError("Docker Engine did not start")
            time.sleep(0.1)
        image = host.folder / "image"
        (image / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", image / "bin/busybox")
        (image / "bin/sleep").symlink_to("busybox")
        packed = subprocess.run(
            ["tar", "-C", str(image), "-c", "."], capture_output=True, check=True
        ).stdout
        subprocess.run(
            ["docker", "-H", f"unix://{self._socket}", "import", "-", "bb"],
            input=packed,
            capture_output=True,
            check=True,
        )

    def attach(self, space: Namespace) -> None:
        self._call("network", "connect", "bench", self._container)

    def detach(self, space: Namespace) -> None:
        self._call("network", "disconnect", "bench", self._container)

    def stop(self) -> None:
        self._call("rm", "-f", self._container)
        self._engine.terminate()
        self._engine.wait()

    def _call(self, *command: str) -> str:
        done = subprocess.run(
            ["docker", "-H", f"unix://{self._socket}", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(command)}: {done.stderr}")
        return done.stdout.strip()


def netavark_program() -> str | None:
    """Where netavark is, if it is installed."""
    return shutil.which("netavark") or next(
        (path for path in ("/usr/lib/podman/netavark",) if Path(path).exists()), None
    )
