"""The cluster of hosts: the driver of the protocol core, on UDP, TLS and the state folder."""
