"""Blocks that are in etcd: whatever is lost and whoever dies, no address has two owners."""

import random
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from netd.model.blocks import Allotment, Ask, Epoch, Given, Ledger
from netd.model.network import Network
from netd.model.overlay import ETCD
from netd.plan import allotments
from netd.plan import ledger as ledgers
from netd.plan.blocks import reserved_in
from netd.plan.space import NOWHERE, Space
from tests.spaces import disjoint

SUBNET = "10.0.0.0/28"


def network_of(subnet: str) -> Network:
    gateway = str(ip_network(subnet).network_address + 1)
    return Network(
        id="1" * 16,
        name="blue",
        driver="overlay",
        subnets=(subnet,),
        gateways=(gateway,),
        seeds=(ETCD,),
    )


NETWORK = network_of(SUBNET)
IDS = tuple(f"{number:032x}" for number in (1, 2, 3))
STEPS = 60
# In the last ones a block comes back to its giver, and one is on when an answer about it comes.
SEEDS = (*range(300), 2949, 3895)


class Host:
    """`later` is the second half of what it is at: etcd has been asked, or its disk written."""

    def __init__(self, member: str) -> None:
        self.member = member
        self.ledger = self.disk = ledgers.begin(NETWORK, member, Epoch())
        self.alive = True
        self.fenced = False  # by others; it has not looked since
        self.given = 0
        self.life = 0
        self.later: Callable[[], None] | None = None

    def write(self, ledger: Ledger) -> None:
        self.ledger = self.disk = ledger


class World:
    """One schedule, from a seed. What is at hand is done in the order that `netd.engine.blocks`
    does it; each half of a step may be a host's last.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.etcd = Allotment()
        self.hosts = [Host(member) for member in IDS]
        self.mail: list[Callable[[], None]] = []

    def run(self) -> int:
        """Go through a schedule; how many addresses were moved between hosts."""
        moved = 0
        for _ in range(STEPS):
            host = self.random.choice(self.hosts)
            if host.later is not None and self.random.random() < 0.7:
                later, host.later = host.later, None
                later()
            elif host.alive and host.later is None:
                self.begin(host)
            elif not host.alive:
                host.alive, host.ledger = True, host.disk
            if self.mail and self.random.random() < 0.5:
                self.mail.pop(self.random.randrange(len(self.mail)))()
            if host.alive and self.random.random() < 0.08:
                host.alive, host.later = False, None
                host.life += 1
                host.given = 0
            self.check()
            moved += sum(len(host.disk.donations) for host in self.hosts)
        return moved

    def begin(self, host: Host) -> None:
        match self.random.choice(["take", "take", "look", "address", "ask", "ask", "free"]):
            case "take":
                own = ledgers.accounted(host.ledger)
                self.step(host, lambda e: allotments.take(e, NETWORK, host.member, SUBNET, own))
            case "look":
                self.step(host, lambda etcd: etcd)
            case "address":
                wanted = ip_address(f"10.0.0.{self.random.randrange(16)}")
                self.step(host, lambda e: allotments.take_address(e, NETWORK, host.member, wanted))
            case "ask":
                self.ask(host, self.random.choice([one for one in self.hosts if one is not host]))
            case _:
                dead = [one for one in self.hosts if not one.alive]
                if dead:
                    gone = self.random.choice(dead)
                    name = f"{self.random.random()}"
                    self.step(host, lambda e: allotments.free(e, [gone.member], name))
                    gone.fenced = True

    def step(self, host: Host, change: Callable[[Allotment], Allotment]) -> None:
        self.etcd = known = change(self.etcd)

        def later() -> None:
            host.write(ledgers.follow(host.ledger, known))
            host.fenced = False

        host.later = later

    def ask(self, host: Host, donor: Host) -> None:
        ledger, request = ledgers.request(host.ledger, donor.member, SUBNET)
        host.write(ledger)
        ask = ledgers.ask(ledger, request)
        life, given = host.life, host.given
        self.mail.append(lambda: self.asked(host, life, given, donor, ask))

    def asked(self, host: Host, life: int, given: int, donor: Host, ask: Ask) -> None:
        if not donor.alive or donor.later is not None:
            return
        ledger, answer = ledgers.donate(
            donor.ledger, host.member, ask, used=NOWHERE, held=reserved_in(NETWORK)
        )
        donor.write(ledger)
        if not isinstance(answer, Given):
            return
        donor.given += 1

        def later() -> None:
            self.etcd = allotments.hand_over(self.etcd, donor.member, host.member, answer.prefix)
            if not Space.of([answer.prefix]) - allotments.owned_by(self.etcd, [host.member]):
                self.mail.append(lambda: self.answered(host, life, given, ask, answer))

        donor.later = later

    def answered(self, host: Host, life: int, given: int, ask: Ask, answer: Given) -> None:
        late = host.life != life or host.given != given or host.later is not None
        if host.alive and not late and answer.epoch <= host.ledger.epoch:
            host.write(ledgers.receive_moved(host.ledger, ask.number, answer))

    def check(self) -> None:
        owned = [ledgers.owned(host.disk) for host in self.hosts if not host.fenced]
        assert disjoint(owned), owned
        for host in self.hosts:
            if not host.fenced:
                left = ledgers.owned(host.disk) - allotments.owned_by(self.etcd, [host.member])
                assert not left, (host.member, left)


def test_no_address_has_two_owners_in_any_schedule() -> None:
    moved = 0
    for seed in SEEDS:
        world = World(seed)
        try:
            moved += world.run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert moved > len(SEEDS)


def taken(subnet: str, hosts: int = 1) -> list[Space]:
    """What hosts have who take a block in turn until there is none."""
    network = network_of(subnet)
    known, before = Allotment(), None
    members = [f"{number:032x}" for number in range(hosts)]
    while known != before:
        before = known
        for member in members:
            own = allotments.owned_by(known, [member])
            known = allotments.take(known, network, member, subnet, own)
    return [allotments.owned_by(known, [member]) for member in members]


def test_all_addresses_are_given_and_each_once() -> None:
    assert taken("10.0.0.0/26")[0].size == 61, "but for the gateway and the subnet's own"
    shares = taken("10.0.0.0/24", hosts=3)
    assert disjoint(shares)
    assert sum(space.size for space in shares) == 253
    assert all(space.size > 70 for space in shares)


def test_blocks_are_small_parts_of_their_subnet() -> None:
    for subnet, size in (
        ("10.0.0.0/28", 4),
        ("10.0.0.0/24", 4),
        ("10.0.0.0/20", 64),
        ("10.0.0.0/12", 256),
        ("fd00::/64", 1 << 48),
    ):
        network = network_of(subnet)
        known = allotments.take(Allotment(), network, IDS[0], subnet, NOWHERE)
        assert allotments.owned_by(known, IDS).size == size, subnet


def test_what_is_owned_already_is_found_before_more_is_taken() -> None:
    known = allotments.take(Allotment(), NETWORK, IDS[0], SUBNET, NOWHERE)
    assert allotments.take(known, NETWORK, IDS[0], SUBNET, NOWHERE) == known
    own = allotments.owned_by(known, IDS)
    assert allotments.take(known, NETWORK, IDS[0], SUBNET, own) != known
    gateway = ip_address("10.0.0.1")
    assert allotments.take_address(known, NETWORK, IDS[1], gateway) == known


def test_dead_hosts_have_nothing_and_know_it_when_they_look() -> None:
    known = allotments.take(Allotment(), NETWORK, IDS[0], SUBNET, NOWHERE)
    ledger = ledgers.follow(ledgers.begin(NETWORK, IDS[0], Epoch()), known)
    assert ledgers.owned(ledger).size == 4
    known = allotments.free(known, [IDS[0]], "x")
    ledger = ledgers.follow(ledger, known)
    assert (ledgers.owned(ledger), ledger.epoch.number) == (NOWHERE, 1)
