"""netctl as a person uses it, against the real daemon: every command, every exit code."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from netd.cli.main import cli
from tests.e2e.lab import Host, Namespace, await_true

NETD = (sys.executable, "-m", "netd.daemon.main")
NETCTL = (sys.executable, "-m", "netd.cli.main")


class Said(NamedTuple):
    """How a command ended."""

    out: str
    err: str
    code: int

    @property
    def table(self) -> list[dict[str, str]]:
        """The rows of a table, by header; fails when columns are not aligned."""
        header, *rows = self.out.splitlines()
        starts = [match.start() for match in re.finditer(r"(?<!\S)\S", header)]
        names = header.split()
        cells = []
        for row in rows:
            for start in starts[1:]:
                assert row[start - 1 : start] in ("", " "), f"not aligned: {row!r}"
            ends = [*starts[1:], None]
            parts = [row[start:end].strip() for start, end in zip(starts, ends, strict=True)]
            cells.append(dict(zip(names, parts, strict=True)))
        return cells

    @property
    def fields(self) -> dict[str, str]:
        """Lines of a name and a value."""
        pairs = (line.partition("  ") for line in self.out.splitlines())
        return {name: value.strip() for name, _, value in pairs}


class Desk:
    """A host, a container on it, and netctl. Remembers which commands were used."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.container = host.container()
        self.used: set[str] = set()

    def __call__(self, *words: str, socket: str | None = None) -> Said:
        done = subprocess.run(
            [*NETCTL, *words], env=self.environment(socket), capture_output=True, text=True,
            timeout=30, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode == 0:
            self.used |= {" ".join(words[:2]), words[0]}
        return Said(done.stdout, done.stderr, done.returncode)

    def good(self, *words: str) -> Said:
        said = self(*words)
        assert said.code == 0, said
        return said

    def refused(self, code: int, *words: str) -> str:
        """What is said on the standard error of a command that fails."""
        said = self(*words)
        assert (said.code, said.out) == (code, ""), said
        assert said.err.startswith(("Error: ", "Usage: ")), said
        return said.err

    def environment(self, socket: str | None = None) -> dict[str, str]:
        return {**os.environ, "NETD_SOCKET": socket or self.host.socket, "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with ExitStack() as stack:
        host = Host(stack, tmp_path_factory.mktemp("host"))
        host.start_daemon()
        yield Desk(host)


def commands(group: click.Group, path: str = "") -> Iterator[str]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}"


def test_a_day_with_netctl(desk: Desk, tmp_path: Path) -> None:
    """From an empty host to networks with endpoints and back: each command does what it says."""
    assert desk.good("network", "ls").out == "NAME  ID  DRIVER  SUBNETS  MTU  STATE\n"
    made = desk.good("network", "create", "blue", "--subnet", "10.20.0.0/24", "--label", "a=b")
    ident = made.out.strip()
    assert made.err == "network blue: bridge 10.20.0.0/24\n"
    again = desk.good("network", "create", "blue", "--subnet", "10.20.0.0/24", "--label", "a=b")
    assert again.out.strip() == ident
    desk.good("network", "create", "a-network-with-a-long-name", "--driver", "none")
    rows = desk.good("network", "ls").table
    assert [row["NAME"] for row in rows] == ["a-network-with-a-long-name", "blue"]
    assert rows[1] == {
        "NAME": "blue", "ID": ident, "DRIVER": "bridge", "SUBNETS": "10.20.0.0/24",
        "MTU": "1500", "STATE": "ready",
    }  # fmt: skip
    inspected = desk.good("network", "inspect", "blue").fields
    assert inspected["gateways"] == "10.20.0.1"
    assert inspected["labels"] == "a=b"

    endpoint = _attach_and_update(desk)
    _look(desk)
    _register(desk)
    _keep_keys(desk)

    assert desk.good("plan").out == "nothing to do\n"
    assert desk.good("plan", "--exit-code").code == 0
    report = desk.good("reconcile")
    assert report.out == "nothing to do\n"
    assert report.err.startswith("0 applied, 0 failed, 0 swept")

    in_use = desk.refused(4, "network", "rm", "blue")
    assert "network blue is in use by web (container c1)" in in_use
    hint = in_use.splitlines()[1].removeprefix("Detach them first: ")
    shell = hint.replace("netctl", " ".join(NETCTL))
    done = subprocess.run(
        shell, shell=True, env=desk.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{endpoint}\n"  # the hint can be pasted
    desk.used.add("endpoint detach")
    removed = desk.good("network", "rm", "blue", "a-network-with-a-long-name")
    assert removed.out == "blue\na-network-with-a-long-name\n"
    assert desk.good("network", "ls", "-q").out == ""
    assert "_NETCTL_COMPLETE=bash_complete" in desk.good("completion", "bash").out
    _watch(desk)
    _meet(desk, tmp_path)
    assert desk.good("wait").err == "ready\n"
    desk.used.add("run")  # see test_run.py
    desk.used |= {"import docker", "import cni", "import podman"}  # see test_import.py
    assert desk.used >= set(commands(cli))  # a new command has a place in this day, too


def _attach_and_update(desk: Desk) -> str:
    attached = desk.good(
        *("endpoint", "attach", "blue", "--container", "c1", "--pid", str(desk.container.pid)),
        *("--name", "web", "--alias", "www", "--publish", "8080:80", "--egress", "10mbit"),
    )
    ident = attached.out.strip()
    assert attached.err == "endpoint web on blue: 10.20.0.2/24\n"
    (row,) = desk.good("endpoint", "ls").table
    assert row == {
        "ID": ident, "NAME": "web", "NETWORK": "blue", "CONTAINER": "c1",
        "ADDRESSES": "10.20.0.2/24", "PORTS": "8080:80/tcp", "NODE": "host-1", "STATE": "ready",
    }  # fmt: skip
    desk.good("endpoint", "update", ident, "--publish", "8081-8083:80-82/udp", "--ingress", "1gbit")
    shown = desk.good("endpoint", "inspect", ident).fields
    assert shown["ports"] == "8081-8083:80-82/udp"
    assert shown["bandwidth"] == "ingress=1gbit egress=10mbit"
    assert shown["aliases"] == "www"
    assert shown["netns"] == desk.container.path
    assert shown["host_ifname"] in desk.host.links()
    assert desk.good("endpoint", "ls", "--container", "c2").table == []
    assert desk.good("endpoint", "ls", "--network", "blue", "-q").out == f"{ident}\n"
    return ident


def _look(desk: Desk) -> None:
    assert desk.good("resolve", "www.blue").table == [
        {"NAME": "www.blue.netd.internal", "TTL": "2", "TYPE": "A", "DATA": "10.20.0.2"}
    ]
    assert desk.good("resolve", "web", "--from", "10.20.0.2", "-q").out == "10.20.0.2\n"
    assert "no AAAA record" in desk.refused(3, "resolve", "web.blue", "--type", "aaaa")
    status = desk.good("status")
    assert status.out.startswith("netd 0.1.0 on host-1: ready\n")
    assert status.fields["drift"] == "none"
    assert status.fields["endpoints"] == "1"
    (member,) = desk.good("member", "ls").table
    assert (member["NAME"], member["ADDRESS"], member["STATE"]) == (
        "host-1", Host.ADDRESS, "alive",
    )  # fmt: skip
    assert desk.good("version").fields == {"netctl": "0.1.0", "netd": "0.1.0"}
    doctor = desk("doctor")
    assert doctor.code == 0, doctor
    assert "- web  10.20.0.2" in desk.good("topology").out
    assert desk.good("explain", "web", "10.20.0.1").err == "web to 10.20.0.1: ok\n"
    nobody = desk("explain", "web", "10.20.0.77")
    assert (nobody.code, "an address of network blue" in nobody.out) == (1, True)
    assert "no overlay network 'blue'" in desk.refused(3, "network", "reclaim", "blue", "host-9")
    desk.used.add("network reclaim")
    desk.used.add("doctor")
    assert re.search(r"^\d+ checks: 0 errors, \d+ warnings?$", doctor.err, re.MULTILINE)
    for line in doctor.out.splitlines():
        assert line.startswith(("ok       ", "warning  ", "         remedy: ")), line


def _register(desk: Desk) -> None:
    assert desk.good("service", "register", "job", "--id", "j1", "--check", "ttl=1m").out == "j1\n"
    for verb, status in (("warn", "warning"), ("fail", "critical"), ("pass", "passing")):
        desk.good("service", verb, "j1")
        (row,) = desk.good("service", "ls").table
        assert (row["NAME"], row["ID"], row["STATUS"]) == ("job", "j1", status)
    desk.good("service", "maintenance", "j1", "on")
    assert desk.good("service", "inspect", "j1").fields["status"] == "critical"
    desk.good("service", "maintenance", "j1", "off")
    addresses = ",".join(desk.good("service", "expose", "job", "--port", "80:8080").out.split())
    (row,) = desk.good("service", "virtual", "ls").table
    assert (row["ADDRESSES"], row["PORTS"]) == (addresses, "80:8080/tcp")
    assert desk.good("service", "virtual", "inspect", "job").fields["addresses"] == addresses
    assert desk.good("dns", "trace", "job.service.netd.internal").err.endswith(": NOERROR\n")
    assert desk.good("dns", "status").fields["connected"] == "no"  # this host's netd has none
    desk.used |= {"service virtual ls", "service virtual inspect"}
    desk.good("service", "unexpose", "job")
    assert desk.good("service", "deregister", "j1").out == "j1\n"


def _keep_keys(desk: Desk) -> None:
    desk.good("kv", "put", "app/mode", "fast")
    assert desk.good("kv", "get", "app/mode").out.strip() == "fast"
    assert "app/mode" in desk.good("kv", "ls").out
    assert desk.good("kv", "status").fields["holder"] == "host-1"
    desk.good("kv", "move", "host-1")
    desk.good("kv", "delete", "app/mode")
    desk.refused(3, "kv", "get", "app/mode")


def _watch(desk: Desk) -> None:
    with subprocess.Popen(
        [*NETCTL, "events", "--since", "0"], env=desk.environment(), stdout=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert "events.lost host events after revision 0" in process.stdout.readline()
        desk.good("network", "create", "seen", "--driver", "none")
        lines = iter(process.stdout.readline, "")
        line = next(line for line in lines if "network.created seen" in line)
        at, revision, *_ = line.split()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
        assert revision.isdecimal()
        process.terminate()
        rest = process.communicate(timeout=10)[0]
    assert "Traceback" not in rest
    desk.good("network", "rm", "seen")
    desk.used.add("events")


def _meet(desk: Desk, folder: Path) -> None:
    """Become a cluster with the machine outside, change its keys, and leave it."""
    key_file = folder / "cluster.key"
    assert desk.good("key", "generate", "--output", str(key_file)).out == ""
    assert "the same --cluster-key FILE" in desk.refused(1, "member", "join", Host.OUTSIDE)
    desk.host.stop_daemon()
    desk.host.start_daemon("--cluster-key", str(key_file))
    with ExitStack() as stack:
        socket = str(folder / "outside.sock")
        desk.host.outside.start(
            stack, *NETD, "--no-registry", "--cluster-key", str(key_file), "--node", "host-2",
            "--socket", socket, "--state-dir", str(folder / "state"),
        )  # fmt: skip
        await_true(lambda: desk("status", socket=socket).code == 0, within_s=20)
        joined = desk.good("member", "join", Host.OUTSIDE)
        assert joined.out == f"{Host.OUTSIDE}\n"
        assert joined.err == "the cluster has 2 members; alive: host-1,host-2\n"
        await_true(lambda: desk.good("member", "inspect", "host-2").fields["rtt_ms"] != "-")
        rows = desk.good("member", "ls").table
        assert [(row["NAME"], row["ADDRESS"], row["STATE"]) for row in rows] == [
            ("host-1", f"{Host.ADDRESS}:7940", "alive"),
            ("host-2", f"{Host.OUTSIDE}:7940", "alive"),
        ]
        await_true(lambda: desk.good("key", "ls").table[0]["HOLDERS"] == "host-1,host-2")
        first = desk.good("key", "ls", "-q").out.strip()
        second = desk.good("key", "rotate").out.strip()
        assert desk.good("key", "ls", "-q").out == f"{second}\n" != f"{first}\n"
        third = desk.good("key", "install").out.strip()
        assert "host-1" in desk.refused(4, "key", "rm", second)
        await_true(lambda: desk("key", "use", third).code == 0)
        await_true(lambda: desk("key", "rm", second).code == 0)
        assert "00000000" in desk.refused(3, "key", "use", "00000000")
        assert desk.good("member", "token").out.startswith("netd1.")
        desk.good("member", "leave")
        assert desk.good("member", "ls", "-q").out == "host-1\n"
        await_true(lambda: "left" in desk("member", "ls", socket=socket).out)
    desk.host.stop_daemon()
    desk.host.start_daemon()


READS = (
    ("network", "ls"), ("network", "inspect", "json"), ("endpoint", "ls"), ("plan",),
    ("reconcile",), ("resolve", "j.json"), ("status",), ("doctor",), ("member", "ls"), ("version",),
    ("member", "inspect", "host-1"), ("key", "ls"),
)  # fmt: skip


def test_json_of_every_read(desk: Desk) -> None:
    desk.good("network", "create", "json")
    made = desk.good(
        *("endpoint", "attach", "json", "--container", "j", "--json"),
        *("--pid", str(desk.container.pid)),
    )
    endpoint: dict[str, Any] = json.loads(made.out)
    assert made.err == ""
    assert endpoint == desk.host.client.endpoint(endpoint["id"])
    for words in (*READS, ("endpoint", "inspect", endpoint["id"])):
        said = desk.good(*words, "--json")
        assert len(said.out.splitlines()) == 1, words
        json.loads(said.out)
    assert json.loads(desk.good("network", "ls", "--json").out) == desk.host.client.networks()
    updated = desk.good("endpoint", "update", endpoint["id"], "--alias", "k", "--json")
    assert json.loads(updated.out)["aliases"] == ["k"]
    desk.good("endpoint", "detach", "--container", "j")
    desk.good("network", "rm", "json")


ATTACH = ("endpoint", "attach", "blue", "--container", "c9")


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [
        (2, ("network", "create", "Blue"), "NAME: network name 'Blue': use 1 to 63 lower-case"),
        (2, ("network", "create", "x", "--subnet", "10.0.0.1/24"), "--subnet: '10.0.0.1/24' has"),
        (2, ("network", "create", "x", "--driver", "foo"), "Invalid value for '--driver': 'foo'"),
        (2, ("network", "create", "x", "--mtu", "9"), "Invalid value for '--mtu'"),
        (2, ("network", "creat", "x"), "Did you mean 'create'?"),
        (2, ("frob",), "No such command 'frob'"),
        (4, ("network", "create", "x", "--subnet", "192.0.2.0/28"), "the host's route 192.0.2"),
        (4, ("network", "create", "blue", "--mtu", "1400"), "--mtu: network 'blue' exists"),
        (3, ("network", "inspect", "nope"), "there is no network 'nope'; `netctl network ls`"),
        (3, ("network", "rm", "nope"), "there is no network 'nope'"),
        (3, ("endpoint", "inspect", "nope"), "there is no endpoint 'nope'; `netctl endpoint ls`"),
        (3, ("endpoint", "detach", "nope"), "there is no endpoint 'nope'"),
        (3, ("endpoint", "ls", "--network", "nope"), "there is no network 'nope'"),
        (3, ("resolve", "nobody.blue"), "nobody.blue has no A record (NXDOMAIN)"),
        (3, ("resolve", "web", "--from", "x"), "--from: 'x' is neither an address nor a container"),
        (2, ATTACH, "--netns: give the container's network namespace"),
        (2, (*ATTACH, "--pid", "1", "--netns", "x"), "--netns and --pid exclude each other"),
        (3, (*ATTACH, "--pid", "4194304"), "--pid: there is no process 4194304"),
        (3, (*ATTACH, "--netns", "nowhere"), "--netns: '/run/netns/nowhere' does not exist"),
        (2, (*ATTACH, "--netns", "/dev/null"), "--netns: '/dev/null' is not a network namespace"),
        (2, (*ATTACH, "--pid", "{pid}", "--ifname", "eth%d"), "--ifname: interface name 'eth%d'"),
        (2, (*ATTACH, "--pid", "{pid}", "--publish", "80"), "'80' does not have the form"),
        (2, (*ATTACH, "--pid", "{pid}", "--egress", "9"), "--egress: expected int >= 8000"),
        (2, (*ATTACH, "--pid", "{pid}", "--address", "10.9.9.9"), "--address: 10.9.9.9 is in no"),
        (2, ("endpoint", "update", "x"), "nothing to change: give at least one option"),
        (2, ("endpoint", "detach"), "give either endpoint ids or --container"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(desk: Desk, code: int, words: tuple[str, ...], says: str) -> None:
    desk.host.client.create_network(name="blue", driver="bridge")
    said = desk.refused(code, *(word.format(pid=desk.container.pid) for word in words))
    assert says in said
    desk.host.client.delete_network("blue")


def test_no_daemon_is_exit_code_5(desk: Desk) -> None:
    for words in (("status",), ("network", "ls"), ("network", "rm", "x"), ("events",)):
        said = desk(*words, socket="/nowhere/netd.sock")
        assert (said.code, said.out) == (5, "")
        assert said.err.startswith("Error: no netd answers on /nowhere/netd.sock\nStart it with")
    doctor = desk("doctor", socket="/nowhere/netd.sock")
    assert doctor.code == 5
    assert "error    daemon  no netd answers" in doctor.out
    assert desk("version", socket="/nowhere/netd.sock").code == 0


def test_drift_is_shown_and_repaired(desk: Desk) -> None:
    """By hand: the daemon repairs by itself, so the plan is asked for a namespace it is not
    told about."""
    desk.good("network", "create", "drift")
    container: Namespace = desk.host.container()
    words = ("--container", "d", "--pid", str(container.pid))
    ident = desk.good("endpoint", "attach", "drift", *words).out.strip()
    container.run("ip", "link", "set", "eth0", "mtu", "1300")
    planned = desk("plan", "--exit-code")
    assert planned.code == 1
    assert "change link eth0" in planned.out
    assert "mtu is 1300, not 1500" in planned.out
    repaired = desk.good("reconcile")
    assert "change link eth0" in repaired.out
    assert repaired.err.startswith("1 applied, 0 failed, 0 swept")
    assert desk.good("plan").out == "nothing to do\n"
    assert desk.good("endpoint", "detach", ident).out == f"{ident}\n"
    desk.good("network", "rm", "drift")


def test_a_broken_pipe_is_silent(desk: Desk) -> None:
    desk.good("network", "create", "pipe", "--driver", "none")
    for words in ("network ls", "status", "events --since 0", "network ls --json"):
        shell = f"{' '.join(NETCTL)} {words} | true"
        done = subprocess.run(
            ["bash", "-c", shell], env=desk.environment(), capture_output=True, text=True,
            timeout=30, check=True,
        )  # fmt: skip
        assert done.stderr == "", words
    desk.good("network", "rm", "pipe")


def test_completion_knows_what_there_is(desk: Desk) -> None:
    desk.good("network", "create", "bluebird", "--driver", "none")
    line = "netctl network inspect bl"
    done = subprocess.run(
        NETCTL,
        env=desk.environment()
        | {"_NETCTL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["plain,bluebird"]
    desk.good("network", "rm", "bluebird")
