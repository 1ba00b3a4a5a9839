"""`netd` as a network driver of Podman: a plugin of netavark (plugin API 1.0.0).

netavark starts it for each call, inside its own lock: all of Podman waits for it meanwhile.
"""
