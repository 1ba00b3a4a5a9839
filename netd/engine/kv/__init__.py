"""Keys, sessions and locks: who holds them, and how all hosts get at them."""

from netd.engine.kv.cases import KeyCases
from netd.engine.kv.keys import Keys
from netd.engine.kv.opening import MakeKeys, open_keys

__all__ = ["KeyCases", "Keys", "MakeKeys", "open_keys"]
