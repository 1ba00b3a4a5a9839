"""Calls about keys, sessions and locks. Values are bytes; JSON has them in base64."""

from __future__ import annotations

import base64

from netd.client.targets import path, query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from netd.client.client import Lines

    Object = dict[str, Any]


class KeyCalls:
    """What `Client.kv` is: the keys of the whole cluster. See API.md for what is answered.

    With an `index`, a read waits up to `wait_s` (15 at most) until its index is larger.
    """

    def __init__(
        self,
        call: Callable[..., Object],
        change: Callable[[str, str], bytes],
        lines: Callable[[str], Lines],
    ) -> None:
        self._call = call
        self._change = change
        self._lines = lines

    def get(self, key: str, index: int = 0, wait_s: float = 0.0) -> Object:
        """`index` and `entry`, whose `value` is bytes; None when there is no such key."""
        asked = query(_wait(index, wait_s))
        reading = self._call("GET", path("/v1/kv", key) + asked)
        if reading["entry"] is not None:
            reading["entry"] = _read(reading["entry"])
        return reading

    def entries(self, prefix: str = "", index: int = 0, wait_s: float = 0.0) -> Object:
        """`index` and `entries`, those whose keys begin with `prefix`."""
        asked = query({"prefix": prefix, **_wait(index, wait_s)})
        listing = self._call("GET", "/v1/kv" + asked)
        return {**listing, "entries": [_read(entry) for entry in listing["entries"]]}

    def names(
        self, prefix: str = "", separator: str = "", index: int = 0, wait_s: float = 0.0
    ) -> Object:
        """`index` and `keys`, each up to the first separator after `prefix`."""
        asked = {"prefix": prefix, "names": "1", "separator": separator, **_wait(index, wait_s)}
        return self._call("GET", "/v1/kv" + query(asked))

    def put(self, key: str, value: bytes = b"", **fields: Any) -> bool:
        """Whether it was written: `flags`, and one of `cas`, `acquire` and `release`."""
        asked = {"value": base64.b64encode(value).decode(), **fields}
        # Made twice, one with a condition could be answered with no although it was made.
        done: bool = self._call("PUT", path("/v1/kv", key), asked, once=True)["done"]
        return done

    def delete(self, key: str, cas: int | None = None) -> bool:
        asked = query({"cas": cas})
        done: bool = self._call("DELETE", path("/v1/kv", key) + asked, once=True)["done"]
        return done

    def delete_tree(self, prefix: str) -> None:
        """Delete all keys that begin with `prefix`."""
        self._call("DELETE", "/v1/kv" + query({"prefix": prefix}))

    def transact(self, *operations: Object) -> Object:
        """Operations, each with `verb`, `key` and what it needs; `value` is bytes."""
        asked = [
            {**step, "value": base64.b64encode(step["value"]).decode()} if "value" in step else step
            for step in operations
        ]
        outcome = self._call("POST", "/v1/transactions", {"operations": asked})
        return {**outcome, "results": [_read(entry) for entry in outcome["results"]]}

    def changes(self) -> Lines:
        """Which keys change, as they do."""
        return self._lines("/v1/kv-changes")

    def create_session(self, **spec: Any) -> Object:
        return self._call("POST", "/v1/sessions", spec)

    def renew_session(self, session_id: str) -> Object:
        return self._call("POST", path("/v1/sessions", session_id, "renew"))

    def destroy_session(self, session_id: str) -> None:
        self._change("DELETE", path("/v1/sessions", session_id))

    def session(self, session_id: str) -> Object:
        return self._call("GET", path("/v1/sessions", session_id))

    def sessions(self, node: str = "") -> list[Object]:
        """Those of a node, "": all."""
        asked = query({"node": node})
        found: list[Object] = self._call("GET", "/v1/sessions" + asked)["sessions"]
        return found

    def status(self) -> Object:
        """Who holds the keys."""
        return self._call("GET", "/v1/kv-holder")

    def move(self, node: str, abandon: bool = False) -> Object:
        """Have another host hold the keys, or, where they are lost, begin without any."""
        return self._call("POST", "/v1/kv-holder", {"node": node, "abandon": abandon})


def _wait(index: int, wait_s: float) -> Object:
    return {"index": index, "wait_s": wait_s} if index else {}


def _read(entry: Object) -> Object:
    return {**entry, "value": base64.b64decode(entry["value"])}
