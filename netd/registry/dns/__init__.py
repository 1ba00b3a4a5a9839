"""DNS on UDP and TCP."""
