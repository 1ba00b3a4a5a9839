"""Docker's network driver and IPAM driver `netd`: the plugin protocol on a socket of its own.

Sources: libnetwork's docs/remote.md and docs/ipam.md, and the types in drivers/remote/api and
ipams/remote/api of the Docker Engine.
"""
