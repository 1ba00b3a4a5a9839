"""tcp: somebody accepts connections, with TLS if that is wanted."""

import errno
import os
from collections.abc import Coroutine
from typing import Any

from netd.model.service import CheckResult
from netd.registry.checks.connecting import begin, connect, finish, words
from netd.registry.checks.names import Names, is_address
from netd.registry.checks.probe import Run, critical, passing
from netd.registry.checks.targets import Target, host_port
from netd.registry.checks.transports import Speaker, speaking


def run(run: Run, names: Names) -> CheckResult | Coroutine[Any, Any, CheckResult]:
    """What was found, at once where the kernel knows it at once. Raises `Failed`."""
    target = host_port(run.probe, run.probe.spec.target)
    if run.probe.spec.tls:
        return _with_tls(run, names, target)
    if not is_address(target.host):
        return _by_name(run, names, target)
    run.probe.check_reach(target.host)
    run.stage = f"connect to {target}"
    try:
        connection, code = begin(target.host, target.port)
    except OSError as error:
        return critical(f"{target}: {words(error)}")
    if code == errno.EALREADY:
        return _later(connection, target)
    connection.close()
    return _accepted(target) if code == 0 else critical(f"{target}: {os.strerror(code).lower()}")


async def _later(connection: Any, target: Target) -> CheckResult:
    with connection:
        try:
            await finish(connection, target.host, target.port)
        except OSError as error:
            return critical(f"{target}: {words(error)}")
        return _accepted(target)


async def _by_name(run: Run, names: Names, target: Target) -> CheckResult:
    (await connect(run, names, target)).close()
    return _accepted(target)


async def _with_tls(run: Run, names: Names, target: Target) -> CheckResult:
    async with speaking(run, names, target, Speaker):
        return passing(f"{target}: connected with TLS")


def _accepted(target: Target) -> CheckResult:
    return passing(f"{target}: connected")
