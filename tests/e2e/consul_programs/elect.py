"""One of those who want to lead: KEY NAME. It says `leads` once it does, else `follows WHOM`.

It leads until it is told anything or ends; what it was told it answers with `left`.
"""

import select
import sys

import consul

key, name = sys.argv[1:]
client = consul.Consul()
session = client.session.create(name, ttl=10, lock_delay=0)
print("session", session, flush=True)
index, before = None, ""
while True:
    if client.kv.put(key, name, acquire=session):
        break
    index, entry = client.kv.get(key, index=index, wait="3s")
    leader = entry["Value"].decode() if entry and entry.get("Session") else ""
    if leader != before:
        print("follows", leader or "nobody", flush=True)
    before = leader
    client.session.renew(session)
print("leads", flush=True)
while not select.select([sys.stdin], [], [], 2)[0]:
    client.session.renew(session)
client.kv.put(key, "", release=session)
client.session.destroy(session)
print("left", flush=True)
