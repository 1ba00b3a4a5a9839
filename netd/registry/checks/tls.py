"""TLS for checks: whom they believe."""

import asyncio
import ssl
from typing import Final

from netd.registry.checks.probe import Failed

_contexts: Final[dict[tuple[bool, tuple[str, ...]], ssl.SSLContext]] = {}


async def context(*, verify: bool, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """One context for all checks of a kind; `protocols` are offered (RFC 7301).

    `verify`: the certificate has to be for the name asked for, of an authority that the host
    trusts. Reading these takes tens of milliseconds, so a thread does it, once.
    """
    key = (verify, protocols)
    if key not in _contexts:
        _contexts[key] = await asyncio.to_thread(_make, verify, protocols)
    return _contexts[key]


def forget() -> None:
    """Read the host's authorities anew from now on."""
    _contexts.clear()


def check_name(context: ssl.SSLContext, name: str) -> None:
    """Raise `Failed` for what cannot be the name of a server.

    Within a connection, asyncio (3.11, sslproto.py) would leave the socket open.
    """
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except ValueError as error:
        raise Failed(f"TLS server name {name!r}: {error}") from None


def words(error: ssl.SSLError) -> str:
    """What is wrong with the other side's certificate, or with its TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    return f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"


def _make(verify: bool, protocols: tuple[str, ...]) -> ssl.SSLContext:
    made = ssl.create_default_context()
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made
