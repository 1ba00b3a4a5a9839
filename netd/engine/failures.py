"""What the kernel's refusals mean to a caller."""

import errno
from collections.abc import Sequence

from netd.model.errors import (
    Conflict,
    Exhausted,
    KernelFailure,
    NetdError,
    NotFound,
    Unavailable,
)
from netd.plan.objects import Link, Macvlan, Veth
from netd.plan.operations import Failure


def explain(failures: Sequence[Failure]) -> NetdError:
    """The error to answer when an operation of a use case failed: the first one counts."""
    first = failures[0]
    obj = first.operation.object
    match first.errno:
        case errno.EXFULL:
            return Exhausted(
                "the bridge has 1,023 ports, the most a Linux bridge can have; "
                "attach to another network"
            )
        case errno.EEXIST if isinstance(obj, Veth | Macvlan):
            return Conflict(f"{obj.name}: {first.message}", field="ifname")
        case errno.EEXIST if isinstance(obj, Link):
            return Conflict(f"a link {obj.name} exists on this host that is not netd's: rename it")
        case errno.ESTALE | errno.ENONET:
            return NotFound(f"the network namespace is gone: {first.message}", field="netns")
        case errno.EADDRINUSE if isinstance(obj, Macvlan):
            return Unavailable(
                f"another macvlan link on {obj.parent} has the MAC {obj.mac}: one of a container "
                "that has ended, which the kernel removes in a moment, or one that is not netd's"
            )
        case errno.EBUSY if isinstance(obj, Macvlan):
            return Conflict(f"{obj.parent} is in use by another kind of link: {first.message}")
        case _:
            return KernelFailure(first.text())
