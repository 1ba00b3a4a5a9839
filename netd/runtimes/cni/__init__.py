"""The CNI plugin: an executable that turns each call into calls of the daemon's socket.

A runtime starts it for each container, so what counts is how soon an interpreter has done with
it: it is standard library only, and of that only what costs no time to import.
"""
