"""TLS as the nodes speak it: version 1.3, both sides with a certificate of the cluster.

Keys reach OpenSSL, which wants files, through memory: none is ever on a disk for that.
"""

import asyncio
import os
import socket
import ssl
from contextlib import suppress
from typing import Final

from netd.cluster.certificates import authority_certificate, node_certificate, pem_of
from netd.cluster.identity import NodeKey
from netd.cluster.secret import ClusterSecret

_PROTOCOL: Final = "netd/1"


def server_context(secret: ClusterSecret, node: NodeKey) -> ssl.SSLContext:
    """Asks for a certificate without insisting: who comes with a token has none yet.

    One that is shown must be the cluster's.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # each connection proves itself: none is resumed
    _identify(context, secret, node)
    return context


def client_context(secret: ClusterSecret, node: NodeKey) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # a node is known by its id, wherever it is
    context.verify_mode = ssl.CERT_REQUIRED
    _identify(context, secret, node)
    return context


def joiner_context() -> ssl.SSLContext:
    """Of a node that has no certificate, nor the authority's, of which a token has the key.

    OpenSSL checks nothing here: `certificates.proven_id` has to, before anything is sent.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def shake_hands(
    connection: socket.socket,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    *,
    server: bool,
    timeout_s: float,
) -> asyncio.Transport:
    """Take over a connected socket, which is closed soon when this fails or is cancelled.

    Raises OSError, ConnectionAbortedError at the deadline. A transport that is cancelled before
    its first step on the loop is not closed by asyncio (3.11, sslproto.py: UNWRAPPED); with its
    socket shut down it ends itself.
    """
    loop = asyncio.get_running_loop()
    try:
        if server:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=context, ssl_handshake_timeout=timeout_s
            )
        else:
            transport, _ = await loop.create_connection(
                lambda: protocol,
                sock=connection,
                ssl=context,
                server_hostname="",
                ssl_handshake_timeout=timeout_s,
            )
    except BaseException:
        shut_down(connection)
        raise
    return transport


def shut_down(connection: socket.socket) -> None:
    """End a connection whoever reads and writes it: all of them are told at their next step."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([_PROTOCOL])
    return context


def _identify(context: ssl.SSLContext, secret: ClusterSecret, node: NodeKey) -> None:
    context.load_verify_locations(cadata=authority_certificate(secret))
    pem = pem_of(node_certificate(secret, node), node.private)
    descriptor = os.memfd_create("netd-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
