"""Configuration, wiring and the entry point of the daemon."""
