"""Which changes of the real kernel are reported, and which are not."""

import asyncio
import ctypes
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.engine.interfaces import Trigger
from netd.kernel.monitor import DATAGRAMS_PER_WAKE_UP, Monitor
from netd.kernel.nft_events import NftEvents
from netd.kernel.rtnl_events import HOST_NSID, RtnlEvents
from netd.kernel.tunnel_events import TunnelEvents
from tests.netns.conftest import Container, run

OWN_TABLE = "table inet netd { chain input { type filter hook input priority 0; }; }"
FOREIGN_TABLE = (
    "table ip other { chain onward { type filter hook forward priority 0; }; chain x { }; }"
)


class Watched:
    """A started monitor and what it reported."""

    def __init__(self, buffer_bytes: int = 8 << 20) -> None:
        self.monitor = Monitor(buffer_bytes)
        self.seen: list[Trigger] = []
        self._more = asyncio.Event()
        self.stop = self.monitor.start(self._notify)

    def _notify(self, trigger: Trigger) -> None:
        self.seen.append(trigger)
        self._more.set()

    async def until(self, wanted: Callable[[Trigger], bool]) -> Trigger:
        """The first trigger that is `wanted`, of those already seen or still to come."""
        async with asyncio.timeout(5):
            while True:
                for trigger in self.seen:
                    if wanted(trigger):
                        return trigger
                self._more.clear()
                await self._more.wait()

    async def fence(self) -> list[Trigger]:
        """All triggers of what happened before this call."""
        run("ip", "link", "add", "fence", "type", "ifb")
        await self.until(lambda trigger: trigger.name == "fence")
        run("ip", "link", "delete", "fence")
        await self.until(lambda trigger: (trigger.name, trigger.verb) == ("fence", "delete"))
        before = [trigger for trigger in self.seen if trigger.name != "fence"]
        self.seen.clear()
        return before


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    yield made
    made.stop()


def is_link(name: str, verb: str) -> Callable[[Trigger], bool]:
    return lambda trigger: (trigger.kind, trigger.name, trigger.verb) == ("link", name, verb)


def attach(container: Container) -> None:
    pid = str(container.pid)
    run("ip", "link", "add", "nv1", "up", "type", "veth", "peer", "name", "eth0", "netns", pid)
    container.run("ip", "address", "add", "10.77.0.2/24", "dev", "eth0")
    container.run("ip", "link", "set", "eth0", "up")
    container.run("ip", "route", "add", "default", "via", "10.77.0.1")


# Tunnels: tests/contract/test_tunnels.py has what is told of them


def make_bridge(name: str, group: str) -> None:
    """A bridge with a tunnel in it; of netd's if the group says so."""
    run("ip", "link", "add", name, "up", "group", group, "type", "bridge")
    vni = "5" if name == "nd-blue" else "6"
    vxlan = ("type", "vxlan", "id", vni, "dstport", "4789", "nolearning")
    run("ip", "link", "add", f"x-{name}", "up", "master", name, "group", group, *vxlan)


def change_entries(name: str) -> None:
    mac = "0e:00:00:00:00:07"
    static = ("master", "self", "static")
    run("bridge", "fdb", "replace", mac, "dev", f"x-{name}", "dst", "192.0.2.7", *static)
    for state in ("permanent", "reachable"):
        run("ip", "neighbour", "replace", "10.9.0.7", "lladdr", mac, "dev", name, "nud", state)
    run("ip", "neighbour", "del", "10.9.0.7", "dev", name)


async def test_entries_of_other_programs_links_do_not_wake_it_up(watched: Watched) -> None:
    make_bridge("br-other", "0")
    make_bridge("nd-blue", "28260")
    heard = {}
    for name in ("", "br-other", "nd-blue"):
        await watched.fence()
        before = watched.monitor.events_total
        for _ in range(10 if name else 0):
            change_entries(name)
        seen = {(trigger.kind, trigger.verb) for trigger in await watched.fence()}
        heard[name] = watched.monitor.events_total - before
        entries = {("fdb", "new"), ("neighbour", "new"), ("neighbour", "delete")}
        seen.discard(("link", "new"))  # the kernel may tell a second later that a new link is up
        assert seen == (entries if name == "nd-blue" else set())
    assert heard["br-other"] < heard[""] + 10
    assert heard["nd-blue"] > heard[""] + 30


async def test_tunnels_that_were_there_before_the_watch_are_watched() -> None:
    make_bridge("nd-blue", "28260")
    watched = Watched()
    try:
        change_entries("nd-blue")
        await watched.until(lambda seen: (seen.kind, seen.verb) == ("fdb", "new"))
        await watched.until(lambda seen: (seen.kind, seen.verb) == ("neighbour", "delete"))
        run("bridge", "link", "set", "dev", "x-nd-blue", "neigh_suppress", "on")
        await watched.until(lambda seen: (seen.name, seen.flood) == ("x-nd-blue", True))
    finally:
        watched.stop()


# Links, addresses, routes and rules of the host


async def test_a_link_that_comes_changes_and_goes(watched: Watched) -> None:
    run("ip", "link", "add", "nd-blue", "mtu", "1400", "type", "bridge")
    new = await watched.until(is_link("nd-blue", "new"))
    assert (new.host, new.up, new.mtu, new.master) == (True, False, 1400, None)
    run("ip", "link", "set", "nd-blue", "up")
    await watched.until(lambda trigger: trigger.name == "nd-blue" and trigger.up)
    run("ip", "link", "delete", "nd-blue")
    gone = await watched.until(is_link("nd-blue", "delete"))
    assert gone.host


async def test_a_links_mac_and_the_owner_that_its_whole_tag_names(watched: Watched) -> None:
    # Of a link that is down only some changes are told: netdev_state_change() in net/core/dev.c.
    run("ip", "link", "add", "nd-blue", "up", "group", "28260", "type", "bridge")
    for change, mac, owner in (
        (("alias", "netd:1:net1"), None, "net1"),
        (("address", "02:00:00:00:00:07"), "02:00:00:00:00:07", "net1"),
        (("group", "0"), "02:00:00:00:00:07", ""),
        (("group", "28260"), "02:00:00:00:00:07", "net1"),
        (("alias", ""), "02:00:00:00:00:07", ""),
    ):
        await watched.fence()
        run("ip", "link", "set", "nd-blue", *change)
        last = (await watched.fence())[-1]
        assert (last.name, last.owner) == ("nd-blue", owner)
        assert mac in (None, last.mac)


async def test_a_port_that_leaves_its_bridge_is_a_change_not_a_deletion(watched: Watched) -> None:
    run("ip", "link", "add", "nd-blue", "type", "bridge")
    run("ip", "link", "add", "nv1", "master", "nd-blue", "type", "veth", "peer", "name", "p")
    await watched.until(lambda trigger: trigger.name == "nv1" and trigger.master == "nd-blue")
    await watched.fence()
    run("ip", "link", "set", "nv1", "nomaster")
    reported = [trigger for trigger in await watched.fence() if trigger.name == "nv1"]
    assert reported[-1].master is None
    assert {trigger.verb for trigger in reported} == {"new"}


async def test_a_master_made_before_the_monitor_is_named() -> None:
    run("ip", "link", "add", "nd-old", "type", "bridge")
    run("ip", "link", "add", "nv1", "type", "ifb")
    watched = Watched()
    run("ip", "link", "set", "nv1", "master", "nd-old")
    await watched.until(lambda trigger: trigger.name == "nv1" and trigger.master == "nd-old")
    run("ip", "link", "set", "nd-old", "name", "nd-new")
    run("ip", "link", "set", "nv1", "up")
    await watched.until(lambda trigger: trigger.name == "nv1" and trigger.master == "nd-new")
    watched.stop()


async def test_addresses_routes_and_rules_of_the_host(watched: Watched) -> None:
    run("ip", "link", "add", "nv1", "up", "type", "ifb")
    commands = [
        ("address", "10.77.0.1/24", "dev", "nv1"),
        ("address", "fd77::1/64", "dev", "nv1"),
        ("route", "192.0.2.0/24", "dev", "nv1", "table", "300"),
        ("route", "fd78::/64", "dev", "nv1"),
        ("rule", "from", "10.77.0.9/32", "lookup", "300"),
    ]
    # In reverse, because the kernel drops routes along with an address without a word.
    for verb, word, order in (("new", "add", commands), ("delete", "delete", commands[::-1])):
        for what, *rest in order:
            run("ip", what, word, *rest)
        reported = {
            (trigger.kind, trigger.name)
            for trigger in await watched.fence()
            if trigger.verb == verb and trigger.host
        }
        assert reported >= {
            ("address", "10.77.0.1/24"),
            ("address", "fd77::1/64"),
            ("route", "192.0.2.0/24"),
            ("route", "fd78::/64"),
            ("rule", "10.77.0.9/32"),
        }
        assert ("route", "10.77.0.1/32") not in reported, "local routes are the kernel's own"


@pytest.mark.parametrize("command", ["qdisc del dev nv1 ingress", "filter del dev nv1 ingress"])
async def test_shaping_that_is_taken_away(watched: Watched, command: str) -> None:
    run("ip", "link", "add", "nv1", "up", "type", "ifb")
    run("tc", "qdisc", "add", "dev", "nv1", "ingress")
    match = ("u32", "match", "u32", "0", "0", "flowid", "1:1")
    run("tc", "filter", "add", "dev", "nv1", "ingress", *match)
    assert "shaping" not in {trigger.kind for trigger in await watched.fence()}
    run("tc", *command.split())
    assert "nv1" in {trigger.name for trigger in await watched.fence() if trigger.kind == "shaping"}


@pytest.mark.parametrize(
    "name",
    ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/rp_filter"],
)
async def test_settings_of_all_links(watched: Watched, name: str) -> None:
    now = run("sysctl", "-n", name)
    run("sysctl", "-w", f"{name}={1 if now.strip() == '0' else 0}")
    reported = [trigger for trigger in await watched.fence() if trigger.kind == "sysctl"]
    assert [trigger.name for trigger in reported] == [name]


async def test_a_new_link_says_nothing_of_settings(watched: Watched) -> None:
    run("ip", "link", "add", "nv1", "up", "type", "ifb")
    assert {trigger.kind for trigger in await watched.fence()} <= {"link", "address", "route"}


# Containers


async def test_only_deletions_in_a_container_are_reported(
    watched: Watched, container: Callable[[], Container]
) -> None:
    made = container()
    attach(made)
    assert {trigger.host for trigger in await watched.fence()} == {True}
    made.run("ip", "route", "delete", "default")
    made.run("ip", "address", "delete", "10.77.0.2/24", "dev", "eth0")
    reported = [trigger for trigger in await watched.fence() if not trigger.host]
    assert [(trigger.kind, trigger.name, trigger.verb) for trigger in reported] == [
        ("route", "0.0.0.0/0", "delete"),
        ("address", "10.77.0.2/24", "delete"),
        ("route", "10.77.0.0/24", "delete"),
    ]
    (nsid,) = {trigger.nsid for trigger in reported}
    assert f"link-netnsid {nsid}" in run("ip", "link", "show", "nv1")


async def test_a_link_deleted_inside_a_container(
    watched: Watched, container: Callable[[], Container]
) -> None:
    made = container()
    attach(made)
    made.run("ip", "link", "delete", "eth0")
    inside = await watched.until(is_link("eth0", "delete"))
    host = await watched.until(is_link("nv1", "delete"))
    assert (inside.host, host.host) == (False, True)


async def test_a_container_that_dies_takes_its_link_along(
    watched: Watched, container: Callable[[], Container]
) -> None:
    made = container()
    attach(made)
    made.kill()
    await watched.until(is_link("nv1", "delete"))


# The ruleset


def nft(script: str) -> None:
    run("nft", script)


def nft_in_this_process(script: str) -> None:
    library = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    context = library.nft_ctx_new(0)
    try:
        assert library.nft_run_cmd_from_buffer(context, script.encode()) == 0
    finally:
        library.nft_ctx_free(context)


async def rulesets(watched: Watched) -> int:
    """How many ruleset triggers there were up to now.

    A change has been reported to all sockets when its system call returns, and the event loop
    asks all sockets at once: the fence holds for this socket as well.
    """
    return sum(trigger.kind == "ruleset" for trigger in await watched.fence())


@pytest.mark.parametrize(
    "script",
    [
        "flush ruleset",
        "delete table inet netd",
        "flush table inet netd",
        "add rule inet netd input drop",
        "add set inet netd s { type ipv4_addr; }",
        "add element inet netd old { 192.0.2.1 }",
        "add table inet netd2; add chain inet netd more",
    ],
)
async def test_another_process_that_changes_netds_table_is_reported(
    watched: Watched, script: str
) -> None:
    nft(OWN_TABLE)
    nft("add rule inet netd input accept; add set inet netd old { type ipv4_addr; }")
    await watched.fence()
    nft(script)
    assert await rulesets(watched) == 1


async def test_one_transaction_is_one_trigger(watched: Watched) -> None:
    nft(OWN_TABLE)
    assert await rulesets(watched) == 1


async def test_own_changes_are_not_reported(watched: Watched) -> None:
    nft_in_this_process(OWN_TABLE)
    await asyncio.to_thread(nft_in_this_process, "add rule inet netd input accept")
    nft_in_this_process("flush ruleset")
    assert await rulesets(watched) == 0
    nft(OWN_TABLE)
    assert await rulesets(watched) == 1


async def test_a_foreign_change_after_an_own_one_is_told_apart(watched: Watched) -> None:
    nft_in_this_process(OWN_TABLE)
    nft("add rule inet netd input accept")
    nft_in_this_process("add rule inet netd input accept")
    assert await rulesets(watched) == 1


@pytest.mark.parametrize("family", ["ip", "ip6", "inet", "bridge"])
async def test_what_other_programs_do_to_forwarding_is_reported(
    watched: Watched, family: str
) -> None:
    nft(f"add table {family} other")
    assert await rulesets(watched) == 0
    nft(f"add chain {family} other onward {{ type filter hook forward priority 0; policy drop; }}")
    assert await rulesets(watched) == 1
    nft(f"add rule {family} other onward accept")
    assert await rulesets(watched) == 1
    nft(f"flush chain {family} other onward")
    assert await rulesets(watched) == 1
    nft(f"delete chain {family} other onward")
    assert await rulesets(watched) == 1
    nft(f"add chain {family} other onward; add rule {family} other onward accept")
    assert await rulesets(watched) == 0, "it is no base chain any more"


async def test_a_forward_chain_made_before_the_monitor_is_known() -> None:
    nft(FOREIGN_TABLE)
    watched = Watched()
    nft("add rule ip other onward drop")
    assert await rulesets(watched) == 1
    nft("delete table ip other")
    assert await rulesets(watched) == 1
    watched.stop()


@pytest.mark.parametrize(
    "script",
    [
        "add rule ip other x drop",
        "add chain ip other in { type filter hook input priority 0; }",
        "add table ip netd { chain c { }; }",
        "add table inet netd2 { set s { type ipv4_addr; elements = { 192.0.2.1 } }; }",
    ],
)
async def test_what_does_not_concern_netd_is_not_reported(watched: Watched, script: str) -> None:
    nft(FOREIGN_TABLE)
    nft(OWN_TABLE)
    await watched.fence()
    nft(script)
    assert await rulesets(watched) == 0


# Too much, and nonsense


def flood(folder: Path, addresses: int) -> None:
    """Make the kernel report two changes for each address, while the event loop is blocked."""
    batch = folder / "batch"
    batch.write_text("".join(f"address add 10.9.0.{i}/32 dev lo\n" for i in range(addresses)))
    run("ip", "-batch", str(batch))


async def test_lost_events_are_reported_once_all_is_read_and_reading_goes_on(
    tmp_path: Path,
) -> None:
    watched = Watched(buffer_bytes=8192)
    flood(tmp_path, 200)
    await watched.until(lambda trigger: trigger.kind == "lost")
    assert watched.monitor.lost_total == 1
    run("ip", "link", "add", "after", "type", "ifb")
    await watched.until(is_link("after", "new"))
    assert [trigger.kind for trigger in watched.seen].count("lost") == 1
    watched.stop()


async def test_a_flood_leaves_the_event_loop_responsive(watched: Watched, tmp_path: Path) -> None:
    flood(tmp_path, 100)
    turns = 0
    while watched.monitor.events_total < 200:
        seen = watched.monitor.events_total
        await asyncio.sleep(0)
        turns += watched.monitor.events_total > seen
        assert watched.monitor.events_total - seen <= DATAGRAMS_PER_WAKE_UP
    assert turns > 1
    assert watched.monitor.lost_total == 0


async def test_nothing_comes_after_stop(watched: Watched) -> None:
    watched.stop()
    watched.stop()
    run("ip", "link", "add", "after", "type", "ifb")
    await asyncio.sleep(0)
    assert watched.seen == []


NOT_UNDERSTOOD = (struct.error, LookupError, ValueError, OSError)


@given(kind=st.sampled_from([16, 17, 20, 21, 24, 25, 32, 33, 80]), body=st.binary(max_size=80))
def test_nonsense_from_rtnetlink_raises_only_what_the_reader_counts(kind: int, body: bytes) -> None:
    message = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    for data in (message, message[:-1], body):
        try:
            triggers = RtnlEvents(TunnelEvents()).triggers(data, HOST_NSID)
        except NOT_UNDERSTOOD:
            continue
        assert all(isinstance(trigger, Trigger) for trigger in triggers)


@given(kind=st.sampled_from([28, 29]), body=st.binary(max_size=80))
def test_nonsense_about_entries_raises_only_what_the_reader_counts(kind: int, body: bytes) -> None:
    message = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    for data in (message, message[:-1], body):
        with suppress(*NOT_UNDERSTOOD):
            assert TunnelEvents().triggers(data, HOST_NSID) == []


@given(kind=st.integers(0, 24), body=st.binary(max_size=80))
def test_nonsense_from_nftables_raises_only_what_the_reader_counts(kind: int, body: bytes) -> None:
    message = struct.pack("=IHHII", 16 + len(body), 10 << 8 | kind, 0, 0, 0) + body
    for data in (message, message[:-1], body):
        try:
            triggers = NftEvents().triggers(data, HOST_NSID)
        except NOT_UNDERSTOOD:
            continue
        assert all(isinstance(trigger, Trigger) for trigger in triggers)
