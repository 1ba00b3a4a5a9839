"""Names that the daemon knows, for the shell's completion."""

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from netd.cli.connection import connect
from netd.cli.failure import Failure
from netd.client import Client

DEADLINE_S = 0.2  # a shell that waits longer for a name feels broken


def network_names(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of networks that begin with what was typed."""
    networks = _ask(context, lambda client: client.networks())
    return _items({network["name"]: network["driver"] for network in networks}, incomplete)


def endpoint_ids(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of endpoints; shells that show help tell the endpoint's name with it."""
    endpoints = _ask(context, lambda client: client.endpoints())
    return _items(
        {endpoint["id"]: f"{endpoint['name']} on {endpoint['network']}" for endpoint in endpoints},
        incomplete,
    )


def container_ids(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of the containers that have endpoints."""
    endpoints = _ask(context, lambda client: client.endpoints())
    return _items(
        {endpoint["container_id"]: endpoint["name"] for endpoint in endpoints}, incomplete
    )


def service_ids(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of the instances of services."""
    services = _ask(context, lambda client: client.services())
    return _items(
        {service["id"]: f"{service['name']} on {service['node']}" for service in services},
        incomplete,
    )


def service_names(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of services that have instances."""
    services = _ask(context, lambda client: client.services())
    return _items({service["name"]: "" for service in services}, incomplete)


def virtual_names(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of services that have virtual addresses."""
    virtuals = _ask(context, lambda client: client.virtuals())
    return _items({one["id"]: " ".join(one["addresses"]) for one in virtuals}, incomplete)


def member_names(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of the cluster's members."""
    members = _ask(context, lambda client: client.members())
    return _items({member["name"]: member["state"] for member in members}, incomplete)


def key_ids(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of the cluster's keys."""
    keys = _ask(context, lambda client: client.keys())
    return _items({key["id"]: "primary" if key["primary"] else "" for key in keys}, incomplete)


def _ask(
    context: click.Context, question: Callable[[Client], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    try:
        with context.scope(cleanup=False), connect(timeout_s=DEADLINE_S) as client:
            return question(client)
    except Failure:
        return []  # the line being typed is no place for errors


def _items(helps: dict[str, str], incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(value, help=helps[value])
        for value in sorted(helps)
        if value.startswith(incomplete)
    ]
