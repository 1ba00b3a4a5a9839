"""The plugin's commands: `create`, `setup NETNS`, `teardown NETNS` and `info`."""

from __future__ import annotations

# Not `os`, which takes long to import: see cni/plugin.py.
import posix

from netd.runtimes.netavark import networks
from netd.runtimes.netavark.attachments import RUNTIME, Setup, ports_of
from netd.runtimes.netavark.failure import Failure
from netd.runtimes.shim import jsontext, stdin
from netd.runtimes.shim.daemon import (
    RUNTIME_LABEL,
    Daemon,
    Refused,
    Silent,
    Unreachable,
    default_socket,
    quoted,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

API_VERSION = "1.0.0"
SETUP_TIMEOUT_S = 25  # longer than the daemon takes for any call
TEARDOWN_TIMEOUT_S = 10
_FOR_NOW = "?keep_subnets=true"  # of a deletion: Podman has the network still, with these subnets


def main(arguments: list[str], begun: bytes = b"", *, silent: bool = False) -> int:
    """Do what the arguments and standard input say, of which `begun` is read already; the exit
    code. `silent`: a set-up was waited for long enough.
    """
    if silent:
        code, text = 1, _error(str(Silent(SETUP_TIMEOUT_S)))
    else:
        code, text = answer(arguments, lambda: stdin.read(begun), default_socket())
    try:
        posix.write(1, text.encode())
    except OSError:
        return 1  # nobody listens
    return code


def answer(arguments: list[str], source: Callable[[], bytes], socket: str) -> tuple[int, str]:
    """Exit code and output of one call to the daemon at `socket`."""
    try:
        result = _do(arguments, source, socket)
    except (Failure, Unreachable, Refused, stdin.Unreadable) as failure:
        return 1, _error(str(failure))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return 1, _error(f"the input cannot be read: {type(error).__name__}: {error}")
    return 0, "" if result is None else jsontext.dumps(result) + "\n"


def _error(text: str) -> str:
    """With this key alone: Podman reads no other."""
    return jsontext.dumps({"error": text}) + "\n"


def _do(arguments: list[str], source: Callable[[], bytes], socket: str) -> dict[str, Any] | None:
    match arguments:
        case [] | ["info"]:
            from netd import __version__

            return {"version": __version__, "api_version": API_VERSION}
        case ["create"]:
            _check_root()
            return _create(jsontext.loads(source()), Daemon(socket, SETUP_TIMEOUT_S))
        case ["setup", netns]:
            _check_root()
            return _setup(jsontext.loads(source()), netns, Daemon(socket, SETUP_TIMEOUT_S))
        case ["teardown", _]:
            _teardown(jsontext.loads(source()), Daemon(socket, TEARDOWN_TIMEOUT_S))
            return None
    raise Failure(f"arguments {arguments}: create, setup NETNS, teardown NETNS or info")


def _check_root() -> None:
    """Raises `Failure` for a Podman without root, which tells its children so."""
    if posix.environ.get(b"_CONTAINERS_ROOTLESS_UID"):
        raise Failure(
            "Podman without root has its containers in a network namespace of its own, which netd "
            "does not reach into; run it as root"
        )


def _create(network: dict[str, Any], daemon: Daemon) -> dict[str, Any]:
    """A network of this host is made with its first container. Now it is made and deleted: to
    know its subnets, and that it can be made at all.
    """
    networks.check(network)
    path = f"/v1/networks/{quoted(networks.name_of(network))}"
    if networks.joined(network):
        networks.check_joined(network, daemon.call("GET", path))
        return networks.created(network, None)
    body = networks.body_of(network)
    found = _find(daemon, path)
    if found is not None and not _delete_left_over(daemon, path, found):
        raise Failure(
            f"netd has a network {body['name']!r} already; "
            f"-o network={body['name']} has containers join it"
        )
    made = daemon.call("POST", "/v1/networks", body)
    daemon.call("DELETE", path + _FOR_NOW)
    return networks.created(network, made)


def _setup(call: dict[str, Any], netns: str, daemon: Daemon) -> dict[str, Any]:
    """Asking for the same again gives the same. What was deleted while the daemon was away goes
    first: it may be this very container, whose new endpoint would go in its place.
    """
    setup = Setup(call, netns)
    daemon.work_off(setup.container)
    if setup.network is not None:
        daemon.call("POST", "/v1/networks", setup.network)
    if setup.publishes:
        setup.publish_once(daemon.endpoints(setup.container))
    path = f"/v1/networks/{quoted(setup.name)}/endpoints"
    try:
        return setup.status_of(daemon.call("POST", path, setup.body))
    except Refused:
        if setup.network is not None:
            _leave_nothing(daemon, call["network"])
        raise


def _teardown(call: dict[str, Any], daemon: Daemon) -> None:
    """It must not fail for what is gone, nor because the daemon is away: it is told later."""
    from netd.runtimes.shim.tombstones import Tombstone, delete

    network = call["network"]
    tombstone = Tombstone(
        RUNTIME,
        call["container_id"],
        network["name"],
        call["network_options"]["interface_name"],
    )
    if delete(daemon, tombstone):
        _publish_elsewhere(daemon, call)
        if not networks.joined(network):
            _leave_nothing(daemon, network)


def _publish_elsewhere(daemon: Daemon, call: dict[str, Any]) -> None:
    """Have the container's ports lead to a network that it is still on, if they led to this one."""
    try:
        ports = ports_of(call)
        endpoints = daemon.endpoints(call["container_id"]) if ports else []
        heirs = [each for each in endpoints if each["labels"].get(RUNTIME_LABEL) == RUNTIME]
        if heirs and not any(each["ports"] for each in endpoints):
            path = f"/v1/endpoints/{quoted(heirs[0]['id'])}"
            daemon.call("PATCH", path, {"ports": ports})
    except (Failure, Refused, Unreachable):
        return  # that endpoint ends, too, or somebody else has the ports by now


def _leave_nothing(daemon: Daemon, network: dict[str, Any]) -> None:
    """Take the network away with its last container, or the first, which could not be set up."""
    try:
        _delete_if_idle(daemon, network)
    except (Refused, Unreachable):
        return  # it goes with the next, and what became of the container matters more


def _delete_left_over(daemon: Daemon, path: str, found: dict[str, Any]) -> bool:
    """Delete a network of Podman's that nobody is on, as a teardown without the daemon or a boot
    leaves it; False for one that is in use, or somebody else's.
    """
    if networks.LABEL not in found["labels"]:
        return False
    try:
        daemon.call("DELETE", path)
    except Refused as refusal:
        if refusal.problem != "conflict":
            raise
        return False
    return True


def _delete_if_idle(daemon: Daemon, network: dict[str, Any]) -> None:
    path = f"/v1/networks/{quoted(networks.name_of(network))}"
    try:
        found = daemon.call("GET", path)
        if found["labels"].get(networks.LABEL) == str(network["id"]):
            daemon.call("DELETE", path + _FOR_NOW)
    except Refused as refusal:
        if refusal.problem not in ("not-found", "conflict"):  # gone, or others are on it
            raise


def _find(daemon: Daemon, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = daemon.call("GET", path)
    except Refused as refusal:
        if refusal.problem == "not-found":
            return None
        raise
    return found
