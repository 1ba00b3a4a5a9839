"""Keys, sessions and locks in a cluster of etcd v3, by its JSON gateway."""
