"""Engines in one cluster, whose networks gossip decides on, or etcd."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from netd.etcd.gateway import Gateway, Json
from netd.etcd.networks import EtcdNetworks
from netd.model.errors import Unavailable
from netd.model.network import Network
from netd.plan.space import Space
from tests.contract.etcd_lab import Etcd
from tests.unit.engine_fixture import Host
from tests.unit.memory_cluster import Mesh


class Line(Gateway):
    """A host's way to etcd. `cut`: nothing gets through; `deaf`: so many answers are lost."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(urls)
        self.cut = False
        self.deaf = 0

    async def _call(self, url: str, path: str, body: Json) -> Json:
        if self.cut:
            raise Unavailable(f"{url} does not answer")
        answer = await super()._call(url, path, body)
        if self.deaf and path.endswith("txn"):
            self.deaf -= 1
            raise Unavailable(f"{url} does not answer")
        return answer


class World:
    """Three hosts. With `etcd` they agree there, each by its line, else by gossip."""

    def __init__(self, folder: Path, etcd: Etcd | None) -> None:
        self.folder = folder
        self.mesh = Mesh()
        self.etcd = etcd
        self.hosts: list[Host] = []
        self.lines: dict[str, Line] = {}

    async def add(self) -> Host:
        number = len(self.hosts) + 1
        folder = self.folder / f"{number}"
        folder.mkdir()
        host = Host(folder, self.mesh, node=f"node-{number}", node_id=str(number) * 32)
        if self.etcd is not None:
            host.make_authority = self._authority_of(host, self.etcd.urls)
        self.hosts.append(host)
        await self.start(host)
        return host

    def _authority_of(self, host: Host, urls: Sequence[str]) -> Callable[[], EtcdNetworks]:
        def make() -> EtcdNetworks:
            cut = host.node_id in self.lines and self.line(host).cut
            self.lines[host.node_id] = line = Line(urls)
            line.cut = cut
            return EtcdNetworks(line)

        return make

    async def start(self, host: Host) -> None:
        await host.start()
        host.cluster.bound = True
        for peer in self.hosts:
            if peer is not host and peer.cluster.shows_to(host.cluster):
                await host.engine.cluster.join([peer.cluster.address], None)
                return

    async def restart(self, host: Host) -> None:
        """Stop its daemon and start it again; the others see it dead meanwhile."""
        host.cluster.group.remove(host.cluster)
        await host.stop()
        host.kernel.process_ended()
        await self.start(host)

    async def dies(self, host: Host) -> None:
        """For good, as far as the others see."""
        host.cluster.becomes("dead")
        await host.stop()

    def line(self, host: Host) -> Line:
        return self.lines[host.node_id]

    def part(self, host: Host) -> None:
        """Cut a host off from all other hosts."""
        for other in self.hosts:
            if other is not host:
                self.mesh.cut(host.cluster, other.cluster)

    def heal(self, host: Host) -> None:
        for other in self.hosts:
            if other is not host:
                self.mesh.heal(host.cluster, other.cluster)

    async def stop(self) -> None:
        for host in self.hosts:
            await host.stop()


def has_copy(host: Host) -> bool:
    """Whether it knows the one network there is, whoever dies."""
    return len(host.engine._overlays._catalogue._decided) == 1


def ledger_of(host: Host, network: Network) -> Space:
    """What a host owns of a network."""
    return host.engine._blocks._books.owned(network.id)


async def in_etcd_of(world: World, network: Network) -> dict[str, Space]:
    """Who owns what, as etcd knows it, by node."""
    assert world.etcd is not None
    authority = EtcdNetworks(Gateway(world.etcd.urls))
    known = await authority.allot(network.name, network.id, lambda known: known)
    await authority.close()
    nodes = {host.node_id: host.settings.node for host in world.hosts}
    return {nodes[member]: Space.of(prefixes) for member, prefixes in known.owned.items()}


async def overlay(host: Host, name: str = "blue", **more: object) -> Network:
    return await host.network(name, "overlay", **more)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)
