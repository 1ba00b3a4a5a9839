"""Health checks by the registry's own process: real programs in containers, and what ends them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from netd.client.errors import ApiError
from tests.e2e import web
from tests.e2e.lab import Host, Namespace, await_true, ip_of
from tests.e2e.registry_lab import connected, registry_pid
from tests.e2e.test_services import happenings

INTERVAL_S = 0.3
LATE_S = 3.0  # for busy processors; default intervals are longer than all of this

# Answers /health with 200 until the file that it is told is there; then with 503.
_WEB = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        code = 503 if os.path.exists(sys.argv[2]) else 200
        body = b"well" if code == 200 else b"the disk is full"
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the registry's user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="netd-checks-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def config() -> str:
    """What is in the daemon's configuration."""
    return ""


@pytest.fixture
def host(stack: ExitStack, folder: Path, config: str) -> Iterator[Host]:
    """A host whose daemon has a registry."""
    host = Host(stack, folder)
    host.registry = True
    (folder / "netd.toml").write_text(config)
    host.start_daemon("--config", str(folder / "netd.toml"))
    try:
        await_true(lambda: connected(host), 10)
        host.client.create_network(name="blue", driver="bridge")
        yield host
    finally:
        host.kill()
        if pid := registry_pid(host):
            os.kill(pid, signal.SIGKILL)


def serve_http(space: Namespace, stack: ExitStack, sick: Path) -> "subprocess.Popen[str]":
    process = space.start(stack, sys.executable, "-c", _WEB, "80", str(sick))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def check(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "id": kind, "interval_s": INTERVAL_S, "timeout_s": INTERVAL_S} | more


def status(host: Host, ident: str) -> str:
    found: str = host.client.service(ident)["status"]
    return found


def output(host: Host, ident: str) -> str:
    found: str = host.client.service(ident)["checks"][0]["output"]
    return found


def addresses(host: Host, name: str) -> list[str]:
    return [record["data"] for record in host.client.resolve(name)["records"]]


def test_a_web_server_that_is_sick_hangs_or_dies(
    host: Host, stack: ExitStack, folder: Path
) -> None:
    container = host.container()
    endpoint = host.attach("blue", container, name="one")
    sick = folder / "sick"
    process = serve_http(container, stack, sick)
    with happenings(host) as heard:
        host.client.register(
            "web-1", name="web", port=80, endpoint=endpoint["id"],
            checks=[check("http", target="/health")],
        )  # fmt: skip
        heard.next("service.passing", "web-1")
        assert output(host, "web-1") == "HTTP 200 OK: well"
        assert addresses(host, "web.service.netd.internal") == [ip_of(endpoint)]

        sick.touch()
        since_s = time.monotonic()
        at_s, _ = heard.next("service.critical", "web-1")
        assert at_s - since_s < INTERVAL_S + LATE_S
        assert output(host, "web-1") == "HTTP 503 Service Unavailable: the disk is full"
        assert addresses(host, "web.service.netd.internal") == []
        sick.unlink()
        heard.next("service.passing", "web-1")

        process.send_signal(signal.SIGSTOP)
        since_s = time.monotonic()
        at_s, _ = heard.next("service.critical", "web-1")
        assert at_s - since_s < 2 * INTERVAL_S + LATE_S
        assert "not within 0.3 s" in output(host, "web-1")
        process.send_signal(signal.SIGCONT)
        heard.next("service.passing", "web-1")

        process.kill()
        since_s = time.monotonic()
        at_s, _ = heard.next("service.critical", "web-1")
        assert at_s - since_s < INTERVAL_S + LATE_S
        assert output(host, "web-1") == f"{ip_of(endpoint)}:80: connection refused"
        container.end()
        heard.next("service.deregistered", "web-1")


def test_ports_over_tcp_and_udp_and_ipv6(host: Host, stack: ExitStack) -> None:
    container = host.container()
    endpoint = host.attach("blue", container)
    server = web.serve(container, stack, 90)
    place, place6 = ip_of(endpoint), ip_of(endpoint, 6)
    for ident, spec in {
        "tcp-4": check("tcp"),
        "tcp-6": check("tcp", target=f"[{place6}]:90"),
        "udp": check("udp"),  # nobody is there: the container's kernel says so
    }.items():
        host.client.register(
            ident, name="any", port=90, endpoint=endpoint["id"], checks=[spec | {"id": "up"}]
        )
    await_true(lambda: status(host, "tcp-4") == status(host, "tcp-6") == "passing")
    await_true(lambda: "connection refused" in output(host, "udp"))
    assert output(host, "tcp-4") == f"{place}:90: connected"
    server.stop()
    await_true(lambda: status(host, "tcp-4") == status(host, "tcp-6") == "critical")


def test_a_containers_instance_is_no_way_to_the_host(host: Host, stack: ExitStack) -> None:
    container, neighbour = host.container(), host.container()
    endpoint = host.attach("blue", container)
    other = host.attach("blue", neighbour)
    web.serve(host, stack, 8570)
    web.serve(neighbour, stack, 8570)
    targets = ["127.0.0.1:8570", "[::1]:8500", f"{Host.ADDRESS}:8500", f"{ip_of(other)}:8500"]
    targets += ["localhost:8570", f"{endpoint['gateways'][0]}:8500"]
    for number, target in enumerate(targets):
        ident = f"spy-{number}"
        host.client.register(
            ident, name="spy", endpoint=endpoint["id"], checks=[check("tcp", target=target)]
        )
        await_true(lambda ident=ident: output(host, ident) != "")  # type: ignore[misc]
        assert "is not an address of this instance" in output(host, ident)
    # What the host registers for itself is not confined.
    host.client.register("own", name="own", checks=[check("tcp", target="127.0.0.1:8570")])
    await_true(lambda: status(host, "own") == "passing")


def test_scripts_are_refused_unless_they_are_allowed(host: Host) -> None:
    with pytest.raises(ApiError) as caught:
        host.client.register("job", name="job", checks=[check("script", args=["true"])])
    assert caught.value.field == "checks[0].kind"


@pytest.mark.parametrize("config", ["[registry]\nscript_checks = true\n"], ids=["allowed"])
def test_scripts_run_without_privileges(host: Host) -> None:
    command = "grep -E '^(Uid|CapPrm|CapEff|CapAmb|NoNewPrivs)' /proc/self/status"
    spec = check("script", args=["sh", "-c", command], timeout_s=5)
    host.client.register("job", name="job", checks=[spec])
    await_true(lambda: status(host, "job") == "passing", 10)
    said = dict(line.split(":", 1) for line in output(host, "job").splitlines())
    assert "0" not in said.pop("Uid").split()
    assert said.pop("NoNewPrivs").strip() == "1"
    assert {int(value, 16) for value in said.values()} == {0}


def test_checks_outlive_the_registry_and_the_daemon(host: Host, stack: ExitStack) -> None:
    container = host.container()
    endpoint = host.attach("blue", container)
    server = web.serve(container, stack, 90)
    checks = [check("tcp")]
    host.client.register("web-1", name="web", port=90, endpoint=endpoint["id"], checks=checks)
    await_true(lambda: status(host, "web-1") == "passing")

    os.kill(registry_pid(host), signal.SIGKILL)
    assert status(host, "web-1") == "passing"  # nobody looks; what was said last holds
    server.stop()
    await_true(lambda: status(host, "web-1") == "critical", 10)

    # What is found while the daemon is away, it is told when it is back.
    host.kill()
    web.serve(container, stack, 90)
    host.start_daemon()
    await_true(lambda: status(host, "web-1") == "passing", 10)
