"""The cluster's key: its file, what follows from it, and how a node comes to one."""

import base64
import hmac
import os
from pathlib import Path

import pytest

from netd.cluster import entry, secret
from netd.cluster.addresses import Place
from netd.cluster.secret import ClusterSecret
from netd.cluster.settings import ClusterSettings
from netd.cluster.tokens import JoinToken
from netd.model.errors import Invalid, Unavailable


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def settings_of(tmp_path: Path, **more: object) -> ClusterSettings:
    values = {"directory": tmp_path / "state", "name": "a"} | more
    return ClusterSettings(**values)  # type: ignore[arg-type]


def token_of(known: ClusterSecret) -> JoinToken:
    return JoinToken(
        cluster_id=known.cluster_id,
        authority_public_key=known.authority_public_key,
        secret=os.urandom(32),
        expires_s=0,
        addresses=(("127.0.0.1", 7940),),
    )


def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256 and no salt, for at most one block."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:length]


def test_all_follows_from_the_key_and_nothing_from_another_part() -> None:
    known = ClusterSecret(bytes(range(32)))
    again = ClusterSecret(bytes(range(32)))
    assert (known.cluster_id, known.gossip_key, known.authority_public_key) == (
        again.cluster_id,
        again.gossip_key,
        again.authority_public_key,
    )
    # Hosts of different versions must agree: these never change.
    assert known.cluster_id == hkdf(known.secret, b"netd 1 cluster id", 8)
    assert known.gossip_key == hkdf(known.secret, b"netd 1 gossip key", 32)
    assert known.authority.private_bytes_raw() == hkdf(known.secret, b"netd 1 authority", 32)
    assert known.cluster_id.hex() == "4c8c096bf5636b11"
    derived = {known.secret, known.gossip_key, known.authority.private_bytes_raw()}
    assert len(derived) == 3
    other = ClusterSecret(bytes(range(1, 33)))
    assert other.cluster_id != known.cluster_id
    assert other.gossip_key != known.gossip_key


def test_generated_keys_can_be_loaded_and_differ(tmp_path: Path) -> None:
    text = secret.generate()
    assert text != secret.generate()
    known = secret.load(write(tmp_path / "key", text + "\n"))
    assert base64.b64encode(known.secret).decode() == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has 0 bytes, not 32"),
        (base64.b64encode(bytes(range(31))), "has 31 bytes, not 32"),
        (base64.b64encode(bytes(range(33))), "has 33 bytes, not 32"),
        ("not base64!", "is not base64"),
        (b"\xff" * 44, "is not base64"),
        ("A" * 5000, "too long"),
    ],
)
def test_what_is_no_key_is_refused_and_how_to_make_one_is_told(
    tmp_path: Path, text: str | bytes, says: str
) -> None:
    path = write(tmp_path / "key", text)
    with pytest.raises(Invalid, match=f"{says}.*netctl key generate"):
        secret.load(path)


def test_a_key_file_for_other_hands_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="chmod 600"):
        secret.load(write(tmp_path / "key", secret.generate(), 0o622))
    with pytest.raises(Invalid, match="No such file"):
        secret.load(tmp_path / "none")


def test_a_stored_key_is_kept_for_the_owner_alone(tmp_path: Path) -> None:
    assert secret.stored(tmp_path) is None
    known = ClusterSecret(os.urandom(32))
    secret.store(tmp_path, known)
    found = secret.stored(tmp_path)
    assert found is not None
    assert found.secret == known.secret
    path = tmp_path / "cluster.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(Unavailable, match=f"rm {path}"):
        secret.stored(tmp_path)


def test_the_configured_key_comes_first_then_the_stored_one_then_the_token(tmp_path: Path) -> None:
    configured, kept = ClusterSecret(os.urandom(32)), ClusterSecret(os.urandom(32))
    key_file = write(tmp_path / "key", base64.b64encode(configured.secret))
    token_file = write(tmp_path / "token", token_of(kept).text() + "\n")

    found, token = entry.find(settings_of(tmp_path, token_file=token_file))
    assert found is None
    assert token is not None
    assert token.cluster_id == kept.cluster_id
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700

    secret.store(tmp_path / "state", kept)
    found, token = entry.find(settings_of(tmp_path, token_file=token_file))
    assert found is not None
    assert found.cluster_id == kept.cluster_id
    assert token is None

    found, token = entry.find(settings_of(tmp_path, token_file=token_file, key_file=key_file))
    assert found is not None
    assert found.cluster_id == configured.cluster_id


def test_a_token_of_another_cluster_than_the_stored_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    secret.store(tmp_path / "state", ClusterSecret(os.urandom(32)))
    token_file = write(tmp_path / "token", token_of(ClusterSecret(os.urandom(32))).text())
    with pytest.raises(Invalid, match=r"another cluster.*rm "):
        entry.find(settings_of(tmp_path, token_file=token_file))


@pytest.mark.parametrize("text", ["", "netd1.", "netd2.AAAA", b"\xff\xfe"])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(Invalid, match="token"):
        entry.find(settings_of(tmp_path, token_file=write(tmp_path / "token", text)))


def test_without_a_key_a_node_is_on_its_own(tmp_path: Path) -> None:
    assert entry.find(settings_of(tmp_path)) == (None, None)


@pytest.mark.parametrize(
    "more",
    [
        {"bind": ("0.0.0.0", 7940)},
        {"bind": ("192.0.2.1", 7940)},
        {"bind": ("::", 7940)},
        {"seeds": (Place("192.0.2.1", 7940),)},
    ],
)
def test_without_a_key_only_loopback_is_bound_unless_told_so(
    tmp_path: Path, more: dict[str, object]
) -> None:
    with pytest.raises(Invalid, match=r"without a key.*--cluster-key"):
        entry.find(settings_of(tmp_path, **more))
    found, _ = entry.find(settings_of(tmp_path, insecure=True, **more))
    assert found is not None
    assert found.is_open


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_on_loopback_no_key_is_needed(tmp_path: Path, host: str) -> None:
    found, _ = entry.find(settings_of(tmp_path, bind=(host, 0)))
    assert found is not None
    assert found.is_open
