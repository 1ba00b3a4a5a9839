"""Certificates: the authority's, which follows from the cluster key, and each node's own.

A node makes its certificate itself at each start: whoever has the cluster key may be a node.
What a certificate proves is which node, by its id, which is the hash of the node's key. So the
dates say nothing, and they span all that a wrong clock may show.
"""

import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from netd.cluster.identity import NodeKey
from netd.cluster.secret import ClusterSecret
from netd.gossip.values import NodeId, node_id_of

# The first date that X.509 can write as UTCTime, and the last there is (RFC 5280, 4.1.2.5).
NOT_BEFORE: Final = datetime.datetime(1950, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
CERTIFICATE_MAX_BYTES: Final = 2048  # a node's has some 420

_KEY_USAGE: Final = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


class Unproven(Exception):
    """The peer has not proved which node of the cluster it is; the text says why."""


def authority_certificate(key: ClusterSecret) -> bytes:
    """The authority's certificate (DER), the same on every node."""
    public_key = key.authority.public_key()
    certificate = (
        _begin(_authority_name(key), public_key, serial=1)
        .issuer_name(_authority_name(key))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**(_KEY_USAGE | {"key_cert_sign": True})), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(key.authority, None)
    )
    return certificate.public_bytes(Encoding.DER)


def node_certificate(key: ClusterSecret, node: NodeKey) -> bytes:
    """This node's certificate, signed by the authority (DER)."""
    authority = key.authority.public_key()
    certificate = (
        _begin(_name(node.id.hex()), node.private.public_key(), x509.random_serial_number())
        .issuer_name(_authority_name(key))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**(_KEY_USAGE | {"digital_signature": True})), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False
        )
        .sign(key.authority, None)
    )
    return certificate.public_bytes(Encoding.DER)


def proven_id(certificate: bytes | None, authority_public_key: bytes) -> NodeId:
    """Which node of the cluster the certificate (DER) makes its holder. Raises `Unproven`.

    That the peer holds the certificate's key is what the TLS handshake has shown.
    """
    if certificate is None:
        raise Unproven("it has no certificate")
    if len(certificate) > CERTIFICATE_MAX_BYTES:
        raise Unproven("its certificate is too long")
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        public_key = parsed.public_key()
        names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except Exception as error:  # noqa: BLE001 - cryptography raises half a dozen for nonsense
        raise Unproven(f"its certificate cannot be read: {error}") from None
    if not isinstance(public_key, Ed25519PublicKey):
        raise Unproven("its certificate has another kind of key than Ed25519")
    authority = Ed25519PublicKey.from_public_bytes(authority_public_key)
    try:
        authority.verify(parsed.signature, parsed.tbs_certificate_bytes)
    except InvalidSignature:
        raise Unproven("its certificate is of another cluster") from None
    identifier = node_id_of(public_key.public_bytes_raw())
    if [name.value for name in names] != [identifier.hex()]:
        raise Unproven("its certificate names another node than its key is of")
    return identifier


def pem_of(certificate: bytes, private: Ed25519PrivateKey) -> bytes:
    """The certificate and its private key, in the form that OpenSSL reads."""
    key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key + x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)


def _begin(
    subject: x509.Name, public_key: Ed25519PublicKey, serial: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )


def _authority_name(key: ClusterSecret) -> x509.Name:
    return _name(f"netd cluster {key.cluster_id.hex()}")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
