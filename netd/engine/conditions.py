"""Conditions of objects, by object id; "host" is for what concerns the host as a whole."""

from netd.engine.events import EventLog
from netd.model.condition import Condition


class Conditions:
    """Current conditions. Each appearance and disappearance is an event."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._of: dict[str, dict[str, Condition]] = {}

    def of(self, about: str) -> tuple[Condition, ...]:
        return tuple(self._of.get(about, {}).values())

    def replace(self, about: str, source: str, conditions: list[Condition]) -> None:
        """Set the conditions that `source` (a code prefix) finds on an object, drop its old."""
        old = self._of.get(about, {})
        new = {condition.code: condition for condition in conditions}
        kept = {code: c for code, c in old.items() if not code.startswith(source)}
        for code, condition in new.items():
            known = old.get(code)
            if known is not None and known.detail == condition.detail:
                kept[code] = known  # keeps `since`
            else:
                kept[code] = condition
                self._events.emit("condition.set", about=about, name=code, detail=condition.detail)
        for code in old.keys() - kept.keys():
            self._events.emit("condition.cleared", about=about, name=code)
        if kept:
            self._of[about] = kept
        else:
            self._of.pop(about, None)

    def forget(self, about: str) -> None:
        """The object is gone and so are its conditions."""
        self._of.pop(about, None)

    def having(self, source: str) -> set[str]:
        """The objects with a condition that `source` set."""
        return {
            about
            for about, conditions in self._of.items()
            if any(code.startswith(source) for code in conditions)
        }
