"""Consul's HTTP API: the one catalogue and the one set of keys, as its clients know them."""
