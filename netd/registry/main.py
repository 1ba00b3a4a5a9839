"""The entry point of `netd-registry`."""

import argparse
import asyncio
import gc
import os
import socket
import sys
from collections.abc import Sequence

from netd import __version__, logs
from netd.descriptors import take_all_descriptors
from netd.registry.service import Service
from netd.systemd import ServiceManager, take_sockets

DEFAULT_SOCKET = "/run/netd/netd.sock"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code of the process."""
    asked = _parser().parse_args(arguments)
    logs.configure(asked.log_level, "auto", "netd-registry")
    if asked.await_word is not None and not os.read(asked.await_word, 1):
        return 1  # netd has ended before it has written down who this is
    if asked.user is not None:
        from netd.registry.privileges import give_up

        try:
            give_up(asked.user)
        except (OSError, KeyError) as error:
            print(f"netd-registry: cannot become {asked.user}: {error}", file=sys.stderr)
            return 1
    if os.geteuid() == 0:
        print(
            "netd-registry: it reads what containers send, so it does not run as root: "
            "start it as another user, or with --user",
            file=sys.stderr,
        )
        return 1
    take_all_descriptors()  # four sockets for each address, and clients' connections
    _spare_the_collector()
    asyncio.run(_serve(asked.socket, _page_socket(asked.page_socket)))
    return 0


async def _serve(path: str, page: socket.socket | None) -> None:
    # What it answers from is looked through for garbage no more: that would take long.
    await Service(path, ServiceManager(os.environ), settled=gc.freeze, page=page).run()


def _page_socket(descriptor: int | None) -> socket.socket | None:
    """The listening socket of the page, from whoever has started this process; None: there is
    none.
    """
    if descriptor is not None:
        return socket.socket(fileno=descriptor)
    return next(iter(take_sockets(os.environ).get("netd-page.socket", ())), None)


def _spare_the_collector() -> None:
    """Names come by the ten thousand and hold no cycles: look for them seldom, so that answers
    do not wait for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="netd-registry",
        description="Answer the names that netd knows, and run health checks. netd or the "
        "service manager starts it; all settings are netd's.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"netd-registry {__version__}")
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=DEFAULT_SOCKET,
        help=f"netd's Unix socket (default: {DEFAULT_SOCKET})",
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="give up root for this user, but for listening at ports below 1024",
    )
    parser.add_argument("--await-word", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--page-socket", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="(default: info)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
