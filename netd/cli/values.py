"""Types of option values: notations that people write, turned into the API's objects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from netd.cli.durations import parse_duration
from netd.cli.pairs import OptionValue, parse_labels, parse_options
from netd.cli.ports import parse_ports
from netd.cli.rates import parse_rate

T = TypeVar("T")


def notation(parse: Callable[[str], T]) -> Callable[[str], T]:
    """`parse`, whose `ValueError` becomes an error of the option, as a type for click."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return convert


def parse_netns(text: str) -> str:
    """A netns as an absolute path, because the daemon has another working directory.

    A name without a slash is one of ip-netns(8). Links are not followed: those in /proc lead
    to no path.
    """
    if not text:
        raise ValueError("the path is empty")
    return str(Path.cwd() / text) if "/" in text else f"/run/netns/{text}"


NETNS = notation(parse_netns)
PORTS = notation(parse_ports)
RATE = notation(parse_rate)
DURATION = notation(parse_duration)
RATE_OR_NONE = notation(lambda text: 0 if text == "none" else parse_rate(text))


def labels(
    context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, str]:
    """A callback for a repeated `--label key=value`."""
    return _pairs(parse_labels, context, parameter, pairs)


def options(
    context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, OptionValue]:
    """A callback for a repeated `--option key=value`."""
    return _pairs(parse_options, context, parameter, pairs)


def _pairs(
    parse: Callable[[tuple[str, ...]], dict[str, T]],
    context: click.Context,
    parameter: click.Parameter,
    pairs: tuple[str, ...],
) -> dict[str, T]:
    try:
        return parse(pairs)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that the user gave a value; what is left out, the daemon chooses."""
    return {name: value for name, value in fields.items() if value not in (None, (), {})}
