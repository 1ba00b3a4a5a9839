"""netd: a container-networking daemon for Linux hosts."""

__version__ = "0.1.0"
