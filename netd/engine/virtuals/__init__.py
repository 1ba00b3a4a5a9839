"""Virtual addresses of services: which there are, and what of them is in this host's kernel."""
