"""What a runtime asks for: environment and standard input, checked.

https://www.cni.dev/docs/spec/#section-2-execution-protocol
"""

from __future__ import annotations

from netd.runtimes.cni.failure import CONFIG, DECODING, ENVIRONMENT, UNSUPPORTED, VERSION, Failure
from netd.runtimes.shim import jsontext
from netd.runtimes.shim.daemon import DEFAULT_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

RUNTIME = "cni"  # on the labels of what ADDs have attached
VERSIONS = ("0.4.0", "1.0.0", "1.1.0")
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")

_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_SINCE_1_1 = ("GC", "STATUS")


class Call:
    """One call. `name` is the network's name in the runtime's configuration."""

    def __init__(self, environment: Mapping[str, str], config: dict[str, Any]) -> None:
        self.command = environment.get("CNI_COMMAND", "")
        self.container = environment.get("CNI_CONTAINERID", "")
        self.netns = environment.get("CNI_NETNS", "")
        self.asked_ifname = environment.get("CNI_IFNAME", "")
        self.raw_args = environment.get("CNI_ARGS", "")
        self.config = config
        self.version = str(config.get("cniVersion", ""))
        self.name = str(config.get("name") or "")
        self.socket = str(config.get("socket") or DEFAULT_SOCKET)

    @property
    def ifname(self) -> str:
        """The interface's name: the runtime's, unless the configuration has another."""
        return str(self.config.get("ifname") or self.asked_ifname)

    def check(self) -> None:
        """Raise `Failure` for what no call of its kind can have."""
        if self.version not in VERSIONS:
            raise Failure(
                VERSION,
                f"cniVersion {self.version!r} is not supported",
                f"supported are {', '.join(VERSIONS)}",
            )
        if self.command in _SINCE_1_1 and self.version != "1.1.0":
            raise Failure(VERSION, f"{self.command} is there since cniVersion 1.1.0")
        if not _is_word(self.name):
            raise Failure(
                CONFIG,
                f"name {self.name!r}: a network's name is letters, digits, '_', '.' and '-', "
                "beginning with a letter or digit",
            )
        self._check_environment()

    def _check_environment(self) -> None:
        values = {
            "CNI_CONTAINERID": self.container,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.asked_ifname,
        }
        required = _REQUIRED.get(self.command, ())
        if missing := [name for name in required if not values[name]]:
            raise Failure(ENVIRONMENT, f"{', '.join(missing)} must be set for {self.command}")
        if required and not _is_word(self.container):
            raise Failure(
                ENVIRONMENT,
                f"CNI_CONTAINERID {self.container!r} is not letters, digits, '_', '.' and '-', "
                "beginning with a letter or digit",
            )
        ifname = self.asked_ifname
        if required and (
            len(ifname.encode(errors="replace")) > 15
            or ifname in (".", "..")
            or any(char in "/:" or char.isspace() for char in ifname)
        ):
            raise Failure(ENVIRONMENT, f"CNI_IFNAME {ifname!r} is no name of an interface")

    def args(self) -> dict[str, str]:
        """CNI_ARGS: `KEY=VALUE;KEY=VALUE`. Raises `Failure`."""
        found: dict[str, str] = {}
        for pair in self.raw_args.split(";"):
            key, equals, value = pair.partition("=")
            if pair and (not key or not equals):
                raise Failure(ENVIRONMENT, f"CNI_ARGS: {pair!r} is not of the form KEY=VALUE")
            if pair:
                found[key] = value
        return found


def read(environment: Mapping[str, str], data: bytes) -> Call:
    """The call, not checked yet. Raises `Failure` when the input is not a JSON object."""
    if not data.strip():
        return Call(environment, {})
    try:
        config = jsontext.loads(data)
    except ValueError as error:
        raise Failure(DECODING, f"the configuration is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise Failure(DECODING, "the configuration is no JSON object")
    return Call(environment, config)


def pick(table: dict[str, Any], name: str) -> Any:
    """A field by its name, in whatever case it is written; None where there is none.

    What Go programs send without naming fields for JSON begins with a capital, as go-cni does.
    """
    if name in table:
        return table[name]
    folded = name.lower()
    for key, value in table.items():
        if key.lower() == folded:
            return value
    return None


def table_of(value: Any, place: str) -> dict[str, Any]:
    """A JSON object, or an empty one where there is none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Failure(CONFIG, f"{place} is no object")
    return value


def list_of(value: Any, place: str) -> list[Any]:
    """A JSON array, or an empty one where there is none."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Failure(CONFIG, f"{place} is no array")
    return value


def words_of(value: Any, place: str) -> list[str]:
    """A JSON array of texts, or an empty one where there is none."""
    words = list_of(value, place)
    if not all(isinstance(word, str) for word in words):
        raise Failure(CONFIG, f"{place} has something in it that is no text")
    return words


def unsupported(place: str, value: Any, why: str) -> Failure:
    return Failure(UNSUPPORTED, f"{place} {jsontext.dumps(value)[:200]}: {why}")


def _is_word(text: str) -> bool:
    return bool(text) and text[0] in _WORD and all(char in _WORD or char in "_.-" for char in text)
