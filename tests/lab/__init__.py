"""Labs: several hosts with netd, in one cluster. Scenarios do not know which kind of lab it is.

`lab.py` and `host.py` say what a lab and a host are, `namespaces.py` makes them on one machine.
What a host does is said by commands that run on it, so that it can be anywhere.
"""
