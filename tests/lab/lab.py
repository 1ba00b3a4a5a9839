"""A lab: hosts of one cluster, which can be cut off from each other and lose power."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal

from tests.lab.host import LabHost
from tests.lab.waiting import DEADLINE_S, wait_for


class Lab(ABC):
    """Hosts called `host-1`, `host-2`, ..., each of which has an address in the underlay."""

    hosts: Sequence[LabHost]

    # What a backend has to say

    @abstractmethod
    def up(self, count: int, *, profile: str = "fast", family: Literal[4, 6] = 4) -> None:
        """Make the hosts; return when netd is ready on all of them and all see all alive.

        `profile` is the cluster's, `family` the IP version that the hosts talk to each other in.
        """

    @abstractmethod
    def down(self) -> None:
        """Remove all of it."""

    # Between hosts

    def cut(self, one: LabHost, two: LabHost, *, both_ways: bool = True) -> None:
        """Lose what goes from `one` to `two`, and what comes back too."""
        two.drop(_from(one))
        if both_ways:
            one.drop(_from(two))

    def part(self, some: Sequence[LabHost], others: Sequence[LabHost]) -> None:
        """Cut each of `some` off from each of the `others`."""
        for one in some:
            one.drop(*(_from(other) for other in others))
        for other in others:
            other.drop(*(_from(one) for one in some))

    def heal(self) -> None:
        """Let everything pass again."""
        for host in self.hosts:
            host.mend()

    def repair(self) -> None:
        """Whatever was done to the hosts: let them be whole again, without what was made there."""
        for host in self.hosts:
            if not host.powered:
                host.power_on()
            host.launch_netd()
        self.heal()
        for host in self.hosts:
            host.await_ready()
        self.await_whole()
        for host in self.hosts:
            host.clear()
        self.remove_networks()

    def remove_networks(self) -> None:
        """Remove all networks, which nobody uses any more; return when no host knows any."""
        for host in self.hosts:
            wait_for(partial(self._rid, host), what=f"no networks on {host}")

    def _rid(self, host: LabHost) -> bool:
        """Remove the host's networks; whether there are none left.

        One that spans hosts cannot be removed until it is known that nobody uses it.
        """
        for name in host.networks():
            host.run("netctl", "network", "rm", name, code=None)
        return not host.networks()

    # What they see

    def others(self, *but: LabHost) -> list[LabHost]:
        return [host for host in self.hosts if host not in but]

    def await_seen(
        self,
        state: str,
        of: Sequence[LabHost],
        by: Sequence[LabHost],
        deadline_s: float = DEADLINE_S,
    ) -> float:
        """Wait until each of `by` sees each of `of` in that state; the seconds it took."""
        wanted = {host.name: state for host in of}
        return wait_for(
            lambda: all(wanted.items() <= host.states().items() for host in by),
            deadline_s * max(host.slowness for host in by),
            what=f"{of} {state} for {by}",
            show=lambda: self.views(by),
        )

    def await_whole(self, deadline_s: float = DEADLINE_S) -> float:
        """Wait until all see all alive; the seconds it took."""
        return self.await_seen("alive", self.hosts, self.hosts, deadline_s)

    def views(self, hosts: Iterable[LabHost]) -> str:
        """Who sees what, for people."""
        return "\n".join(f"{host}: {json.dumps(host.states())}" for host in hosts)


def _from(host: LabHost) -> str:
    return f"{'ip6' if ':' in host.address else 'ip'} saddr {host.address}"
