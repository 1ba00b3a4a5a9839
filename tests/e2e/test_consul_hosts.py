"""What Consul's API tells one host of others: maintenance, events, distances, both addresses.

And what follows from that for DNS and virtual addresses there.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.consul_clients import Place
from tests.lab import programs
from tests.lab.host import LabHost
from tests.lab.namespaces import NamespaceLab
from tests.lab.waiting import wait_for

SEEN_S: Final = 20.0
MEASURED_S: Final = 40.0  # times are looked at each 10 s
DNS: Final = "@127.0.0.54"
NAME: Final = "web.service.netd.internal"


@pytest.fixture(scope="module")
def lab() -> Iterator[list[LabHost]]:
    # In a folder that the registry's user can reach, unlike pytest's.
    with tempfile.TemporaryDirectory(prefix="netd-consul-") as name:
        Path(name).chmod(0o755)
        lab = NamespaceLab(Path(name) / "lab")
        lab.folder.mkdir()
        lab.registry = True
        try:
            lab.up(2)
            yield list(lab.hosts)
        finally:
            lab.down()


@pytest.fixture
def places(lab: list[LabHost], stack: ExitStack) -> list[Place]:
    found = [Place(stack, host.wrap) for host in lab]
    for host, place in zip(lab, found, strict=True):
        wait_for(lambda host=host: host.api("/v1/registry")["connected"], SEEN_S)  # type: ignore[misc]
        wait_for(lambda place=place: len(rows(place, "/v1/catalog/nodes")) == 2, SEEN_S)  # type: ignore[misc]
    return found


def rows(place: Place, path: str) -> list[dict[str, Any]]:
    return list(place.curl(path).json)


def addresses(host: LabHost, kind: str = "A") -> set[str]:
    return set(host.run("dig", "+short", DNS, NAME, kind).splitlines())


def test_a_node_in_maintenance_takes_no_load(lab: list[LabHost], places: list[Place]) -> None:
    """Seen from the other host: by name, by virtual address, and in the list."""
    one, two = lab
    both = {one.address, two.address}
    for place in places:
        body = {"Name": "web", "Port": 80}
        assert place.curl("/v1/agent/service/register", body=body).status == 200
    one.netctl("service", "expose", "web", "--port", "80")
    wait_for(lambda: addresses(one) == addresses(two) == both, SEEN_S)
    wait_for(lambda: one.api("/v1/virtuals/web")["instances"] == 2, SEEN_S)
    reason = "/v1/agent/maintenance?enable=true&reason=disk"
    assert places[1].curl(reason, body="").status == 200
    wait_for(lambda: addresses(one) == addresses(two) == {one.address}, SEEN_S)
    wait_for(lambda: one.api("/v1/virtuals/web")["instances"] == 1, SEEN_S)
    assert "critical,node-critical" in one.netctl("service", "ls", "--node", "host-2")
    assert [row["Node"]["Node"] for row in rows(places[0], "/v1/health/service/web?passing")] == [
        "host-1"
    ]
    assert places[1].curl("/v1/agent/maintenance?enable=false", body="").status == 200
    wait_for(lambda: addresses(one) == both, SEEN_S)
    one.netctl("service", "unexpose", "web")
    for place in places:
        place.curl("/v1/agent/service/deregister/web", body="")
    wait_for(lambda: addresses(one) == set(), SEEN_S)


def test_events_reach_the_other_host(lab: list[LabHost], places: list[Place]) -> None:
    one, two = places
    index = two.curl("/v1/event/list?name=deploy").consul_index
    fired = one.curl("/v1/event/fire/deploy", body="v2").json
    heard = two.curl(f"/v1/event/list?name=deploy&index={index}&wait=15s").json
    assert [(each["ID"], each["Payload"]) for each in heard] == [(fired["ID"], "djI=")]
    assert rows(one, "/v1/event/list?name=deploy") == heard
    one.curl("/v1/event/fire/elsewhere?node=host-1", body="")
    answer = two.curl("/v1/event/fire/back", body="").json
    wait_for(lambda: answer["ID"] in {row["ID"] for row in rows(one, "/v1/event/list")}, SEEN_S)
    assert [row["Name"] for row in rows(two, "/v1/event/list")] == ["deploy", "back"]
    assert {row["Name"] for row in rows(one, "/v1/event/list")} == {"deploy", "elsewhere", "back"}
    # One that has lost what it knew takes it from its daemon.
    lab[1].run("kill", "-9", str(lab[1].api("/v1/registry")["pid"]))
    wait_for(lambda: names_after_a_crash(two) == ["deploy", "back"], SEEN_S)


def names_after_a_crash(place: Place) -> list[str]:
    """While the registry is not back, nobody answers."""
    try:
        found = place.curl("/v1/event/list")
    except AssertionError:
        return []
    return [row["Name"] for row in found.json] if found.status == 200 else []


def test_hosts_know_how_far_they_are(places: list[Place]) -> None:
    one, two = places

    def known(place: Place) -> list[dict[str, Any]]:
        return rows(place, "/v1/coordinate/nodes")

    wait_for(lambda: len(known(one)) == 2 and known(one) == known(two), MEASURED_S)
    assert {len(row["Coord"]["Vec"]) for row in known(one)} == {8}
    for own, place in enumerate(places, 1):
        other = f"host-{3 - own}"
        near = [row["Node"] for row in rows(place, "/v1/catalog/nodes?near=_agent")]
        assert near == [f"host-{own}", other]
        assert rows(place, f"/v1/catalog/nodes?near={other}")[0]["Node"] == other


def test_an_instance_on_another_host_is_at_both_addresses(
    lab: list[LabHost], places: list[Place]
) -> None:
    one, two = lab
    one.netctl(
        *("network", "create", "wide", "--driver", "overlay"),
        *("--subnet", "10.40.0.0/16", "--subnet", "fd40::/64"),
    )
    wait_for(lambda: "wide" in two.networks(), SEEN_S)
    client, server = one.start("client"), two.start("server")
    client.attach("wide")
    server.attach("wide", "--label", "netd.service=web:8080")
    server.python(programs.SERVE, "8080", "here")
    wait_for(lambda: addresses(one) == {server.address()}, SEEN_S)
    assert addresses(one, "AAAA") == {server.address(6)}
    (row,) = rows(places[0], "/v1/health/service/web")
    tagged = row["Service"]["TaggedAddresses"]
    assert {each["Address"] for each in tagged.values()} == set(server.addresses())
    one.netctl("service", "expose", "web", "--port", "80:8080")
    wait_for(lambda: one.api("/v1/virtuals/web")["instances"] == 1, SEEN_S)
    for each in one.api("/v1/virtuals/web")["addresses"]:
        at = f"[{each}]" if ":" in each else each
        wait_for(lambda at=at: client.succeeds("curl", "-sf", "-m", "2", f"http://{at}/"), SEEN_S)  # type: ignore[misc]
    one.netctl("service", "unexpose", "web")
    for host in lab:
        host.clear()
