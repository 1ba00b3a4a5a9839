"""What is to be sent to one namespace's rtnetlink, collected until it must be known."""

import errno
from typing import NamedTuple

from netd.kernel.netlink import Message, NetlinkError, NetlinkSocket, Query
from netd.kernel.rtnl_decode import LinkInfo, link_at, link_named
from netd.plan.operations import Failure, Operation

Refusal = tuple[Operation, OSError]


class _Staged(NamedTuple):
    operation: Operation
    message: Message
    then: Message | None


class Channel:
    """A socket, the messages staged for it, and the links it has been asked for."""

    def __init__(self, socket: NetlinkSocket) -> None:
        self.socket = socket
        self._staged: list[_Staged] = []
        self._in_flux: set[str] = set()
        self._links: dict[str, LinkInfo] = {}

    def stage(
        self,
        operation: Operation,
        message: Message,
        *,
        then: Message | None = None,
        link: str | None = None,
    ) -> None:
        """Have `message` sent next time, and `then` once it has succeeded.

        `link` names the link of this namespace that the message creates or removes.
        """
        self._staged.append(_Staged(operation, message, then))
        if link is not None:
            self._in_flux.add(link)
            self._links.pop(link, None)

    def awaits(self, link: str) -> bool:
        """Whether what is staged must be sent before `link` can be looked up."""
        return link in self._in_flux

    def link(self, name: str) -> LinkInfo | None:
        found = self._links.get(name)
        if found is None:
            found = self._ask(link_named(name))
            if found is not None:
                self._links[name] = found
        return found

    def link_at(self, index: int) -> LinkInfo | None:
        return self._ask(link_at(index))

    def forget(self, link: str) -> None:
        """Another channel changes `link` of this namespace."""
        self._links.pop(link, None)

    def send(self) -> list[Refusal]:
        """Send what is staged, in order; return what the kernel refused."""
        staged, self._staged = self._staged, []
        self._in_flux.clear()
        refused = self._send([(each.operation, each.message) for each in staged])
        failed = {id(operation) for operation, _ in refused}
        # Not in the same request: a link that could not be made because a foreign one has
        # its name would else be the one that is changed.
        rest = [
            (each.operation, each.then)
            for each in staged
            if each.then is not None and id(each.operation) not in failed
        ]
        return refused + self._send(rest)

    def _send(self, requests: list[tuple[Operation, Message]]) -> list[Refusal]:
        if not requests:
            return []
        try:
            refused = self.socket.send([message for _, message in requests])
        except OSError as error:  # the socket itself, e.g. ENOBUFS: nothing is known of any
            return [(operation, error) for operation, _ in requests]
        return [(requests[position][0], error) for position, error in refused.items()]

    def _ask(self, query: Query[LinkInfo]) -> LinkInfo | None:
        try:
            return self.socket.get(query)
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise


def failure(operation: Operation, error: OSError) -> Failure:
    message = error.strerror or str(error)
    return Failure(operation=operation, errno=error.errno or 0, message=message)
