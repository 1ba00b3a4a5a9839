"""Certificates: what they prove, and what they do not."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from netd.cluster.certificates import (
    CERTIFICATE_MAX_BYTES,
    Unproven,
    authority_certificate,
    node_certificate,
    proven_id,
)
from tests.unit.cluster_lab import new_key, new_secret

SECRET = new_secret()
KEY = new_key()
CERTIFICATE = node_certificate(SECRET, KEY)


def forge(name: str, *, public_key: object = None, signer: object = None) -> bytes:
    """A certificate as this module's, with one thing else."""
    common = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(common)
        .issuer_name(common)
        .public_key(public_key or KEY.private.public_key())  # type: ignore[arg-type]
        .serial_number(1)
        .not_valid_before(datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(1991, 1, 1, tzinfo=datetime.UTC))
    )
    certificate = builder.sign(signer or SECRET.authority, None)  # type: ignore[arg-type]
    return certificate.public_bytes(Encoding.DER)


def test_the_authority_is_the_same_on_all_hosts() -> None:
    assert authority_certificate(SECRET) == authority_certificate(SECRET)
    assert authority_certificate(SECRET) != authority_certificate(new_secret())


def test_a_node_proves_its_id() -> None:
    assert proven_id(CERTIFICATE, SECRET.authority_public_key) == KEY.id
    assert len(CERTIFICATE) < CERTIFICATE_MAX_BYTES


def test_dates_are_valid_by_any_clock() -> None:
    for der in (CERTIFICATE, authority_certificate(SECRET)):
        parsed = x509.load_der_x509_certificate(der)
        assert parsed.not_valid_before_utc.year == 1950
        assert parsed.not_valid_after_utc.year == 9999
    expired = forge(KEY.id.hex())
    assert proven_id(expired, SECRET.authority_public_key) == KEY.id


@pytest.mark.parametrize(
    ("certificate", "says"),
    [
        (None, "no certificate"),
        (b"", "cannot be read"),
        (b"\x30" * (CERTIFICATE_MAX_BYTES + 1), "too long"),
        (node_certificate(new_secret(), KEY), "another cluster"),
        (forge(new_key().id.hex()), "names another node"),
        (forge(KEY.id.hex().upper()), "names another node"),
        (forge(KEY.id.hex(), signer=KEY.private), "another cluster"),
        (authority_certificate(SECRET), "names another node"),
    ],
)
def test_anything_else_proves_nothing(certificate: bytes | None, says: str) -> None:
    with pytest.raises(Unproven, match=says):
        proven_id(certificate, SECRET.authority_public_key)


def test_other_kinds_of_keys_prove_nothing() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Unproven, match="another kind of key"):
        proven_id(forge(KEY.id.hex(), public_key=key.public_key()), SECRET.authority_public_key)
    common = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, KEY.id.hex())])
    signed = (
        x509.CertificateBuilder()
        .subject_name(common)
        .issuer_name(common)
        .public_key(KEY.private.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(1991, 1, 1, tzinfo=datetime.UTC))
        .sign(key, SHA256())
    )
    with pytest.raises(Unproven, match="another cluster"):
        proven_id(signed.public_bytes(Encoding.DER), SECRET.authority_public_key)


@given(st.integers(0, len(CERTIFICATE) - 1), st.integers(1, 255))
def test_a_certificate_with_another_byte_proves_no_other_node(place: int, change: int) -> None:
    changed = bytearray(CERTIFICATE)
    changed[place] ^= change
    try:
        found = proven_id(bytes(changed), SECRET.authority_public_key)
    except Unproven:
        return
    assert found == KEY.id  # e.g. an unused bit of the encoding


@given(st.binary(max_size=600))
def test_bytes_prove_nothing(data: bytes) -> None:
    with pytest.raises(Unproven):
        proven_id(data, SECRET.authority_public_key)
