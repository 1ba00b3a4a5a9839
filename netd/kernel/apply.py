"""Running a plan: each operation goes to the part of the kernel that its object belongs to."""

import errno
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import groupby

from netd.kernel import sysctl
from netd.kernel.channel import failure
from netd.kernel.netlink import NetlinkSocket
from netd.kernel.netns import Namespaces, OpenSandboxes
from netd.kernel.nft import Nftables
from netd.kernel.rtnl import RtnlApplier
from netd.kernel.tc import TrafficControl
from netd.model.endpoint import Sandbox
from netd.plan.objects import Object, Redirect, Ruleset, SetElement, Shaper, Sysctl
from netd.plan.operations import Failure, Operation


class Applier:
    """Runs plans. For one thread, which is in the host's namespace."""

    def __init__(
        self, host: NetlinkSocket, namespaces: Namespaces, nft: Nftables, tc: TrafficControl
    ) -> None:
        self._host = host
        self._namespaces = namespaces
        self._nft = nft
        self._tc = tc

    def run(
        self, operations: Sequence[Operation], sandboxes: Mapping[str, Sandbox]
    ) -> tuple[list[Failure], int]:
        """Run `operations` in order, going on after a failure.

        Returns the failures, and how many links were marked for removal.
        """
        failures: list[Failure] = []
        with closing(OpenSandboxes(self._namespaces, sandboxes)) as inside:
            rtnl = RtnlApplier(self._host, inside)
            for part, group in groupby(operations, key=lambda operation: _part(operation.object)):
                match part:
                    case "nft":
                        failures += self._nft.apply(list(group))
                    case "tc":
                        failures += filter(None, map(self._tc.apply, group))
                    case "sysctl":
                        failures += filter(None, (_set_sysctl(op, inside) for op in group))
                    case _:
                        failures += rtnl.run(group)
        return failures, rtnl.retired


def _part(obj: Object) -> str:
    match obj:
        case Ruleset() | SetElement():
            return "nft"
        case Shaper() | Redirect():
            return "tc"
        case Sysctl():
            return "sysctl"
        case _:
            return "rtnl"


def _set_sysctl(operation: Operation, inside: OpenSandboxes) -> Failure | None:
    """Write a kernel parameter. Removing one does nothing: what it was is not known."""
    wanted = operation.object
    assert isinstance(wanted, Sysctl)
    if operation.verb in ("delete", "retire"):
        return None
    try:
        with inside.entered(wanted.ns):
            if not sysctl.is_pointless(wanted.name):
                sysctl.write(wanted.name, wanted.value)
    except OSError as error:
        return failure(operation, error)
    except ValueError as error:
        return Failure(operation=operation, errno=errno.EINVAL, message=str(error))
    return None
