"""Packets of a tunnel are taken from hosts of the network only."""

import pytest

from tests.lab import packets, programs
from tests.lab.container import Container
from tests.lab.host import LabHost
from tests.scenarios.overlay import VXLAN_PORT, Overlay, mac_of

Pair = tuple[Container, Container]
NOBODY = "65534"
PORT = 7200
STRANGER = {4: "198.18.77.7", 6: "2001:db8::77:7"}  # of no member
ALL_HOSTS = {4: ("255.255.255.255", "224.0.0.1"), 6: ("ff02::1",)}


class Inbox:
    """What datagrams a container gets."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._listener = container.python(programs.UDP_PRINT, str(PORT))

    def assert_gets(self, text: str) -> None:
        """The next datagram is that one."""
        self._listener.await_line(text)

    def assert_got_nothing(self, source: Container) -> None:
        """What was sent until now has not arrived: something honest that comes later is first."""
        source.run("python3", "-c", programs.UDP_SEND, self._container.address(), str(PORT), "fair")
        self.assert_gets("fair")


def frame(host: LabHost, pair: Pair, text: str) -> str:
    """An Ethernet frame from container a to b, in hexadecimal."""
    a, b = pair
    return host.run(
        *("python3", "-c", packets.FRAME, mac_of(a), mac_of(b)),
        *(a.address(), b.address(), str(PORT), text),
    ).strip()


def forge(sender: LabHost, source: str, target: LabHost, vni: int, inner: str) -> None:
    """Put a packet of the tunnel on the wire past the sender's firewall."""
    assert sender.succeeds("ping", "-c", "1", "-W", "2", target.address)
    put_on_wire(sender, source, target.address, vni, inner)


def put_on_wire(sender: LabHost, source: str, target: str, vni: int, inner: str) -> None:
    sender.run(
        *("python3", "-c", packets.FORGE, sender.uplink, source, target),
        *(str(VXLAN_PORT), str(vni), inner),
    )


def test_only_members_are_heard(blue: Overlay, pair: Pair, one: LabHost, two: LabHost) -> None:
    a, b = pair
    inbox = Inbox(b)
    vni = blue.vni
    inner = frame(one, pair, "forged")
    family = 6 if ":" in one.address else 4
    forge(one, STRANGER[family], two, vni, inner)
    inbox.assert_got_nothing(a)
    # The same from a member is taken: it was well made.
    forge(one, one.address, two, vni, inner)
    inbox.assert_gets("forged")


def test_what_is_sent_to_all_hosts_is_judged_like_the_rest(
    blue: Overlay, pair: Pair, one: LabHost, two: LabHost
) -> None:
    """The socket of the tunnels is bound to no address, so the kernel gives it that as well."""
    a, b = pair
    inbox = Inbox(b)
    inner = frame(one, pair, "forged")
    family = 6 if ":" in one.address else 4
    for target in ALL_HOSTS[family]:
        put_on_wire(one, STRANGER[family], target, blue.vni, inner)
        inbox.assert_got_nothing(a)
        put_on_wire(one, one.address, target, blue.vni, inner)
        inbox.assert_gets("forged")


def test_a_network_that_is_not_known_is_not_heard(
    blue: Overlay, pair: Pair, one: LabHost, two: LabHost
) -> None:
    a, b = pair
    inbox = Inbox(b)
    forge(one, one.address, two, blue.vni ^ 1, frame(one, pair, "forged"))
    inbox.assert_got_nothing(a)


@pytest.mark.parametrize("uid", [NOBODY, "0"])
def test_local_sockets_cannot_send_into_the_tunnel(
    blue: Overlay, pair: Pair, one: LabHost, two: LabHost, uid: str
) -> None:
    a, b = pair
    inbox = Inbox(b)
    inner = frame(one, pair, "forged")
    for sender, target in ((one, two.address), (two, two.address), (two, "127.0.0.1")):
        sender.run(
            *("setpriv", "--reuid", uid, "--clear-groups", "python3", "-c", packets.UDP_TUNNEL),
            *(target, str(VXLAN_PORT), str(blue.vni), inner),
        )
    inbox.assert_got_nothing(a)


def test_containers_cannot_send_into_the_tunnel(
    blue: Overlay, pair: Pair, one: LabHost, two: LabHost
) -> None:
    """By the gateway their packets would leave with the address of their host, a member."""
    a, b = pair
    inbox = Inbox(b)
    inner = frame(one, pair, "forged")
    own = b.endpoint()["gateways"][0]
    targets = ((a, two.address), (b, two.address), (b, own))
    for container, target in (*targets, *((b, everybody) for everybody in ALL_HOSTS[4])):
        container.run(
            *("python3", "-c", packets.UDP_TUNNEL, target, str(VXLAN_PORT)),
            *(str(blue.vni), inner),
        )
    inbox.assert_got_nothing(a)
