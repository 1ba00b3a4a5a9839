"""Watches a service and a key at once, by asyncio: SERVICE KEY. A line for each answer."""

import asyncio
import sys

import consul.aio


async def watch_service(client: consul.aio.Consul, name: str) -> None:
    index = None
    while True:
        index, rows = await client.health.service(name, index=index, wait="30s", passing=True)
        print("service", *sorted(row["Service"]["ID"] for row in rows), flush=True)


async def watch_key(client: consul.aio.Consul, key: str) -> None:
    index = None
    while True:
        index, entry = await client.kv.get(key, index=index, wait="30s")
        print("key", *([entry["Value"].decode()] if entry else []), flush=True)


async def main(service: str, key: str) -> None:
    client = consul.aio.Consul()
    await asyncio.gather(watch_service(client, service), watch_key(client, key))


asyncio.run(main(*sys.argv[1:]))
