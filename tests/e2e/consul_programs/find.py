"""Where the healthy instances of a service are: NAME. One line, `address:port` of each."""

import sys

import consul

_, rows = consul.Consul().health.service(sys.argv[1], passing=True)
places = (
    (row["Service"]["Address"] or row["Node"]["Address"], row["Service"]["Port"]) for row in rows
)
print(" ".join(sorted(f"{address}:{port}" for address, port in places)))
