"""The hook's two points in a container's life."""

from __future__ import annotations

# Not `os`, which takes long to import: see cni/plugin.py.
import posix

from netd.runtimes.oci.annotations import Wrong, wishes_of
from netd.runtimes.shim import jsontext, stdin
from netd.runtimes.shim.daemon import Daemon, Refused, Unreachable, default_socket, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# On what a hook has attached. Runtimes' ids are unique for each of their folders only, and other
# kinds of runtimes give ids, too: whose a container is, its bundle tells.
CONTAINER_LABEL = "netd.oci.container"
BUNDLE_LABEL = "netd.oci.bundle"
LABEL_CHARS_MAX = 256  # of the bundle's path, from its end

USAGE = "netd-oci-hook [createRuntime|poststop] [--socket PATH], with a container's state on stdin"
CREATE_TIMEOUT_S = 25  # longer than the daemon takes for any call
END_TIMEOUT_S = 5


def main(arguments: list[str]) -> int:
    """Do what the state on standard input asks for; the exit code. Errors go to stderr, which is
    what runtimes show.
    """
    socket = default_socket()
    if arguments[-2:-1] == ["--socket"]:
        socket = arguments.pop()
        arguments.pop()
    point = arguments[0] if arguments else ""
    if len(arguments) > 1 or point not in ("", "createRuntime", "poststop"):
        return _say(USAGE, 2)
    try:
        state = jsontext.loads(stdin.read())
        _do(point, state, socket)
    except (Wrong, Refused, Unreachable, stdin.Unreadable) as error:
        return _say(str(error), 1)
    except OSError as error:
        return _say(f"the container's namespace cannot be found: {error.strerror}", 1)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return _say(f"the container's state cannot be read: {type(error).__name__}: {error}", 1)
    return 0


def _do(point: str, state: Mapping[str, Any], socket: str) -> None:
    """Without a point the state says which: poststop is the only one of a stopped container."""
    labels = {CONTAINER_LABEL: state["id"], BUNDLE_LABEL: state["bundle"][-LABEL_CHARS_MAX:]}
    if (point or ("poststop" if state["status"] == "stopped" else "")) == "poststop":
        _end(labels, Daemon(socket, END_TIMEOUT_S))
        return
    wishes = wishes_of(state["id"], state.get("annotations") or {})
    if not wishes:
        return
    pid = state["pid"]
    if _namespace(f"/proc/{pid}/ns/net") == _namespace("/proc/self/ns/net"):
        raise Wrong("the container has the host's network: its bundle has no network namespace")
    daemon = Daemon(socket, CREATE_TIMEOUT_S)
    made: list[str] = []
    try:
        for network, body in wishes:
            body["pid"] = pid
            body["labels"] |= labels
            answer = daemon.call("POST", f"/v1/networks/{quoted(network)}/endpoints", body)
            made.append(answer["id"])
    except (Refused, Unreachable):
        _undo(made, daemon)
        raise


def _namespace(path: str) -> tuple[int, int]:
    found = posix.stat(path)
    return found.st_dev, found.st_ino


def _undo(made: list[str], daemon: Daemon) -> None:
    """A container that cannot be created has no poststop with every runtime."""
    try:
        for endpoint in reversed(made):
            daemon.detach(endpoint)
    except (Refused, Unreachable):
        return  # its process ends, which the daemon sees


def _end(labels: dict[str, str], daemon: Daemon) -> None:
    """The daemon sees by itself that the container's network namespace is gone, so without one
    there is nothing to be made up for.
    """
    try:
        for endpoint in daemon.endpoints(labels[CONTAINER_LABEL]):
            if labels.items() <= endpoint["labels"].items():
                daemon.detach(endpoint["id"])
    except Unreachable as error:
        _say(f"{error}; it removes the container's endpoints when it is back", 0)


def _say(text: str, code: int) -> int:
    posix.write(2, f"netd-oci-hook: {text}\n".encode())
    return code
