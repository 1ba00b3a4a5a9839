"""The only code that touches Linux: netlink, namespaces, nftables, sysctls, sockets."""
