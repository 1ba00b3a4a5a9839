"""What several hosts do together, on any kind of lab.

`NETD_TEST_LAB` says on which (`tests/lab/kinds.py`), `NETD_TEST_LAB_HOSTS` how many hosts it has.
Limits of time are at least ten times what is usual.
"""
