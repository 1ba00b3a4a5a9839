"""netctl import: networks of other engines, found on a host and made in the real daemon.

The engine here is a server on a Unix socket that answers as Docker's does; a real one is in
IMPORT.md.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import Host
from tests.e2e.test_netctl import NETCTL, Said
from tests.unit.cli_daemon import Daemon as Engine
from tests.unit.cli_daemon import serving
from tests.unit.test_foreign_networks import CONTAINER, PASTA, POD, RED


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with ExitStack() as stack:
        host = Host(stack, tmp_path)
        host.start_daemon()
        yield host


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with serving(tmp_path / "engine.sock") as engine:
        engine.on("GET", "/networks", [RED])
        engine.on("GET", "/containers/json", [CONTAINER])
        yield engine


def said(host: Host, *words: str) -> Said:
    """What `netctl import` says, in the host's network namespace: it looks at the links there."""
    done = subprocess.run(
        host.wrap(*NETCTL, "import", *words),
        env={**os.environ, "NETD_SOCKET": host.socket, "NO_COLOR": "1"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.stdout, done.stderr, done.returncode)


def states(shown: Said) -> list[tuple[str, str]]:
    return [(each["name"], each["state"]) for each in json.loads(shown.out)]


def test_networks_of_docker_are_shown_then_made_once(host: Host, engine: Engine) -> None:
    place = ("docker", "--from", str(engine.path))
    shown = said(host, *place)
    assert (shown.code, shown.err) == (0, "")
    assert "red      bridge  172.30.0.0/24  new" in shown.out
    assert "red      172.30.0.9  web" in shown.out
    assert host.client.networks() == []  # nothing without --apply
    made = said(host, *place, "--apply")
    assert (made.code, made.err) == (0, "1 network made, 0 there already, 0 left alone\n")
    (red,) = host.client.networks()
    assert (red["subnets"], red["gateways"]) == (["172.30.0.0/24"], ["172.30.0.254"])
    assert (red["mtu"], red["options"]) == (1400, {"range": "172.30.0.128/25"})
    again = said(host, *place, "--apply")
    assert (again.code, again.err) == (0, "0 networks made, 1 there already, 0 left alone\n")
    assert host.client.networks() == [red]
    box = host.container()
    web = host.client.attach("red", container_id="web", pid=box.pid, addresses=["172.30.0.9"])
    assert web["addresses"] == ["172.30.0.9/24"]  # what was listed can be asked for


def test_a_bridge_of_docker_that_is_there_goes_first(host: Host, engine: Engine) -> None:
    bridge = f"br-{RED['Id'][:12]}"
    host.run("ip", "link", "add", bridge, "type", "bridge")
    host.run("ip", "address", "add", "172.30.0.254/24", "dev", bridge)
    host.run("ip", "link", "set", bridge, "up")
    held = said(host, "docker", "--from", str(engine.path), "--apply", "--json")
    assert (held.code, states(held)) == (4, [("red", "held")])
    assert host.client.networks() == []
    (offered,) = [line for line in held.err.splitlines() if line.startswith("red: ")]
    removal, _, creation = offered.removeprefix("red: ").partition(" && netctl ")
    assert removal == "docker network rm red"
    host.run("ip", "link", "del", bridge)
    host.run("env", f"NETD_SOCKET={host.socket}", "sh", "-c", f'"$@" {creation}', "sh", *NETCTL)
    assert states(said(host, "docker", "--from", str(engine.path), "--json")) == [("red", "same")]


def test_a_subnet_that_the_host_routes_elsewhere_is_refused(host: Host, engine: Engine) -> None:
    """Its link is not the old bridge, so only the daemon knows."""
    host.run("ip", "route", "add", "172.30.0.0/16", "via", Host.OUTSIDE)
    config = {"Driver": "default", "Config": [{"Subnet": "172.29.0.0/24"}]}
    engine.on("GET", "/networks", [RED, RED | {"Name": "rest", "IPAM": config}])
    refused = said(host, "docker", "--from", str(engine.path), "--apply")
    assert refused.code == 4
    assert "Error: red: " in refused.err
    assert "172.30.0.0/16" in refused.err
    assert "docker network rm red && netctl network create red" in refused.err
    assert "1 network made, 0 there already, 1 left alone\n" in refused.err
    assert [each["name"] for each in host.client.networks()] == ["rest"]  # the others are made


def test_networks_of_cni_and_podman(host: Host, tmp_path: Path) -> None:
    confs, leases, networks = (tmp_path / name for name in ("net.d", "leases", "networks"))
    for folder in (confs / "folder.conf", leases / "pods/folder", networks):
        folder.mkdir(parents=True)
    (confs / "10-pods.conflist").write_text(json.dumps(POD))
    (confs / "20-broken.conf").write_text("{")
    (confs / "notes.txt").write_text("not one of them")
    (leases / "pods/10.22.0.7").write_text("c0ffee\r\neth0")
    (networks / "pasta.json").write_text(json.dumps(PASTA))
    place = ("cni", "--from", str(confs), "--leases", str(leases))
    made = said(host, *place, "--apply")
    assert made.code == 4  # for the one that is broken
    assert "1 network made, 0 there already, 1 left alone\n" in made.err
    assert "pods     10.22.0.7  c0ffee" in made.out
    assert states(said(host, *place, "--json")) == [("pods", "same"), ("20-broken.conf", "cannot")]
    assert said(host, "podman", "--from", str(networks), "--apply").code == 0
    assert sorted(each["name"] for each in host.client.networks()) == ["pasta", "pods"]
    assert host.plan() == []


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([], "has status 404"),
        ([{"Name": "red"}], "has status 404"),
        ({"message": "no"}, "is no Docker Engine"),
        (["red"], "is no Docker Engine"),
    ],
)
def test_what_answers_may_be_no_engine(host: Host, engine: Engine, answers: Any, told: str) -> None:
    engine.answers.clear()
    if answers:
        engine.on("GET", "/networks", answers)
    refused = said(host, "docker", "--from", str(engine.path))
    assert (refused.code, refused.out) == (1, "")
    assert told in refused.err


def test_where_there_is_nothing(host: Host, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    refused = said(host, "docker", "--from", nowhere)
    assert (refused.code, f"no engine answers on {nowhere}" in refused.err) == (1, True)
    assert said(host, "cni", "--from", nowhere).code == 3
    assert said(host, "podman", "--from", nowhere).code == 3
