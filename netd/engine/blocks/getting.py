"""How this host gets addresses from others."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from netd.engine.blocks import questions
from netd.engine.blocks.books import Books
from netd.engine.blocks.owners import Owner, Owners
from netd.engine.interfaces import Cluster
from netd.locks import KeyedLocks
from netd.model.blocks import Given, Ledger, Refused
from netd.model.errors import Conflict, Exhausted, NetdError, Unavailable
from netd.model.network import Network
from netd.model.overlay import ETCD
from netd.plan import ledger as ledgers
from netd.plan.addresses import IPAddress
from netd.plan.space import Space

DONORS_MAX: Final = 6  # that are asked for one block
ASKING_S: Final = 7.0  # after that no other is asked: a caller of the API waits for 20 s at most
NEWS_S: Final = 1.0  # how long who owns an address may be unclear, after it was given away

log = logging.getLogger(__name__)


class Getting:
    def __init__(self, cluster: Cluster, books: Books, owners: Owners) -> None:
        self._cluster = cluster
        self._books = books
        self._owners = owners
        self._locks: KeyedLocks[str] = KeyedLocks()
        self._silent: set[tuple[str, str]] = set()  # (network, member) without its last answer

    async def block(self, network: Network, subnet: str) -> bool:
        """Get a block of a subnet; whether there is one now. Of calls at the same time one asks.

        Raises `Unavailable` when this host's store cannot be written.
        """
        before = self._books.owned(network.id)
        async with self._locks.hold(network.id + subnet):
            whole = Space.of([subnet])
            if (self._books.owned(network.id) - before) & whole:
                return True
            owners = self._owners.owners(network, self._books.owned(network.id), whole)
            donors = [*self._open(network, subnet), *(owner.member for owner in owners)]
            # What is known may be out of date: any other may have some, too.
            donors += self._owners.alive(network)
            alive = [member for member in dict.fromkeys(donors) if self._owners.is_alive(member)]
            until_s = asyncio.get_running_loop().time() + ASKING_S
            for member in alive[:DONORS_MAX]:
                if asyncio.get_running_loop().time() > until_s:
                    break
                await self.ask(network, member, subnet)
                got = (self._books.owned(network.id) - before) & whole
                if got:
                    log.info("network %s: %s from %s", network.name, got, member)
                    return True
            return False

    async def address(self, network: Network, subnet: str, address: IPAddress) -> None:
        """Get one address. Raises `Conflict` (in use elsewhere), `Unavailable`."""
        for donor in self._open(network, subnet, str(address)):
            if self._owners.is_alive(donor):
                await self.ask(network, donor, subnet, str(address))
        for last in (False, True):
            if address in self._books.owned(network.id):
                return
            news = asyncio.ensure_future(self._owners.news())
            try:
                holder = self._owners.holder(network, address)
                if holder is not None and not self._owners.is_alive(holder):
                    raise Unavailable(
                        f"{address} is owned by host {self._owners.name(holder)}, which is not "
                        "reachable; take another address, or let netd choose one",
                        field="addresses",
                    )
                if holder is not None:
                    await self._address_of(network, subnet, address, holder)
                if address in self._books.owned(network.id):
                    return
                if not last:
                    await asyncio.wait([news], timeout=NEWS_S)
            finally:
                news.cancel()
        raise Unavailable(
            f"which host owns {address} is not known just now; try again, or take another address",
            field="addresses",
        )

    def _open(self, network: Network, subnet: str, wanted: str = "") -> list[str]:
        """Whom that has been asked of before, without an answer: they may have given it."""
        ledger = self._books.find(network.id)
        requests = ledger.requests if ledger is not None else ()
        return [r.donor for r in requests if (r.subnet, r.wanted) == (subnet, wanted)]

    async def _address_of(
        self, network: Network, subnet: str, address: IPAddress, holder: str
    ) -> None:
        answer = await self.ask(network, holder, subnet, str(address))
        name = self._owners.name(holder)
        if answer is None:
            raise Unavailable(
                f"{address} is owned by host {name}, which does not answer; try again, or take "
                "another address",
                field="addresses",
            )
        if isinstance(answer, Refused) and answer.why == "held":
            raise Conflict(f"{address} is in use on host {name}", field="addresses")

    async def ask(
        self, network: Network, donor: str, subnet: str, wanted: str = ""
    ) -> Given | Refused | None:
        """Ask a host for addresses and take what it gives; None when it does not answer.

        Then the request stays open, and is made again when the host is there. Raises
        `Unavailable` when this host's store cannot be written.
        """

        def open_request(ledger: Ledger) -> tuple[Ledger, tuple[int, questions.Question]]:
            ledger, request = ledgers.request(ledger, donor, subnet, wanted)
            return ledger, (request.number, ledgers.ask(ledger, request))

        number, question = await self._books.change(network.id, open_request)
        given = self._books.given[network.id]
        try:
            answer = await questions.put(self._cluster, donor, question)
        except NetdError as error:
            log.info("network %s: %s: %s", network.name, donor, error.detail)
            self._silent.add((network.id, donor))
            return None
        self._silent.discard((network.id, donor))
        if not isinstance(answer, Given | Refused):
            return None
        try:
            taken = await self._receive(network, number, answer, given)
        except ValueError as error:
            log.warning("network %s: %s gives no block: %s", network.name, donor, error)
            return None
        return answer if taken else None

    async def _receive(
        self, network: Network, number: int, answer: Given | Refused, given: int
    ) -> bool:
        """Take an answer; whether it could be.

        Where addresses are in etcd, the block is this host's there by now. So it may be known
        from there and be another's again, if any went since the question (`given`); and of a later
        epoch etcd says first what this host has left. Then the question is asked again.
        """
        async with self._books.moving.hold(network.id):
            receive = ledgers.receive
            if ETCD in network.seeds:
                receive = ledgers.receive_moved
                gone = given != self._books.given[network.id]
                if gone or answer.epoch > self._books.epoch(network.id):
                    return False
            await self._books.go_on(network.id, lambda ledger: receive(ledger, number, answer))
            return True

    async def ask_again(self, network: Network, donor: str) -> None:
        """Make requests again that a host has not answered."""
        ledger = self._books.find(network.id)
        for request in ledger.requests if ledger is not None else ():
            if request.donor == donor:
                await self.ask(network, donor, request.subnet, request.wanted)

    def exhausted(self, network: Network, subnet: str) -> Exhausted:
        """Why there is no address, and what would help."""
        whole = Space.of([subnet])
        own = self._books.owned(network.id)
        owners = self._owners.owners(network, own, whole)
        away = [owner for owner in owners if not self._owners.is_alive(owner.member)]
        # Those that were cut off a moment ago are not known to be away yet.
        silent = [o for o in owners if o not in away and (network.id, o.member) in self._silent]
        there = sum(o.space.size for o in owners if o not in away and o not in silent)
        mine = (own & whole).size
        has = f"all of the {mine} addresses of {subnet} that this host owns are in use"
        if not mine:
            has = f"this host owns no addresses of {subnet}"
        text = f"network {network.name!r}: {has}"
        if there:
            text += f"; the reachable hosts own {there}, and have none to spare"
        if silent:
            text += f"; hosts that were asked did not answer: {self._named(silent)}"
        if away:
            text += f"; hosts that are not reachable own the rest: {self._named(away)}"
        text += ". What helps: detach containers, or use another network with a larger subnet"
        if silent:
            text += "; try again in a moment, and see what `netctl doctor` says of those hosts"
        if away:
            first = self._owners.name(away[0].member)
            text += (
                "; make those hosts reachable again; or, for hosts that are gone for good: "
                f"netctl network reclaim {network.name} {first}"
            )
        return Exhausted(text)

    def _named(self, owners: Sequence[Owner]) -> str:
        """Some of them, each with how many addresses it owns."""
        names = [f"{self._owners.name(o.member)} ({o.space.size})" for o in owners[:5]]
        names += [f"{len(owners) - 5} more"] * (len(owners) > 5)
        return ", ".join(names)
