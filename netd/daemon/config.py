"""The configuration file and its drop-ins: read, checked, merged, shown, compared.

Each file is checked on its own, so that an error names the file that has it. Tables merge,
later files win key by key, flags of the command line win over all files.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import msgspec

from netd.daemon.settings import NEEDS_RESTART, Config
from netd.daemon.settings.values import WrongValue

MAIN_FILE: Final = Path("/etc/netd/netd.toml")
COMMAND_LINE: Final = "command line"
DEFAULT: Final = "default"

Values = Mapping[str, Any]

_HEADER = re.compile(r"\s*\[\[?\s*([\w.\-]+)\s*\]")
_KEY = re.compile(r"\s*([\w.\-]+)\s*=")
_AT_PATH = re.compile(r" - at `\$\.?([^`]*)`\Z")
_AT_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")


class ConfigError(Exception):
    """One thing that is wrong in the configuration.

    `file` is None for flags, `line` where it could not be found; `key` is a path such as
    `networks.ipv4_pools[0].prefix`, "" for the file as a whole.
    """

    def __init__(self, file: Path | None, line: int | None, key: str, detail: str) -> None:
        place = COMMAND_LINE if file is None else str(file) if line is None else f"{file}:{line}"
        super().__init__(": ".join(part for part in (place, key, detail) if part))
        self.file = file
        self.line = line
        self.key = key
        self.detail = detail


def load(path: Path | None = None, dropin_dir: Path | None = None, flags: Values = {}) -> Config:  # noqa: B006 - never written
    """Read the configuration. Raises `ConfigError`.

    Without `path` the usual file is read if there is one; a `path` that is given must exist.
    Drop-ins are `*.toml` in `dropin_dir`, by default `<path>.d`, in lexical order. `flags` has
    the form of the file.
    """
    main = path or MAIN_FILE
    directory = dropin_dir or main.with_name(main.name + ".d")
    files = [main] if path is not None or main.exists() else []
    files += sorted(directory.glob("*.toml"))
    layers: list[tuple[str, Values]] = [(str(file), _read(file)) for file in files]
    _check(flags, None, "")
    layers.append((COMMAND_LINE, flags))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, tables in layers:
        for table, values in tables.items():
            merged.setdefault(table, {}).update(values)
            origins.update((f"{table}.{key}", origin) for key in values)
    try:
        return msgspec.convert({**merged, "origins": origins}, Config)
    except msgspec.ValidationError as error:  # of settings that do not go together
        raise _contradiction(error, origins) from None
    except WrongValue as error:  # of a default: the host's own name is unfit
        raise ConfigError(None, None, f"node.{error.key}", error.detail) from None


def _contradiction(error: msgspec.ValidationError, origins: Mapping[str, str]) -> ConfigError:
    cause = error.__cause__
    key, detail = (cause.key, cause.detail) if isinstance(cause, WrongValue) else ("", str(error))
    origin = origins.get(key, COMMAND_LINE)
    return ConfigError(None if origin == COMMAND_LINE else Path(origin), None, key, detail)


def effective(config: Config) -> str:
    """The settings in force, in the form of a file, each with where it comes from."""
    lines: list[str] = []
    table = ""
    for path, value in _values(config):
        name, _, key = path.partition(".")
        if name != table:
            lines += ["", f"[{name}]"] if lines else [f"[{name}]"]
            table = name
        lines.append(f"{key} = {_toml(value)}  # {config.origins.get(path, DEFAULT)}")
    return "\n".join(lines) + "\n"


def changes(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """Key paths that differ: those a running daemon takes over, those that need a restart."""
    before = dict(_values(old))
    differing = [path for path, value in _values(new) if value != before[path]]
    return (
        [path for path in differing if path not in NEEDS_RESTART],
        [path for path in differing if path in NEEDS_RESTART],
    )


def _values(config: Config) -> Iterator[tuple[str, Any]]:
    for table in _tables():
        values = getattr(config, table)
        for key in values.__struct_fields__:
            yield f"{table}.{key}", getattr(values, key)


def _tables() -> dict[str, type[msgspec.Struct]]:
    fields = msgspec.structs.fields(Config)
    return {field.name: field.type for field in fields if field.name != "origins"}


def _read(file: Path) -> Values:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(file, None, "", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(file, None, "", "is not UTF-8") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        line = int(at[1] or len(text.splitlines())) if at else None
        raise ConfigError(file, line, "", f"is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(file, None, "", "is nested too deeply") from None
    _check(values, file, text)
    return values


def _check(values: Values, file: Path | None, text: str) -> None:
    """Raise `ConfigError` for the first unknown key or wrong value."""
    tables = _tables()
    for table, content in values.items():
        if table not in tables:
            _refuse_unknown(file, text, table, "", list(tables))
        if not isinstance(content, dict):
            line = _line_of(text, table)
            raise ConfigError(file, line, table, f"is a table: write [{table}] and keys below it")
        known = list(tables[table].__struct_fields__)
        for key in content:
            if key not in known:
                _refuse_unknown(file, text, key, f"{table}.", known)
        try:
            msgspec.convert(content, tables[table])
        except msgspec.ValidationError as error:
            at = _AT_PATH.search(str(error))
            path = f"{table}.{at[1]}" if at and at[1] else table
            detail = str(error)[: at.start()] if at else str(error)
            if isinstance(error.__cause__, WrongValue):
                path, detail = f"{path}.{error.__cause__.key}", error.__cause__.detail
            raise ConfigError(file, _line_of(text, path), path, detail) from None


def _refuse_unknown(file: Path | None, text: str, key: str, prefix: str, known: list[str]) -> None:
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(known)}"
    path = prefix + key
    raise ConfigError(file, _line_of(text, path), path, f"unknown key; {hint}")


def _line_of(text: str, path: str) -> int | None:
    """The line of a key's assignment, or of the longest part of its path that has one.

    tomllib keeps no positions. This reads headers and `key =`, not inline tables: what is
    inside one is found by the key that holds it.
    """
    wanted = re.sub(r"\[[^\]]*\]", "", path).split(".")
    best: tuple[int, int] | None = None
    header: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _HEADER.match(line):
            header = here = match[1].split(".")
        elif match := _KEY.match(line):
            here = header + match[1].split(".")
        else:
            continue
        if wanted[: len(here)] == here and (best is None or len(here) > best[0]):
            best = len(here), number
    return best[1] if best else None


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False)  # a JSON string is a TOML basic string
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case msgspec.Struct():
            pairs = (
                f"{key} = {_toml(item)}" for key, item in msgspec.structs.asdict(value).items()
            )
            return f"{{ {', '.join(pairs)} }}"
        case dict():
            pairs = (f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
        case _:
            return str(value)
