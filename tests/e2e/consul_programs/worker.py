"""A service that says itself that it lives, within two seconds: NAME ID PORT [ADDRESS].

Lines of its input are `pass`, `warn`, `fail`, each answered by `ok`, and `silent`: it says nothing
more until the next one.
"""

import select
import sys

import consul

name, ident, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
address = sys.argv[4] if len(sys.argv) > 4 else None
client = consul.Consul()
client.agent.service.register(
    name, service_id=ident, address=address, port=port, check=consul.Check.ttl("2s")
)
check = f"service:{ident}"
say = {
    "pass": client.agent.check.ttl_pass,
    "warn": client.agent.check.ttl_warn,
    "fail": client.agent.check.ttl_fail,
}
word = "pass"
say[word](check, "it works")
print("registered", flush=True)
while True:
    if not select.select([sys.stdin], [], [], 0.5)[0]:
        if word in say:
            say[word](check, "it works")
        continue
    word = sys.stdin.readline().strip()
    if not word:
        break
    if word in say:
        say[word](check, f"it was told to {word}")
    print("ok", flush=True)
