"""Names: what each of them means, to whom. Pure.

`directory.Directory` is made of the entries that the daemon tells (netd/model/directory.py) and
answers questions; the daemon and its registry use the same one.
"""
