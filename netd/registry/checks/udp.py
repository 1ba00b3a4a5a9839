"""udp: nobody says that the port is closed."""

import asyncio
import socket
from typing import Final

from netd.model.service import CheckResult
from netd.registry.checks.connecting import sockaddr, words
from netd.registry.checks.names import Names
from netd.registry.checks.probe import Failed, Run, critical, passing, text_of
from netd.registry.checks.targets import Target, host_port

_ANSWER_MAX: Final = 4096


async def run(run: Run, names: Names) -> CheckResult:
    """Send the check's body, or one zero byte. An answer is well, so is silence until the time-out.

    What is not well is an ICMP error, which the kernel hands to a connected socket (RFC 1122,
    4.1.3.3). Raises `Failed`.
    """
    target = host_port(run.probe, run.probe.spec.target)
    run.stage = f"name {target.host!r}"
    address = (await names.addresses(target.host))[0]
    run.probe.check_reach(address)
    question = run.probe.spec.body.encode() or b"\0"
    try:
        return await _asked(target, address, question, run.probe.timeout_s)
    except OSError as error:
        return critical(f"{target}: {words(error)}")


async def _asked(target: Target, address: str, question: bytes, wait_s: float) -> CheckResult:
    family, where = sockaddr(address, target.port)
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asker:
        asker.connect(where)
        try:
            asker.send(question)
        except BlockingIOError:
            raise Failed(f"{target}: no room to send to it") from None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(wait_s):
                answer = await loop.sock_recv(asker, _ANSWER_MAX)
        except TimeoutError:
            return passing(f"{target}: no answer, and nobody says that the port is closed")
        return passing(f"{target}: answer: {text_of(answer)}")
