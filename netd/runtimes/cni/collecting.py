"""GC: what the runtime knows nothing of any more goes."""

from __future__ import annotations

from netd.runtimes.cni.call import RUNTIME, list_of, table_of
from netd.runtimes.cni.failure import CONFIG, INCOMPLETE, Failure
from netd.runtimes.shim.daemon import (
    IFNAME_LABEL,
    NETWORK_LABEL,
    RUNTIME_LABEL,
    Refused,
    Unreachable,
)
from netd.runtimes.shim.tombstones import work_off

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netd.runtimes.cni.call import Call
    from netd.runtimes.shim.daemon import Daemon

_VALID = "cni.dev/valid-attachments"
_VALID_BEFORE_1_1 = "cni.dev/attachments"  # what the library called it at first, and still sends


def collect(call: Call, daemon: Daemon) -> None:
    """Detach what ADDs of this network have made and is not among the valid attachments.

    Another kind of runtime, such as Podman's netavark, may have a network of the same name.
    """
    valid = _valid(call)
    failed = [f"{container}: {refusal}" for container, refusal in work_off(daemon)]
    for endpoint in daemon.call("GET", "/v1/endpoints"):
        labels = endpoint["labels"]
        key = (endpoint["container_id"], labels.get(IFNAME_LABEL))
        made_here = (labels.get(RUNTIME_LABEL), labels.get(NETWORK_LABEL)) == (RUNTIME, call.name)
        if made_here and key not in valid:
            try:
                daemon.detach(endpoint["id"])
            except (Refused, Unreachable) as error:
                failed.append(f"{endpoint['container_id']}: {error}")
    if failed:
        raise Failure(INCOMPLETE, f"{len(failed)} attachments are left", "; ".join(failed[:10]))


def _valid(call: Call) -> set[tuple[object, object]]:
    for key in (_VALID, _VALID_BEFORE_1_1):
        if key in call.config:
            entries = list_of(call.config[key], key)
            tables = [table_of(entry, f"{key}[{at}]") for at, entry in enumerate(entries)]
            return {(table.get("containerID"), table.get("ifname")) for table in tables}
    raise Failure(CONFIG, f"GC needs {_VALID}: without it all would go")
