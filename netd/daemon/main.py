"""The entry point of `netd`."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from netd import logs
from netd.daemon import options
from netd.daemon.config import ConfigError, effective, load
from netd.model.errors import Invalid, NetdError
from netd.systemd import ServiceManager, take_sockets

log = logging.getLogger(__name__)

CONFIG_IS_WRONG = 78  # EX_CONFIG, sysexits.h; netd.service is not restarted after it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that was given; return the exit code of the process."""
    asked = options.parse(arguments)
    try:
        config = load(asked.config, flags=asked.flags)
    except ConfigError as error:
        print(f"netd: {error}", file=sys.stderr)
        return CONFIG_IS_WRONG
    if asked.command == "config check":
        print("the configuration is right")
        return 0
    if asked.command == "config show":
        print(effective(config), end="")
        return 0
    if os.geteuid() != 0:
        print(
            "netd: run it as root: it makes network interfaces and firewall rules", file=sys.stderr
        )
        return 1
    logs.configure(config.log.level, config.log.format)
    # Imported late: `netd config check` needs neither netlink nor HTTP.
    from netd.daemon.cleanup import clean_up
    from netd.daemon.serve import Daemon, HelperFailed

    try:
        if asked.command == "cleanup":
            for line in asyncio.run(clean_up(config)):
                print(line)
            return 0
        sockets = take_sockets(os.environ)
        daemon = Daemon(
            config,
            reload=lambda: load(asked.config, flags=asked.flags),
            manager=ServiceManager(os.environ),
            sockets=sockets.get("netd.socket", []),
            docker_sockets=sockets.get("netd-docker.socket", []),
            registry=asked.registry,
        )
        asyncio.run(daemon.run())
    except HelperFailed as error:
        log.critical("netd ends: %s", error)
        log.debug("where it failed", exc_info=error)
        return 1
    except Invalid as error:
        print(f"netd: {error.detail}", file=sys.stderr)
        return CONFIG_IS_WRONG
    except NetdError as error:
        print(f"netd: {error.detail}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"netd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
