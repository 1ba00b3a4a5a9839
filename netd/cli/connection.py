"""The way to the daemon, and how its refusals are told to the user."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.core import ParameterSource

from netd.cli.failure import Conflict, Failure, InputRefused, NoDaemon, NotFound
from netd.client import ApiError, Client, Unreachable

TIMEOUT_S = 30.0

_FAILURES: dict[str, type[Failure]] = {
    "invalid": InputRefused,
    "not-found": NotFound,
    "conflict": Conflict,
}
_HINTS = {
    "unavailable": "Try again later; '{netctl} status' shows the daemon's state.",
    "kernel": "'{netctl} doctor' checks what the kernel offers.",
    "forbidden": "Run netctl as root or as a member of the group netd.",
}
_START = "Start it with 'systemctl start netd', or name its socket by --socket or NETD_SOCKET."
_INDEX = re.compile(r"\[(\d+)\]")


@contextmanager
def connect(timeout_s: float = TIMEOUT_S) -> Iterator[Client]:
    """A client of the daemon; its errors become failures of the current command."""
    try:
        with Client(socket_path(), timeout_s=timeout_s) as client:
            yield client
    except ApiError as error:
        raise refusal(error) from error
    except Unreachable as error:
        raise unreachable(error) from error
    except UnicodeEncodeError as error:
        raise InputRefused("an argument has bytes that are not UTF-8") from error


def socket_path() -> str:
    path: str = click.get_current_context().find_root().params["socket"]
    return path


def netctl() -> str:
    """The start of a command that reaches the same daemon as this one does."""
    root = click.get_current_context().find_root()
    if root.get_parameter_source("socket") is ParameterSource.COMMANDLINE:
        import shlex

        return f"netctl --socket {shlex.quote(socket_path())}"
    return "netctl"


def refusal(error: ApiError) -> Failure:
    """Say what the daemon refused, with the option that was to blame if there is one."""
    option = _option(error.field) if error.field else ""
    hint = _HINTS.get(error.code, "").format(netctl=netctl())
    if error.code == "invalid":
        hint = f"Try '{click.get_current_context().command_path} --help'."
    kind = _FAILURES.get(error.code, Failure)
    # The option says where; the API's name for it would say it twice.
    detail = (error.detail or error.title).removeprefix(f"{error.field}: " if option else "")
    return kind(f"{option}: {detail}" if option else detail, hint=hint)


def unreachable(error: Unreachable) -> NoDaemon:
    """Say why no daemon answered, and what would help."""
    path = socket_path()
    match error.__cause__:
        case PermissionError():
            return NoDaemon(f"not allowed to connect to {path}", hint=_HINTS["forbidden"])
        case FileNotFoundError() | ConnectionRefusedError():
            return NoDaemon(f"no netd answers on {path}", hint=_START)
        case _:
            return NoDaemon(str(error), hint="'journalctl -u netd' may say why.")


def _option(field: str) -> str:
    """The name by which the user gave the API's `field`, e.g. `--publish (value 2)`.

    The parameters of a command are called as the fields that they fill, so the field's path
    is searched for the first part that is a parameter of the command.
    """
    context = click.get_current_context()
    parameters = {parameter.name: parameter for parameter in context.command.params}
    for part in field.split("."):
        parameter = parameters.get(_INDEX.sub("", part))
        if parameter is None:
            continue
        is_option = isinstance(parameter, click.Option)
        name = parameter.opts[0] if is_option else parameter.human_readable_name
        index = _INDEX.search(part)
        given = context.params.get(parameter.name or "") or ()
        if index and isinstance(given, tuple) and len(given) > 1:
            return f"{name} (value {int(index[1]) + 1})"
        return name
    return field
