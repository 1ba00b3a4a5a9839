"""What a daemon holds and has in the kernel, to be compared before and after."""

import time
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

from tests.e2e.lab import Host

SETTLED_S = 5.0


@dataclass(frozen=True)
class Remains:
    """Of the host: links, addresses, routes, rules of netd's table. Of the daemon: threads, and
    descriptors by what they lead to.
    """

    links: tuple[str, ...]
    routes: tuple[str, ...]
    elements: tuple[str, ...]
    threads: int
    descriptors: dict[str, int]

    @classmethod
    def settled(cls, host: Host) -> "Remains":
        """What there is once netd has made and removed a network: it leaves the host forwarding."""
        host.client.create_network(name="first", driver="bridge")
        host.client.delete_network("first")
        return cls.of(host)

    @classmethod
    def of(cls, host: Host) -> "Remains":
        while "tentative" in host.run("ip", "address"):
            time.sleep(0.05)  # the uplink's own link-local address (RFC 4862)
        rules = host.run("nft", "--stateless", "list", "ruleset")
        process = Path(f"/proc/{host.daemon_pid}")
        return cls(
            links=tuple(host.links()),
            routes=tuple(
                sorted(
                    line
                    for family in ("-4", "-6")
                    for line in host.run("ip", family, "route", "show", "table", "all").splitlines()
                )
            ),
            elements=tuple(line.strip() for line in rules.splitlines() if "comment" in line),
            threads=len(list((process / "task").iterdir())),
            descriptors=_descriptors(process / "fd"),
        )

    def check(self, host: Host) -> None:
        """Fail unless the host comes back to this. What a client has just closed may take a
        moment, and so does the removal of links.
        """
        deadline_s = time.monotonic() + SETTLED_S
        while (now := Remains.of(host)) != self and time.monotonic() < deadline_s:
            time.sleep(0.05)  # nothing tells from outside when it has come to rest
        for field in fields(self):
            was, is_now = getattr(self, field.name), getattr(now, field.name)
            assert is_now == was, f"{field.name}: {was} became {is_now}"
        assert host.client.plan() == []


def resident_kib(pid: int) -> int:
    """The memory that a process has in RAM now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no memory")


def _descriptors(folder: Path) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for link in folder.iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue  # closed since the folder was read
        kinds[target.partition(":[")[0]] += 1
    return dict(kinds)
