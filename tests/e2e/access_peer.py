"""What `test_access` does as another user. Each function prints one JSON value for each step.

Imported before the privileges are dropped: the checkout may be another user's.
"""

import io
import json
import resource
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress

from netd.cli import endpoint, main, network, plan
from netd.runtimes.cni import adding, plugin
from netd.runtimes.shim import tombstones
from tests.e2e.wire import ask, call, connect, request

# netctl imports these when it uses them, which is too late for the user.
NEEDED = (endpoint, network, plan, shlex, adding, tombstones)


def make_calls(socket: str, calls: str) -> None:
    """Make each call with nonsense for its parameters; the statuses of the answers."""
    try:
        statuses = [
            call(socket, method, path.replace("{", "%7B"), {} if method in _BODIES else None).status
            for _, method, path in json.loads(calls)
        ]
        print(json.dumps(statuses))
    except PermissionError as error:
        print(json.dumps(error.strerror))


def run_netctl(socket: str, *arguments: str) -> None:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main.cli(["--socket", socket, *arguments], prog_name="netctl")
        except SystemExit as end:
            code = int(end.code or 0)
    print(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()}))


def run_cni(socket: str) -> None:
    """Codes of an ADD and a DEL."""
    config = {"cniVersion": "1.0.0", "name": "net", "network": "blue", "socket": socket}
    environment = {"CNI_CONTAINERID": "c", "CNI_NETNS": "/run/netns/c", "CNI_IFNAME": "eth0"}
    codes = []
    for command in ("ADD", "DEL"):
        called = {**environment, "CNI_COMMAND": command}
        _, text = plugin.answer(called, lambda: json.dumps(config).encode())
        codes.append(json.loads(text)["code"])
    print(json.dumps(codes))


def hold_connections(socket: str, number: str) -> None:
    """Open connections and keep them; let most of them go after a line of input."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    held = [connect(socket) for _ in range(int(number))]
    refusals = []
    served = 0
    for connection in held:
        with suppress(BrokenPipeError):  # turned away already
            connection.sendall(request("GET", "/healthz", last=False))
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
        if b" 503 " in head:
            refusals.append(json.loads(body))
        else:
            served += 1
    told = {"served": served, "refused": len(refusals), "problem": refusals[0]}
    print(json.dumps(told), flush=True)
    sys.stdin.readline()
    for connection in held[:-10]:
        connection.close()
    print(ask(socket, request("GET", "/healthz")).status, flush=True)


_BODIES = ("POST", "PATCH", "PUT")
