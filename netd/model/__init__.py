"""Values and errors of netd's domain. Pure: no I/O, no clock, no randomness."""
