"""The service catalogue: instances of this host, and those that others tell of."""
