"""The token that the administrator configures for Consul's API, and what follows from it."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from netd.daemon import consul_token
from netd.daemon.config import ConfigError, load
from netd.daemon.settings.parts import engine_settings
from netd.model.consul_token import hash_of
from netd.model.errors import Invalid

SECRET = str(uuid.UUID(int=7 << 90))


def written(folder: Path, text: str | bytes, mode: int = 0o600) -> str:
    file = folder / "token"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(mode)
    return str(file)


def test_what_is_kept_is_a_hash(tmp_path: Path) -> None:
    assert consul_token.load("") == ""
    found = consul_token.load(written(tmp_path, SECRET + "\n"))
    assert found == hash_of(SECRET)
    assert SECRET not in found
    assert len(found) == 64


@pytest.mark.parametrize(
    "text",
    ["", "short", "a" * 31, "a" * 257, "a" * 40 + " " + "b", SECRET + "\n" + SECRET, b"\xff" * 40],
)
def test_what_is_no_token(tmp_path: Path, text: str | bytes) -> None:
    file = written(tmp_path, text)
    with pytest.raises(Invalid) as caught:
        consul_token.load(file)
    assert caught.value.field == "consul.acl_token_file"
    assert file in caught.value.detail
    assert SECRET not in caught.value.detail


def test_a_file_that_others_could_change_or_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="chmod 600"):
        consul_token.load(written(tmp_path, SECRET, 0o666))
    with pytest.raises(Invalid, match="cannot be read: No such file"):
        consul_token.load(str(tmp_path / "missing"))


def config_of(folder: Path, text: str) -> Any:
    file = folder / "netd.toml"
    file.write_text(text)
    return load(file, flags={"node": {"name": "host-1"}})


def test_settings(tmp_path: Path) -> None:
    plain = engine_settings(config_of(tmp_path, "")).registry
    assert (plain.consul_acl, plain.consul_acl_default) == (False, "deny")
    assert plain.eureka_address == "127.0.0.1:8761"
    text = '[consul]\nacl = true\nacl_default = "allow"\nacl_token_file = "/etc/netd/t"\n'
    made = engine_settings(config_of(tmp_path, text), management="h").registry
    assert (made.consul_acl, made.consul_acl_default) == (True, "allow")
    assert made.consul_acl_token == "h"
    assert made.eureka_address == ""  # it has no tokens
    text += "[eureka]\ndespite_acl = true\n"
    assert engine_settings(config_of(tmp_path, text)).registry.eureka_address == "127.0.0.1:8761"
    for wrong in ('acl_default = "read"', 'acl_token_file = "relative"', 'acl = "yes"'):
        with pytest.raises(ConfigError):
            config_of(tmp_path, f"[consul]\n{wrong}\n")
