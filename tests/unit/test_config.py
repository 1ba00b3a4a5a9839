"""Configuration and command line: what is read, what wins, what is refused and how it is said."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netd.daemon import options, settings
from netd.daemon.config import ConfigError, changes, effective, load
from netd.daemon.settings import NEEDS_RESTART, Config
from netd.daemon.settings.cluster import Cluster
from netd.daemon.settings.networks import Pool


def write(directory: Path, text: str, **drop_ins: str) -> Path:
    main = directory / "netd.toml"
    main.write_text(text)
    (directory / "netd.toml.d").mkdir(exist_ok=True)
    for name, content in drop_ins.items():
        (directory / "netd.toml.d" / f"{name}.toml").write_text(content)
    return main


def test_without_any_file_the_defaults_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.daemon.config.MAIN_FILE", tmp_path / "netd.toml")
    assert load() == Config()


def test_a_file_that_is_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read: No such file"):
        load(tmp_path / "absent.toml")


def test_drop_ins_work_without_the_main_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.daemon.config.MAIN_FILE", tmp_path / "netd.toml")
    write(tmp_path, "", one="[log]\nlevel = 'debug'").unlink()
    assert load().log.level == "debug"


def test_later_files_win_key_by_key_and_flags_win_over_all(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        "[networks]\nzone = 'a.internal'\nquarantine_s = 1\n[node]\nname = 'file'",
        **{
            "20-b": "[networks]\nquarantine_s = 3",
            "10-a": "[networks]\nquarantine_s = 2\n"
            "ipv4_pools = [{ base = '10.64.0.0/12', prefix = 22 }]",
        },
    )
    config = load(main, flags={"node": {"name": "flag"}})
    assert config.networks.zone == "a.internal"
    assert config.networks.quarantine_s == 3
    assert config.networks.ipv4_pools == (Pool(base="10.64.0.0/12", prefix=22),)
    assert config.node.name == "flag"
    assert config.origins == {
        "networks.zone": str(main),
        "networks.ipv4_pools": f"{main}.d/10-a.toml",
        "networks.quarantine_s": f"{main}.d/20-b.toml",
        "node.name": "command line",
    }


@pytest.mark.parametrize(
    ("text", "line", "key", "detail"),
    [
        ("[netwroks]\nzone = 'x'", 1, "netwroks", "unknown key; did you mean networks?"),
        ("zone = 'x'", 1, "zone", "unknown key; known are node, api"),
        ("[log]\n\nlevle = 'info'", 3, "log.levle", "unknown key; did you mean log.level?"),
        ("log.levle = 'info'", 1, "log.levle", "did you mean log.level?"),
        ("origins = {}", 1, "origins", "unknown key"),
        ("log = 3", 1, "log", "is a table: write [log]"),
        ("[[log]]\nlevel = 'info'", 1, "log", "is a table: write [log]"),
        ("[log]\nlevel = 'loud'", 2, "log.level", "Invalid enum value 'loud'"),
        ("[log]\nlevel = 3", 2, "log.level", "Expected `str`"),
        ("[node]\ntags = ['a']", 2, "node.tags", "Expected `object`"),
        ("[node.tags]\nrack = 1", 1, "node.tags[...]", "Expected `str`"),
        (f"[node]\ntags = {{ a = '{'x' * 257}' }}", 2, "node.tags", "at most 256"),
        ("[cluster]\nbind = 'web-1:7940'", 2, "cluster.bind", "'web-1' is not an IP address"),
        ("[cluster]\nbind = '10.0.0.1:x'", 2, "cluster.bind", "'x' is not a port"),
        ("[cluster]\nadvertise = '0.0.0.0'", 2, "cluster.advertise", "no address that others"),
        ("[cluster]\njoin = ['a', '[::1']", 2, "cluster.join[1]", "[address]:port"),
        ("[cluster]\nprofile = 'slow'", 2, "cluster.profile", "Invalid enum value 'slow'"),
        ("[cluster]\nkey_file = 'key'", 2, "cluster.key_file", "not an absolute path"),
        ("[cluster]\nkeyfile = '/k'", 2, "cluster.keyfile", "did you mean cluster.key_file?"),
        ("[networks]\nquarantine_s = -1", 2, "networks.quarantine_s", ">= 0"),
        ("[networks]\nzone = 'a..b'", 2, "networks.zone", "not a DNS label"),
        ("[networks]\nula = '2001:db8::/48'", 2, "networks.ula", "/48 of fd00::/8"),
        ("[networks]\nula = 'fd00::/64'", 2, "networks.ula", "/48 of fd00::/8"),
        ("[eureka]\naddress = '8761'", 2, "eureka.address", "ADDRESS:PORT"),
        ("[eureka]\nclients = ['192.0.2.1/24']", 2, "eureka.clients", "not a network in CIDR"),
        ("[kv]\nbackend = 'consul'", 2, "kv.backend", "consul"),
        ("[kv]\nholder = 'a b'", 2, "kv.holder", "DNS label"),
        ("[kv]\netcd = []", 2, "kv.etcd", "a member at least"),
        ("[kv]\netcd = ['https://127.0.0.1:2379']", 2, "kv.etcd", "http://HOST:PORT"),
        ("[kv]\netcd = ['http://127.0.0.1']", 2, "kv.etcd", "http://HOST:PORT"),
        ("[kv]\netcd = ['http://127.0.0.1:2379/v3']", 2, "kv.etcd", "http://HOST:PORT"),
        ("[kv]\netcd = ['http://[::1:2379']", 2, "kv.etcd", "http://HOST:PORT"),
        ("[networks]\nula = 'word'", 2, "networks.ula", "not a network in CIDR form"),
        (
            "[networks]\nipv4_pools = [\n  { base = '10.0.0.0/8', prefix = 16 },\n"
            "  { base = '10.0.0.1/8', prefix = 16 },\n]",
            2,
            "networks.ipv4_pools[1].base",
            "has host bits set",
        ),
        (
            "[[networks.ipv4_pools]]\nbase = '10.0.0.0/8'\nprefix = 4",
            3,
            "networks.ipv4_pools[0].prefix",
            ">= 8",
        ),
        (
            "[[networks.ipv4_pools]]\nbase = '10.0.0.0/16'\nprefix = 12",
            3,
            "networks.ipv4_pools[0].prefix",
            "more than all of 10.0.0.0/16",
        ),
        (
            "[[networks.ipv4_pools]]\nbase = '224.0.0.0/8'\nprefix = 12",
            2,
            "networks.ipv4_pools[0].base",
            "not for hosts",
        ),
        (
            "[[networks.ipv4_pools]]\nbase = '10.0.0.0/8'\nprefix = 12\nsize = 1",
            1,
            "networks.ipv4_pools[0]",
            "unknown field `size`",
        ),
        ("[api]\nsocket = 'netd.sock'", 2, "api.socket", "not an absolute path"),
        (f"[api]\nsocket = '/{'x' * 107}'", 2, "api.socket", "longer than 107 bytes"),
        ("[node]\nname = 'a.b'", 2, "node.name", "not a DNS label"),
        ("[log]\nlevel = 'info'\nlevel = 'info'", 3, "", "is not TOML"),
        ("[log", 1, "", "is not TOML"),
    ],
)
def test_an_error_says_where_it_is_and_what_was_wrong(
    tmp_path: Path, text: str, line: int, key: str, detail: str
) -> None:
    write(tmp_path, "", drop=text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "netd.toml")
    error = caught.value
    assert (error.file, error.line, error.key) == (
        tmp_path / "netd.toml.d" / "drop.toml",
        line,
        key,
    )
    assert detail in error.detail
    assert str(error).startswith(f"{error.file}:{line}: ")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "netd.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(tmp_path / "netd.toml")


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    """A daemon that reads it anew goes on, as with any other fault."""
    (tmp_path / "netd.toml").write_text("a = " + "[" * 5000)
    with pytest.raises(ConfigError, match="is nested too deeply"):
        load(tmp_path / "netd.toml")


def test_a_wrong_flag_is_said_to_be_of_the_command_line() -> None:
    with pytest.raises(ConfigError, match=r"^command line: node\.name: 'a b' is not a DNS label"):
        load(dropin_dir=Path("/nonexistent"), flags={"node": {"name": "a b"}})


def test_a_host_name_that_cannot_be_a_nodes_name_must_be_overridden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "(none)")
    main = write(tmp_path, "")
    with pytest.raises(ConfigError, match=r"node\.name: '\(none\)' is not a DNS label"):
        load(main)
    assert load(main, flags={"node": {"name": "a"}}).node.name == "a"


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        '[api]\nsocket = "/run/\\"odd\\" \\u2603\\n.sock"\n'
        "[[networks.ipv4_pools]]\nbase = '10.64.0.0/12'\nprefix = 22\n"
        "[reconcile]\ninterval_s = 5",
    )
    config = load(main)
    text = effective(config)
    assert f"interval_s = 5.0  # {main}" in text.splitlines()
    assert "debounce_ms = 50  # default" in text.splitlines()
    again = msgspec.convert(tomllib.loads(text), Config)
    assert msgspec.structs.replace(config, origins={}) == again


def test_changes_are_told_apart_by_what_a_reload_can_do(tmp_path: Path) -> None:
    old = load(write(tmp_path, "[node]\nname = 'a'"))
    new = load(
        write(
            tmp_path,
            "[node]\nname = 'b'\n[log]\nlevel = 'debug'\n[networks]\nzone = 'x'\nquarantine_s = 60",
        )
    )
    assert changes(old, new) == (["log.level"], ["node.name", "networks.zone"])
    assert changes(new, new) == ([], [])


def test_what_needs_a_restart_exists() -> None:
    for path in NEEDS_RESTART:
        table, key = path.split(".")
        assert hasattr(getattr(Config(), table), key)


def test_defaults_pass_their_own_checks() -> None:
    text = effective(Config())
    assert msgspec.convert(tomllib.loads(text), settings.Config) == Config()


# The command line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["cleanup"], {"command": "cleanup"}),
        (["config", "check"], {"command": "config check"}),
        (["--config", "a.toml", "config", "show"], {"command": "config show", "config": "a.toml"}),
        (["config", "show", "--config", "a.toml"], {"command": "config show", "config": "a.toml"}),
        (["--no-registry"], {"registry": False}),
        (
            ["--node", "a", "--socket", "/run/s", "--state-dir", "/var/s"],
            {
                "flags": {
                    "node": {"name": "a"},
                    "api": {"socket": "/run/s"},
                    "state": {"dir": "/var/s"},
                }
            },
        ),
    ],
)
def test_command_line(arguments: list[str], expected: dict[str, Any]) -> None:
    found = options.parse(arguments)
    assert found == options.Options(
        command=expected.get("command", "run"),
        config=Path(expected["config"]) if "config" in expected else None,
        flags=expected.get("flags", {}),
        registry=expected.get("registry", True),
    )


def test_a_relative_path_is_where_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert options.parse(["--socket", "s"]).flags == {"api": {"socket": f"{tmp_path}/s"}}


def test_flags_of_the_cluster_win_over_its_table(tmp_path: Path) -> None:
    main = write(
        tmp_path, "[cluster]\nbind = '10.0.0.1'\njoin = ['a']\nprofile = 'wan'\ninsecure = true"
    )
    arguments = [
        "--bind", "[::]:1", "--advertise", "[2001:db8::1]:2", "--join", "b:3",
        "--join", "[2001:db8::2]", "--profile", "fast", "--cluster-key", "/k", "config", "check",
    ]  # fmt: skip
    asked = options.parse(arguments)
    cluster = load(main, flags=asked.flags).cluster
    assert cluster == Cluster(
        bind="[::]:1",
        advertise="[2001:db8::1]:2",
        join=("b:3", "[2001:db8::2]"),
        profile="fast",
        key_file="/k",
        insecure=True,
    )
    assert options.parse(["--insecure"]).flags == {"cluster": {"insecure": True}}


def test_a_key_and_a_token_exclude_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = write(tmp_path, "[cluster]\nkey_file = '/k'", b="[cluster]\njoin_token_file = '/t'")
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert str(caught.value).startswith(
        f"{main}.d/b.toml: cluster.join_token_file: excludes cluster.key_file (/k)"
    )
    (main.with_name("netd.toml.d") / "b.toml").unlink()
    flags = options.parse(["--join-token", "/t"]).flags
    with pytest.raises(ConfigError, match=r"^command line: cluster\.join_token_file: excludes"):
        load(main, flags=flags)
    with pytest.raises(SystemExit):
        options.parse(["--join-token", "/t", "--cluster-key", "/k"])
    assert "not allowed with argument --join-token" in capsys.readouterr().err


def test_tags_are_shown_as_a_table_that_reads_back(tmp_path: Path) -> None:
    tags = {"rack": "r 1", 'a "b"': "ü"}
    config = load(flags={"node": {"name": "n", "tags": tags}})
    shown = effective(config)
    assert tomllib.loads(shown)["node"]["tags"] == tags
    assert "tags = {}  # default" in effective(Config())
    main = write(tmp_path, "[node.tags]\nrack = 'r2'")
    assert load(main).node.tags == {"rack": "r2"}


def test_an_unknown_command_is_called_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options.parse(["start"])
    assert "argument COMMAND: invalid choice: 'start'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--nod", "x"], ["config"], ["start"], ["--node"]])
def test_a_wrong_command_line_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        options.parse(arguments)
    assert caught.value.code == 2
    assert "usage: netd" in capsys.readouterr().err
