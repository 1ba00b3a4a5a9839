"""The real protocol cores on a virtual clock and a fake network, every run from one seed.

`scenarios/` say what happens to a cluster, in the words of `cluster.py` (operations), `network.py`
(faults) and `expect.py` (what has to be so). `invariants/` are checked throughout by `watch.py`.
`python -m tests.sim SCENARIO --seed N` replays one run.
"""
