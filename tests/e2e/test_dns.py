"""Names answered by the registry's own process, to containers and to the host."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.lab import Host, await_true, ip_of
from tests.e2e.registry_lab import (
    Asker,
    connected,
    furnished,
    gateway,
    host_address,
    host_with_registry,
    registry_pid,
)

ROOT = Path(__file__).parents[2]
CAP_NET_BIND_SERVICE = 1 << 10


@pytest.fixture(scope="module")
def shared_host() -> Iterator[Host]:
    with host_with_registry() as host:
        yield host


@pytest.fixture
def host(shared_host: Host) -> Iterator[Host]:
    """The host of the module, with nothing but the network blue; daemons go on."""
    with furnished(shared_host) as host:
        yield host


@pytest.fixture
def own_host() -> Iterator[Host]:
    """A host of the test alone, with the network blue."""
    with host_with_registry() as host:
        host.client.create_network(name="blue", driver="bridge")
        yield host


def test_netd_runs_from_a_folder_that_only_root_can_read(tmp_path: Path, stack: ExitStack) -> None:
    source = tmp_path / "root"
    source.mkdir(mode=0o700)
    shutil.copytree(ROOT / "netd", source / "netd", ignore=shutil.ignore_patterns("__pycache__"))
    with host_with_registry(source) as host:
        host.client.create_network(name="blue", driver="bridge")
        web = host.container()
        endpoint = host.attach("blue", web, name="web")
        asker = Asker(stack, web)
        await_true(lambda: asker.ask(gateway(endpoint), "web") == f"NOERROR {ip_of(endpoint)}", 10)
        command = Path(f"/proc/{registry_pid(host)}/environ").read_bytes()
        assert f"PYTHONPATH={source}".encode() in command


# What is answered


def test_containers_ask_their_gateway(host: Host, stack: ExitStack) -> None:
    host.client.create_network(name="red", driver="bridge")
    one, two, red = host.container(), host.container(), host.container()
    web = host.attach("blue", one, name="web", aliases=["www"])
    host.attach("blue", two, name="db")
    secret = host.attach("red", red, name="secret")
    here, there, above = Asker(stack, two), Asker(stack, red), Asker(stack, host)
    for version, kind in ((4, "A"), (6, "AAAA")):
        for server in (gateway(web), gateway(web, 6)):
            for over in ("udp", "tcp"):
                for name in ("web", "WWW.blue", "web.blue.netd.internal"):
                    answer = here.ask(server, name, kind, over)
                    assert answer == f"NOERROR {ip_of(web, version)}"
    pointer = ".".join(reversed(ip_of(web).split("."))) + ".in-addr.arpa"
    assert here.ask(gateway(web), pointer, "PTR") == "NOERROR web.blue.netd.internal."
    assert here.ask(gateway(web), "web", "SRV") == "NOERROR"
    assert here.ask(gateway(web), "nobody.blue.netd.internal") == "NXDOMAIN"

    # Networks do not see each other's names, whichever gateway is asked; the host sees all.
    for server in (gateway(web), gateway(secret)):
        assert here.ask(server, "secret.red.netd.internal") == "NXDOMAIN"
        assert there.ask(server, "web.blue.netd.internal") == "NXDOMAIN"
    assert above.ask(host_address(host), "secret.red.netd.internal") == f"NOERROR {ip_of(secret)}"
    host.attach("red", two, name="db", ifname="eth1")
    assert here.ask(gateway(web), "secret") == f"NOERROR {ip_of(secret)}"


RESOLVERS = (
    ("getent", "ahostsv4", "web"),
    ("busybox", "nslookup", "web.blue.netd.internal"),
    ("dig", "+search", "+short", "web"),
    ("python3", "-c", "import socket; print(socket.gethostbyname('web'))"),
)


def test_resolvers_that_people_have(host: Host) -> None:
    one, two = host.container(), host.container()
    web = host.attach("blue", one, name="web")
    host.attach("blue", two, name="db")
    files = {
        "resolv.conf": f"nameserver {gateway(web)}\nsearch blue.netd.internal\n",
        "nsswitch.conf": "hosts: files dns\n",
    }
    for name, text in files.items():
        (host.folder / name).write_text(text)
    mounts = " && ".join(f"mount --bind {host.folder / name} /etc/{name}" for name in files)
    for command in RESOLVERS:
        found = two.run("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", *command)
        assert ip_of(web) in found.split(), command


def test_a_name_answers_as_soon_as_its_attach_does(host: Host, stack: ExitStack) -> None:
    first = host.container()
    asker = Asker(stack, first)
    server = gateway(host.attach("blue", first, name="first"))
    for number in range(30):
        assert asker.ask(server, f"n{number}") == "NXDOMAIN"
        endpoint = host.attach("blue", host.container(), name=f"n{number}")
        assert asker.ask(server, f"n{number}") == f"NOERROR {ip_of(endpoint)}"
        host.client.detach(endpoint["id"])
        assert asker.ask(server, f"n{number}") == "NXDOMAIN"


def test_the_first_attach_of_all_waits_for_the_registry(own_host: Host, stack: ExitStack) -> None:
    container = own_host.container()
    asker = Asker(stack, container)
    own_host.attach("blue", container, name="me")
    pid = registry_pid(own_host)
    for end in ("killed", "stopped and away"):
        own_host.kill() if end == "killed" else own_host.stop_daemon()
        if end == "stopped and away":
            os.kill(pid, signal.SIGKILL)
        own_host.start_daemon()
        for number in range(3):
            name = f"{end[0]}{number}"
            endpoint = own_host.attach("blue", own_host.container(), name=name)
            assert asker.ask(gateway(endpoint), name) == f"NOERROR {ip_of(endpoint)}"
        assert (registry_pid(own_host) == pid) == (end == "killed")


def test_a_new_networks_gateway_answers_as_soon_as_the_attach_does(
    host: Host, stack: ExitStack
) -> None:
    for number in range(10):
        network = f"net{number}"
        host.client.create_network(name=network, driver="bridge")
        container = host.container()
        asker = Asker(stack, container)
        endpoint = host.attach(network, container, name="me")
        for version, kind in ((4, "A"), (6, "AAAA")):
            found = asker.ask(gateway(endpoint, version), "me", kind)
            assert found == f"NOERROR {ip_of(endpoint, version)}"


def test_a_name_goes_with_its_namespace(host: Host, stack: ExitStack) -> None:
    one, two = host.container(), host.container()
    asker = Asker(stack, two)
    web = host.attach("blue", one, name="web")
    server = gateway(host.attach("blue", two, name="db"))
    assert asker.ask(server, "web") == f"NOERROR {ip_of(web)}"
    one.end()
    await_true(lambda: asker.ask(server, "web") == "NXDOMAIN", 2)


FLOODER = """
import socket, sys, time
sock = socket.socket(type=socket.SOCK_DGRAM)
sock.connect((sys.argv[1], 53))
query = b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3web\\4blue\\4netd\\10internal\\0\\0\\1\\0\\1"
print("ready", flush=True)
while True:
    try:
        sock.send(query)
    except ConnectionRefusedError:
        pass
"""


def test_a_flood_does_not_stop_the_answers_to_others(host: Host, stack: ExitStack) -> None:
    one, bad = host.container(), host.container()
    web = host.attach("blue", one, name="web")
    host.attach("blue", bad, name="bad")
    asker = Asker(stack, one, patience_s=0.5)
    flood = bad.start(stack, sys.executable, "-c", FLOODER, gateway(web))
    assert flood.stdout is not None
    assert flood.stdout.readline() == "ready\n"
    # The queue may overflow before the flood is noticed, and again when it is listened to.
    ends_s = time.monotonic() + 2
    answers = []
    while time.monotonic() < ends_s:
        answers.append(asker.ask(gateway(web), "web"))
    flood.kill()
    assert len(answers) > 10
    assert len(answers) - answers.count(f"NOERROR {ip_of(web)}") <= 2
    await_true(lambda: counts_of(host, "dns_floods_total") >= 1, 10)


def counts_of(host: Host, name: str) -> float:
    counts = host.client.registry()["counts"]
    return float(sum(count["value"] for count in counts if count["name"] == name))


# Who the process is


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def test_it_has_no_privilege(host: Host) -> None:
    found = status(registry_pid(host))
    for key in ("Uid", "Gid"):
        assert len(set(found[key])) == 1
        assert found[key][0] != "0"
    assert found["Groups"] == []
    assert found["NoNewPrivs"] == ["1"]
    assert int(found["CapEff"][0], 16) == CAP_NET_BIND_SERVICE
    assert int(found["CapPrm"][0], 16) == CAP_NET_BIND_SERVICE
    assert int(found["CapBnd"][0], 16) == CAP_NET_BIND_SERVICE
    assert int(found["CapInh"][0], 16) == 0
    assert int(found["CapAmb"][0], 16) == 0


def test_the_api_takes_no_other_process_of_that_user_for_it(host: Host) -> None:
    uid = status(registry_pid(host))["Uid"][0]
    if uid != "65534":
        pytest.skip("needs a host without the user netd-registry")
    found = subprocess.run(
        [
            *("setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"),
            *("curl", "-s", "--unix-socket", host.socket, "-o", "/dev/null"),
            *("-w", "%{http_code}", "http://netd/v1/status"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "403"


def test_it_does_not_run_as_root(host: Host) -> None:
    program = (sys.executable, "-m", "netd.registry.main", "--socket", host.socket)
    for user in ((), ("--user", "root")):
        done = subprocess.run(
            [*program, *user], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 1
        assert "root" in done.stderr


# Its end, and netd's


def test_it_is_back_soon_after_its_end(own_host: Host, stack: ExitStack) -> None:
    one = own_host.container()
    web = own_host.attach("blue", one, name="web")
    asker = Asker(stack, one, patience_s=0.05)
    pid = registry_pid(own_host)
    os.kill(pid, signal.SIGKILL)
    killed_s = time.monotonic()
    while asker.ask(gateway(web), "web") != f"NOERROR {ip_of(web)}":
        assert time.monotonic() - killed_s < 10
    print(f"answers again after {time.monotonic() - killed_s:.2f} s")
    assert registry_pid(own_host) not in (0, pid)
    # Nothing else suffers meanwhile, be it that it is killed again.
    os.kill(registry_pid(own_host), signal.SIGKILL)
    assert own_host.attach("blue", own_host.container(), name="meanwhile")
    assert one.pings(Host.OUTSIDE)
    await_true(lambda: asker.ask(gateway(web), "meanwhile").startswith("NOERROR"), 10)


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_it_answers_while_netd_restarts(own_host: Host, stack: ExitStack, end: str) -> None:
    one = own_host.container()
    web = own_host.attach("blue", one, name="web")
    asker = Asker(stack, one)
    pid = registry_pid(own_host)
    own_host.stop_daemon() if end == "stopped" else own_host.kill()
    for _ in range(20):
        assert asker.ask(gateway(web), "web") == f"NOERROR {ip_of(web)}"
    own_host.launch()
    while not connected(own_host):
        assert asker.ask(gateway(web), "web") == f"NOERROR {ip_of(web)}"
    assert registry_pid(own_host) == pid
    assert f"the registry goes on as process {pid}" in own_host.log.read_text()
    db = own_host.attach("blue", own_host.container(), name="db")
    assert asker.ask(gateway(web), "db") == f"NOERROR {ip_of(db)}"

    # The adopted one is looked after as well.
    os.kill(pid, signal.SIGKILL)
    await_true(lambda: registry_pid(own_host) not in (0, pid), 10)
    await_true(lambda: asker.ask(gateway(web), "db") == f"NOERROR {ip_of(db)}", 10)


def test_cleanup_ends_the_one_that_a_killed_netd_has_left(own_host: Host) -> None:
    pid = registry_pid(own_host)
    own_host.kill()
    assert registry_pid(own_host) == pid
    done = own_host.run(*own_host.PROGRAM, "cleanup", "--state-dir", str(own_host.folder / "state"))
    assert "done: end the registry\n" in done
    await_true(lambda: registry_pid(own_host) == 0)
