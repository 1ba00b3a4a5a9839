"""The page of each of three hosts: what the others have, and what becomes of it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lab.host import LabHost
from tests.lab.namespaces import NamespaceLab
from tests.lab.waiting import wait_for
from tests.unit.page_lab import Shown

SEEN_S: Final = 15.0
PAGE: Final = "/run/netd/page.sock"


@pytest.fixture
def hosts() -> Iterator[list[LabHost]]:
    """Three, with a registry each, and the overlay blue that all know."""
    # In a folder that the registry's user can reach, unlike pytest's.
    with tempfile.TemporaryDirectory(prefix="netd-page-") as name:
        Path(name).chmod(0o755)
        lab = NamespaceLab(Path(name) / "lab")
        lab.folder.mkdir()
        lab.registry = True
        try:
            lab.up(3)
            lab.hosts[0].netctl("network", "create", "blue", "--driver", "overlay")
            for host in lab.hosts:
                wait_for(lambda host=host: "blue" in host.networks(), SEEN_S)  # type: ignore[misc]
            yield list(lab.hosts)
        finally:
            lab.down()


def section(host: LabHost, name: str) -> Shown:
    """As it is now. Who asks for a section does not wait for the daemon, so it may come later."""
    url = f"http://netd/section/{name}"
    return Shown(host.run("curl", "-sf", "-m", "5", "--unix-socket", PAGE, url))


def test_a_page_shows_what_all_hosts_have(hosts: list[LabHost]) -> None:
    one, two, three = hosts
    for host, name in zip(hosts, ("client", "web", "db"), strict=True):
        host.start(name).attach("blue", "--label", "netd.service=api:80")
    for host in hosts:
        wait_for(lambda host=host: host.succeeds("test", "-S", PAGE), SEEN_S)  # type: ignore[misc]

        def is_complete(host: LabHost = host) -> bool:
            endpoints, services = section(host, "endpoints"), section(host, "services")
            return (
                {"client", "web", "db"} <= set(endpoints.words)
                and services.words.count("api") == 3
                and section(host, "members").text.count("● alive") == 3
            )

        wait_for(is_complete, SEEN_S)
        wait_for(
            lambda host=host: section(host, "topology").count("rect") == 3 + 1 + 3,  # type: ignore[misc]
            SEEN_S,
        )
    two.power_off()

    def is_gone(host: LabHost) -> bool:
        endpoints, members = section(host, "endpoints").words, section(host, "members")
        return (
            "web" not in endpoints
            and {"client", "db"} <= set(endpoints)
            and "■ dead" in members.text
            and section(host, "services").words.count("api") == 2
        )

    for host in (one, three):
        wait_for(lambda host=host: is_gone(host), 3 * SEEN_S)  # type: ignore[misc]
