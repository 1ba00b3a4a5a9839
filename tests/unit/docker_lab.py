"""A Docker Engine as far as its plugins see it: the calls, in the order in which it makes them."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import aiohttp

from netd.api.auth import Authority
from netd.api.listening import Listener, listen
from netd.runtimes.docker.server import DockerPlugin
from tests.unit.engine_fixture import Host

NETWORK_ID = "a1" * 32


class Refused(Exception):
    """The plugin's answer is an error; the text is what users of the engine read."""


class FakeEngine:
    """Talks to a plugin over its socket."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.path = folder / "plugins/netd.sock"
        self.plugin: DockerPlugin
        self._listener: Listener
        self._endpoints = 0

    async def start(self, **more: Any) -> None:
        self.plugin = DockerPlugin(self.host.engine, **more)
        self._listener = listen(self.path, Authority(), 0o600)
        await self.plugin.serve(self._listener.sock)

    async def stop(self) -> None:
        await self.plugin.stop()
        self._listener.close()

    async def post(self, name: str, body: bytes) -> tuple[int, dict[str, Any]]:
        connector = aiohttp.UnixConnector(path=str(self.path))
        headers = {"Accept": "application/vnd.docker.plugins.v1.2+json"}
        async with (
            asyncio.timeout(10),
            aiohttp.ClientSession(connector=connector) as session,
            session.post(
                f"http://plugin.moby.localhost/{name}", data=io.BytesIO(body), headers=headers
            ) as got,
        ):
            return got.status, json.loads(await got.read())

    async def call(self, name: str, **body: Any) -> dict[str, Any]:
        """The answer, read as the engine reads it. Raises `Refused`."""
        status, answer = await self.post(name, json.dumps(body).encode() if body else b"")
        if status != 200:
            assert answer["Err"] == answer["Error"] != ""
            raise Refused(answer["Err"])
        return answer

    async def driver(self, name: str, **body: Any) -> dict[str, Any]:
        return await self.call(f"NetworkDriver.{name}", **body)

    async def ipam(self, name: str, **body: Any) -> dict[str, Any]:
        return await self.call(f"IpamDriver.{name}", **body)

    # What users do

    async def create_network(
        self,
        *,
        subnet: str = "",
        gateway: str = "",
        span: str = "",
        ipv6: bool = False,
        internal: bool = False,
        options: dict[str, str] | None = None,
        aux: dict[str, str] | None = None,
        network_id: str = NETWORK_ID,
    ) -> str:
        """`docker network create -d netd --ipam-driver netd`; returns the pool's id."""
        pools = []
        for v6 in (False, True) if ipv6 else (False,):
            asked = "" if v6 else subnet
            pool = await self.ipam(
                "RequestPool", AddressSpace="netd", Pool=asked, SubPool=span, Options=None, V6=v6
            )
            first = await self.ipam(
                "RequestAddress",
                PoolID=pool["PoolID"],
                Address="" if v6 else gateway,
                Options={"RequestAddressType": "com.docker.network.gateway"},
            )
            for address in (aux or {}).values():
                await self.ipam("RequestAddress", PoolID=pool["PoolID"], Address=address)
            prefix = pool["Pool"].partition("/")[2]
            pools.append(
                {
                    "AddressSpace": "netd",
                    "Pool": pool["Pool"],
                    "Gateway": first["Address"],
                    "AuxAddresses": {k: f"{v}/{prefix}" for k, v in (aux or {}).items()} or None,
                }
                | {"PoolID": pool["PoolID"]}
            )
        generic: dict[str, Any] = {"com.docker.network.generic": options or {}}
        generic |= {"com.docker.network.enable_ipv6": ipv6}
        if internal:
            generic["com.docker.network.internal"] = True
        await self.driver(
            "CreateNetwork",
            NetworkID=network_id,
            Options=generic,
            IPv4Data=pools[:1],
            IPv6Data=pools[1:] or None,
        )
        return str(pools[0]["PoolID"])

    async def run(
        self, pool_id: str, *, address: str = "", mac: str = "", options: Any = None
    ) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """`docker run`: the endpoint's id, its interface, and what Join has answered."""
        self._endpoints += 1
        endpoint_id = f"{self._endpoints:064x}"
        given = await self.ipam("RequestAddress", PoolID=pool_id, Address=address, Options={})
        key = {"NetworkID": NETWORK_ID, "EndpointID": endpoint_id}
        interface = {"Address": given["Address"], "AddressIPv6": "", "MacAddress": mac}
        made = await self.driver("CreateEndpoint", **key, Interface=interface, Options=options)
        assert "Address" not in made["Interface"]
        interface |= made["Interface"]
        joined = await self.driver(
            "Join", **key, SandboxKey="/var/run/docker/netns/0123456789ab", Options=options
        )
        return endpoint_id, interface, joined

    async def remove(self, pool_id: str, endpoint_id: str, address: str) -> None:
        """The end of a container."""
        key = {"NetworkID": NETWORK_ID, "EndpointID": endpoint_id}
        for name in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
            await self.driver(name, **key)
        await self.ipam("ReleaseAddress", PoolID=pool_id, Address=address.partition("/")[0])
