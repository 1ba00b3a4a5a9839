"""What was on hosts that are dead: the cluster shows nothing of it until they are back."""

from typing import Final

from netd.engine.overlay.remotes import Key
from netd.model.overlay import RemoteEndpoint
from netd.model.views import Member

LOST_MAX: Final = 10_000  # endpoints; of more, those that are heard to be gone first are remembered


class Lost:
    """Endpoints of dead hosts, as they were last."""

    def __init__(self) -> None:
        self._of_member: dict[str, dict[Key, RemoteEndpoint]] = {}
        self._count = 0

    def member_changed(self, member: Member) -> None:
        """A host has died, or lives, or has left and taken its endpoints along."""
        if member.state == "dead":
            self._of_member.setdefault(member.id, {})
        else:
            self._count -= len(self._of_member.pop(member.id, {}))

    def gone(self, key: Key, remote: RemoteEndpoint | None) -> None:
        """An endpoint is not shown any more; if its host is dead, that is why."""
        known = self._of_member.get(key.member)
        if remote is None or known is None or key in known or self._count >= LOST_MAX:
            return
        known[key] = remote
        self._count += 1

    def endpoints(self) -> list[tuple[Key, RemoteEndpoint]]:
        return [item for known in self._of_member.values() for item in known.items()]
