"""Bodies of calls: JSON objects whose keys may be written in several ways."""

from typing import Any, Final

import msgspec

from netd.registry.consul.durations import seconds_of
from netd.registry.http.call import Failure

DEPTH_MAX: Final = 64
_SHOWN: Final = 80


class Fields:
    """An object by its keys in lower case without "_": `ServiceID`, `service_id` and `serviceid`
    are one. `null` is the same as nothing. All raise `Failure` 400 for a value of another kind.
    """

    def __init__(self, value: Any, what: str = "body") -> None:
        if not isinstance(value, dict):
            raise _wrong(what, "an object")
        self._values: dict[str, Any] = {}
        for key, found in value.items():
            if found is not None:
                self._values[key.lower().replace("_", "")] = found

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __bool__(self) -> bool:
        return bool(self._values)

    def raw(self, name: str) -> Any:
        return self._values.get(name)

    def text(self, name: str, default: str = "") -> str:
        value = self._values.get(name, default)
        if not isinstance(value, str):
            raise _wrong(name, "a string")
        return value

    def number(self, name: str, default: int = 0) -> int:
        value = self._values.get(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(name, "a number")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise _wrong(name, "true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._values.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise _wrong(name, "a list of strings")
        return tuple(value)

    def mapping(self, name: str) -> dict[str, str]:
        value = self._values.get(name, {})
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise _wrong(name, "an object of strings")
        return dict(value)

    def object(self, name: str) -> dict[str, Any]:
        value = self._values.get(name, {})
        if not isinstance(value, dict):
            raise _wrong(name, "an object")
        return value

    def list(self, name: str) -> list[Any]:
        value = self._values.get(name, [])
        if not isinstance(value, list):
            raise _wrong(name, "a list")
        return value

    def fields(self, name: str) -> "Fields | None":
        value = self._values.get(name)
        return None if value is None else Fields(value, name)

    def duration_s(self, name: str) -> float | None:
        """Text as Go writes it, or nanoseconds. None: there is none, or it is 0."""
        value = self._values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, str):
            try:
                return seconds_of(value) or None
            except ValueError as error:
                raise Failure(400, f"Request decode failed: {name}: {error}") from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(name, "a duration")
        return value / 1e9 or None


def decoded(body: bytes) -> Fields:
    """Raises `Failure` 400."""
    try:
        return Fields(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(400, f"Request decode failed: {str(error)[:_SHOWN]}") from None


def _wrong(name: str, wanted: str) -> Failure:
    return Failure(400, f"Request decode failed: {name[:_SHOWN]} is not {wanted}")
