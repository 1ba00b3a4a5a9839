"""Membership and the replicated log, without I/O: bytes, time and randomness in; datagrams, calls,
events and the time of the next timer out. `ALGORITHM.md` states the protocol and its invariants.
"""
