"""Use cases and the reconciler. Talks to kernel, store and clock through interfaces."""
