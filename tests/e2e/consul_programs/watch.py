"""The healthy instances of a service, a line whenever they change: NAME.

Each line begins with how often Consul has answered, so that needless answers are seen.
"""

import sys

import consul

client = consul.Consul()
index, answers, before = None, 0, None
while True:
    index, rows = client.health.service(sys.argv[1], index=index, wait="30s", passing=True)
    answers += 1
    found = sorted(row["Service"]["ID"] for row in rows)
    if found != before:
        print(answers, *found, flush=True)
    before = found
