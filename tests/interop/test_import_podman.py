"""netctl import from a real Podman: networks as it writes them with netavark, and with CNI."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.test_netctl import NETCTL
from tests.interop.docker_engine import DockerHost
from tests.interop.podman import FOLDERS, IMAGE, Podman

pytestmark = pytest.mark.timeout(120)

COMMAND = {"cni": "cni", "netavark": "podman"}


@pytest.fixture(params=["netavark", "cni"])
def podman(request: pytest.FixtureRequest) -> Iterator[tuple[Podman, str]]:
    with tempfile.TemporaryDirectory(prefix="netd-podman-") as name, ExitStack() as stack:
        host = DockerHost(stack, Path(name))
        podman = Podman(host, backend=request.param)
        host.start_daemon()
        yield podman, request.param


def test_networks_of_podman_are_taken_over(podman: tuple[Podman, str]) -> None:
    engine, backend = podman
    host, create = engine.host, ("network", "create")
    engine.call(*create, "--subnet", "10.89.0.0/24", "--label", "team=a", "plain")
    engine.call(
        *create,
        *("--ipv6", "--subnet", "10.90.0.0/24", "--gateway", "10.90.0.254"),
        *("--subnet", "fd90::/64", "-o", "mtu=1400", "dual"),
    )
    ranged = ("--subnet", "10.91.0.0/24", "--ip-range", "10.91.0.128/25")
    engine.call(*create, *ranged, "ranged")
    engine.call(*create, "--internal", "--subnet", "10.92.0.0/24", "inner")
    engine.import_image()
    engine.call("run", "-d", "--name", "box", "--network", "plain", IMAGE, "sleep", "600")

    def imported() -> tuple[int, str, str]:
        words = (COMMAND[backend], "--from", FOLDERS[backend], "--apply")
        done = subprocess.run(
            host.wrap("env", f"NETD_SOCKET={host.socket}", *NETCTL, "import", *words),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    code, said, noted = imported()
    assert code == 4, noted  # a container holds the bridge of one
    assert "3 networks made, 0 there already, 1 left alone" in noted
    assert "no subnet" not in said
    found = {network["name"]: network for network in host.client.networks()}
    assert found["dual"]["subnets"] == ["10.90.0.0/24", "fd90::/64"]
    assert (found["dual"]["gateways"][0], found["dual"]["mtu"]) == ("10.90.0.254", 1400)
    assert found["ranged"]["options"]["range"] == "10.91.0.128/25"
    assert found["inner"]["internal"]

    (offered,) = [line for line in noted.splitlines() if line.startswith("plain: ")]
    removal, _, creation = offered.removeprefix("plain: ").partition(" && netctl ")
    assert removal == "podman network rm plain"
    engine.call("rm", "-f", "-t", "0", "box")
    engine.call(*removal.split()[1:])
    host.run("env", f"NETD_SOCKET={host.socket}", "sh", "-c", f'"$@" {creation}', "sh", *NETCTL)
    plain = host.client.network("plain")
    assert (plain["subnets"], plain["labels"]) == (["10.89.0.0/24"], {"team": "a"})
    code, said, noted = imported()
    assert code == 0, noted
    assert "0 networks made, 3 there already, 0 left alone" in noted
