"""The plugin's commands: https://www.cni.dev/docs/spec/#cni-operations

Most ADDs go the short way, `shim/asking.py`. What a command needs beyond the others is imported
when it is called for; and `posix` is what `os` is made of, which takes long to import.
"""

from __future__ import annotations

import posix

from netd.runtimes.cni import call as calls
from netd.runtimes.cni.failure import (
    CONFIG,
    ENVIRONMENT,
    INPUT,
    INTERNAL,
    NOT_READY,
    TRY_LATER,
    Failure,
    told,
)
from netd.runtimes.cni.wishes import check_keys, network_body
from netd.runtimes.shim import jsontext, stdin
from netd.runtimes.shim.daemon import Daemon, Refused, Silent, Unreachable, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from netd.runtimes.cni.call import Call

ABOUT = "netd-cni: containers on netd's networks, for runtimes that speak CNI\n"
ADD_TIMEOUT_S = 25  # longer than the daemon takes for any call
DEL_TIMEOUT_S = 10
STATUS_TIMEOUT_S = 5


def main(begun: bytes = b"", *, silent: bool = False) -> int:
    """Do what environment and standard input say, of which `begun` is read already; the exit
    code. `silent`: an ADD was waited for long enough.
    """
    environment = {_text(key): _text(value) for key, value in posix.environ.items()}
    if "CNI_COMMAND" not in environment:
        posix.write(2, f"{ABOUT}versions {', '.join(calls.VERSIONS)}\n".encode())
        return 0
    code, text = answer(environment, lambda: _input(begun), silent=silent)
    try:
        posix.write(1, text.encode())
    except OSError:
        return 1  # nobody listens; what was made is deleted by the runtime's DEL
    return code


def _text(value: bytes) -> str:
    return value.decode(errors="surrogateescape")


def answer(environment: Mapping[str, str], source: Any, *, silent: bool = False) -> tuple[int, str]:
    """Exit code and output of one call. `source()` gives the standard input."""
    version = calls.VERSIONS[-1]
    try:
        if environment["CNI_COMMAND"] not in calls.COMMANDS:
            command = environment["CNI_COMMAND"]
            raise Failure(ENVIRONMENT, f"CNI_COMMAND {command!r}: {', '.join(calls.COMMANDS)}")
        call = calls.read(environment, source())
        version = call.version if call.version in calls.VERSIONS else version
        result = _do(call, silent)
    except Failure as failure:
        return 1, _shown(failure, version)
    except Refused as refused:
        return 1, _shown(told(refused), version)
    except Unreachable as error:
        return 1, _shown(Failure(TRY_LATER, str(error), "is netd running?"), version)
    except Exception as error:  # noqa: BLE001 - a runtime reads JSON, not a traceback
        return 1, _shown(Failure(INTERNAL, f"{type(error).__name__}: {error}"), version)
    return 0, "" if result is None else jsontext.dumps(result) + "\n"


def _shown(failure: Failure, version: str) -> str:
    return jsontext.dumps(failure.shown(version)) + "\n"


def _do(call: Call, silent: bool) -> dict[str, Any] | None:
    if call.command == "VERSION":
        version = call.version or calls.VERSIONS[-1]
        return {"cniVersion": version, "supportedVersions": list(calls.VERSIONS)}
    call.check()
    if call.command == "ADD":
        return _add(call, silent)
    if call.command == "DEL":
        _del(call)
    elif call.command == "CHECK":
        from netd.runtimes.cni.checking import check

        check(call, Daemon(call.socket, DEL_TIMEOUT_S))
    elif call.command == "GC":
        from netd.runtimes.cni.collecting import collect

        collect(call, Daemon(call.socket, DEL_TIMEOUT_S))
    else:
        _status(call)
    return None


def _add(call: Call, silent: bool) -> dict[str, Any]:
    """Asking for the same again gives the same, so a runtime that got no answer may ask again."""
    from netd.runtimes.cni.adding import Addition
    from netd.runtimes.cni.result import result_of

    addition = Addition(call)
    if silent:
        raise Silent(ADD_TIMEOUT_S)
    daemon = Daemon(call.socket, ADD_TIMEOUT_S)
    daemon.work_off(call.container)
    if addition.network is not None:
        daemon.call("POST", "/v1/networks", addition.network)
    path = f"/v1/networks/{quoted(addition.name)}/endpoints"
    return result_of(call, daemon.call("POST", path, addition.body))


def _del(call: Call) -> None:
    """Nothing that a configuration lacks keeps an attachment from being deleted."""
    from netd.runtimes.shim.tombstones import Tombstone, delete

    tombstone = Tombstone(calls.RUNTIME, call.container, call.name, call.asked_ifname)
    delete(Daemon(call.socket, DEL_TIMEOUT_S), tombstone)


def _status(call: Call) -> None:
    """Whether an ADD would find what it needs."""
    check_keys(call.config)
    network = network_body(call)
    daemon = Daemon(call.socket, STATUS_TIMEOUT_S)
    try:
        daemon.work_off()
        if network is None:
            daemon.call("GET", f"/v1/networks/{quoted(str(call.config['network']))}")
        else:
            daemon.call("GET", "/readyz")
            _check_subnets(daemon, network)
    except (Unreachable, Refused) as error:
        raise Failure(NOT_READY, str(error)) from None


def _check_subnets(daemon: Daemon, wanted: dict[str, Any]) -> None:
    """Raise `Failure` if the network is there with other subnets, as on a node that has got another
    pod CIDR since.
    """
    asked = [_canonical(text) for text in wanted.get("subnets", ())]
    for network in daemon.call("GET", "/v1/networks"):
        if asked and network["name"] == wanted["name"] and network["subnets"] != asked:
            raise Failure(
                NOT_READY,
                f"network {network['name']!r} has {', '.join(network['subnets'])} instead of "
                f"{', '.join(asked)}",
                "delete it, and it is made anew",
            )


def _canonical(subnet: str) -> str:
    """The subnet as the daemon writes it."""
    import ipaddress

    try:
        return str(ipaddress.ip_network(subnet))
    except ValueError:
        return subnet


def _input(begun: bytes) -> bytes:
    try:
        return stdin.read(begun)
    except stdin.TooLong as error:
        raise Failure(CONFIG, str(error)) from None
    except stdin.Unreadable as error:
        raise Failure(INPUT, str(error)) from None
