"""Hosts whose daemon has a registry, and who asks it."""

import json
import os
import select
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from netd.client.errors import Unreachable
from tests.e2e.lab import Host, Namespace, await_true


class Asker:
    """A client in a namespace that is ready to ask; see `asker.py`."""

    def __init__(self, stack: ExitStack, space: Namespace, patience_s: float = 1.5) -> None:
        command = (sys.executable, "-m", "tests.e2e.asker", str(patience_s))
        self._process = space.start(stack, *command, talk=True)
        assert self._line() == "ready"

    def ask(self, server: str, name: str, kind: str = "A", over: str = "udp") -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{server} {name} {kind} {over}\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], 20)[0], "the asker says nothing"
        return self._process.stdout.readline().rstrip("\n")


def registry_pid(host: Host) -> int:
    """The registry's process by what netd keeps of it; 0 when there is none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        pid: int = json.loads((host.folder / "state/registry.pid").read_text())["pid"]
        os.kill(pid, 0)
        return pid
    return 0


def connected(host: Host) -> bool:
    try:
        return bool(host.client.registry()["connected"])
    except Unreachable:
        return False


@contextmanager
def host_with_registry(source: Path | None = None) -> Iterator[Host]:
    """A host whose daemon has a registry, which follows it. `source` is where netd's package is, if
    not in this checkout.
    """
    # In a folder that the registry's user can reach, unlike pytest's.
    with tempfile.TemporaryDirectory(prefix="netd-dns-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        host = Host(stack, folder)
        host.registry = True
        if source is not None:
            host.around = ("env", "--chdir", "/", f"PYTHONPATH={source}")
        host.start_daemon()
        await_true(lambda: connected(host), 10)
        yield host


def host_address(host: Host) -> str:
    """Where the host's own programs ask."""
    places = [place.rpartition(":")[0] for place in host.client.registry()["listening"]]
    return str(next(place for place in places if place.startswith("127.")))


def gateway(endpoint: dict[str, object], version: int = 4) -> str:
    gateways = endpoint["gateways"]
    assert isinstance(gateways, list)
    return str(gateways[0 if version == 4 else 1])


@contextmanager
def furnished(host: Host) -> Iterator[Host]:
    """The host with the network blue; afterwards without networks, endpoints and services."""
    host.client.create_network(name="blue", driver="bridge")
    yield host
    for endpoint in host.client.endpoints():
        host.client.detach(endpoint["id"])
    for service in host.client.services():
        host.client.deregister(service["id"])
    for network in host.client.networks():
        host.client.delete_network(network["name"])
