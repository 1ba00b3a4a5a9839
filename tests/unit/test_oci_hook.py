"""What annotations of OCI containers ask for, and what the programs of runtimes read."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from netd.runtimes.oci.annotations import PORTS_MAX, Wrong, wishes_of
from netd.runtimes.shim import stdin
from tests.unit.cli_daemon import ENDPOINT, serving

RUNTIMES = Path(__file__).parents[2] / "netd/runtimes"


def test_ports() -> None:
    asked = {"netd.network": "blue", "netd.ports": "8080:80, [::1]:90-91:90-91/udp"}
    ((network, body),) = wishes_of("c1", asked)
    assert network == "blue"
    assert body["ports"] == [
        {"host_port": 8080, "container_port": 80, "protocol": "tcp"},
        {"host_port": 90, "container_port": 90, "protocol": "udp", "host_ip": "::1"},
        {"host_port": 91, "container_port": 91, "protocol": "udp", "host_ip": "::1"},
    ]


def test_as_many_ports_as_one_endpoint_can_publish() -> None:
    asked = {"netd.network": "blue", "netd.ports": f"1-{PORTS_MAX - 1}:1-{PORTS_MAX - 1},9000:9000"}
    assert len(wishes_of("c1", asked)[0][1]["ports"]) == PORTS_MAX


@pytest.mark.parametrize(
    ("ports", "says"),
    [
        (",".join(["1-4096:1-4096/udp"] * 20), "more than 4096 ports of one container"),
        ("1-4096:1-4096,9000:9000", "more than 4096 ports of one container"),
        ("1-4097:1-4097", "more than 4096 ports"),
        ("8090-8080:90-80", "ends before it begins"),
        ("8080-8090:90-80", "ends before it begins"),
        ("8080-8090:80", "not of the form"),
        ("8080", "no number of a port"),
    ],
)
def test_ports_that_cannot_be(ports: str, says: str) -> None:
    with pytest.raises(Wrong, match=says):
        wishes_of("c1", {"netd.network": "blue", "netd.ports": ports})


@pytest.mark.parametrize(
    ("program", "words"),
    [("netavark/netd", ["create"]), ("oci/netd-oci-hook", ["createRuntime"])],
)
def test_input_has_a_bound(program: str, words: list[str]) -> None:
    for given, says in ((b" " * (stdin.BYTES_MAX + 1), b"more than 1048576 bytes"), (b"", b"read")):
        done = subprocess.run(
            [RUNTIMES / program, *words], input=given, capture_output=True, timeout=20, check=False
        )
        assert done.returncode == 1
        assert says in done.stdout + done.stderr
        assert b"Traceback" not in done.stderr


def test_what_has_no_network_is_wrong_and_nothing_is_nothing() -> None:
    assert wishes_of("c1", {"org.example": "x"}) == []
    for key in ("netd.netwrk", "netd.ip"):
        with pytest.raises(Wrong, match=f"{key}: there is no netd.network"):
            wishes_of("c1", {key: "blue"})


def test_input_that_cannot_be_read_is_said_in_words() -> None:
    """Standard input can only be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        done = subprocess.run(
            [RUNTIMES / "cni/netd-cni"], stdin=null, env={"CNI_COMMAND": "ADD"},
            capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        hook = subprocess.run(
            [RUNTIMES / "oci/netd-oci-hook"], stdin=null,
            capture_output=True, timeout=20, check=False,
        )  # fmt: skip
    finally:
        os.close(null)
    assert json.loads(done.stdout)["code"] == 5
    assert b"cannot be read: Bad file descriptor" in hook.stderr


def test_a_container_that_is_gone_is_said_in_words() -> None:
    state = {
        "id": "web", "status": "created", "pid": 2**22 + 1, "bundle": "/run/web",
        "annotations": {"netd.network": "blue"},
    }  # fmt: skip
    done = subprocess.run(
        [RUNTIMES / "oci/netd-oci-hook", "createRuntime"], input=json.dumps(state).encode(),
        capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        b"netd-oci-hook: the container's namespace cannot be found: No such file or directory\n"
    )


def test_poststop_detaches_its_bundles_endpoints_and_may_come_again(tmp_path: Path) -> None:
    bundle = "/run/" + "x" * 300 + "/web"
    own = {"netd.oci.container": "web", "netd.oci.bundle": bundle[-256:]}
    found = [
        ENDPOINT | {"id": "1" * 16, "labels": {**own, "netd.oci.bundle": "/run/other/web"}},
        ENDPOINT | {"id": "2" * 16, "labels": {"netd.runtime": "cni"}},
        ENDPOINT | {"id": "3" * 16, "labels": {**own, "team": "red"}},
    ]
    state = {"ociVersion": "1.0.2", "id": "web", "status": "stopped", "bundle": bundle}
    with serving(tmp_path / "netd.sock") as daemon:
        daemon.on("GET", "/v1/endpoints", found)
        daemon.on("DELETE", f"/v1/endpoints/{'3' * 16}", status=204)
        for _ in range(2):
            done = subprocess.run(
                [RUNTIMES / "oci/netd-oci-hook", "--socket", str(daemon.path)],
                input=json.dumps(state).encode(), capture_output=True, timeout=20, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, b"")
            deleted = [call.target for call in daemon.calls if call.method == "DELETE"]
            assert set(deleted) == {f"/v1/endpoints/{'3' * 16}"}
