"""Networks that span hosts: which there are, what of them this host has, who is on the others."""
