"""What the programs that runtimes start share: calls of the daemon, JSON, and what is left undone.

A container waits for each of them, so this is standard library only, and of that only what costs
no time to import.
"""
