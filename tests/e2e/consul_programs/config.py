"""Configuration in keys: `put KEY VALUE`, `get KEY`, `add KEY N` by compare-and-set, `ls PREFIX`,
`rm PREFIX`, and `watch KEY`, which says each value that the key gets.
"""

import sys

import consul

verb, key, *rest = sys.argv[1:]
keys = consul.Consul().kv
if verb == "put":
    print(keys.put(key, rest[0]))
elif verb == "get":
    print((keys.get(key)[1] or {}).get("Value"))
elif verb == "add":
    while True:
        _, entry = keys.get(key)
        value = int(entry["Value"]) if entry else 0
        if keys.put(key, str(value + int(rest[0])), cas=entry["ModifyIndex"] if entry else 0):
            break
elif verb == "ls":
    print(*(keys.get(key, keys=True)[1] or ()))
elif verb == "rm":
    print(keys.delete(key, recurse=True))
else:
    index = None
    while True:
        index, entry = keys.get(key, index=index, wait="30s")
        print(entry and entry["Value"].decode(), flush=True)
