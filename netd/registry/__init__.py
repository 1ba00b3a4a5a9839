"""The registry: answers names and runs health checks, in a process of its own."""
