"""Bodies as clients write them, right and wrong."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.model.service import NODE_SERVICE, CheckSpec, ServiceSpec
from netd.registry.consul.check_bodies import CheckBody, Rules, check_of, own_id
from netd.registry.consul.fields import Fields, decoded
from netd.registry.consul.service_bodies import own_instance_id, own_name, service_of
from netd.registry.http.call import Failure

RULES = Rules(scripts=True, find=lambda ident, node: (node, ident and f"{ident}@host-1"))


def check(**fields: Any) -> CheckBody:
    return check_of(Fields(fields), "id", "name", RULES)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"HTTP": "http://x/", "Interval": "1m30s"}, {"kind": "http", "interval_s": 90.0}),
        ({"http": "http://x/", "interval": 10}, {"interval_s": 1.0}),  # 10 ns, as some write
        ({"tcp": "a:1", "interval": "100ms"}, {"kind": "tcp", "interval_s": 1.0}),
        ({"tcp": "a:1", "interval": 2_000_000_000}, {"interval_s": 2.0}),
        ({"UDP": "a:1", "Interval": "2s", "Timeout": "5s"}, {"kind": "udp", "timeout_s": 5.0}),
        ({"GRPC": "a:1/s", "Interval": "2s", "grpc_use_tls": True}, {"kind": "grpc", "tls": True}),
        ({"GRPCUseTLS": True, "grpc": "a:1", "interval": "2s"}, {"tls": True}),
        ({"tcp": "a:1", "interval": "2s"}, {"tls": False}),
        ({"tcp": "a:1", "interval": "2s", "tcp_use_tls": True}, {"kind": "tcp", "tls": True}),
        ({"H2PING": "a:1", "interval": "2s"}, {"kind": "h2ping", "target": "a:1", "tls": True}),
        ({"H2PING": "a:1", "interval": "2s", "H2PingUseTLS": False}, {"tls": False}),
        ({"http": "x", "interval": "2s", "TCPUseTLS": True}, {"kind": "http", "tls": False}),
        ({"TTL": "100ms"}, {"kind": "ttl", "ttl_s": 0.1}),
        ({"Args": ["a", "b"], "Interval": "1s"}, {"kind": "script", "args": ("a", "b")}),
        ({"ScriptArgs": ["a"], "Interval": "1s"}, {"args": ("a",)}),
        ({"script_args": ["a"], "interval": "1s"}, {"args": ("a",)}),
        ({"Script": "a b", "Interval": "1s"}, {"args": ("sh", "-c", "a b")}),
        ({"AliasService": "db"}, {"kind": "alias", "target": "db@host-1"}),
        ({"AliasNode": "n"}, {"kind": "alias", "node": "n", "target": ""}),
        ({"AliasNode": "n", "AliasService": "db"}, {"node": "n", "target": "db@host-1"}),
        ({"TTL": "1s", "Status": "Passing"}, {"status": "passing"}),
        ({"TTL": "1s", "Notes": "n", "Name": "x"}, {"notes": "n", "name": "x"}),
        ({"TTL": "1s", "SuccessBeforePassing": 2}, {"successes_before_passing": 3}),
        ({"TTL": "1s", "FailuresBeforeCritical": 2}, {"failures_before_critical": 3}),
        (
            {"TTL": "1s", "FailuresBeforeWarning": 1, "FailuresBeforeCritical": 3},
            {"failures_before_warning": 2, "failures_before_critical": 4},
        ),
        ({"TTL": "1s", "DeregisterCriticalServiceAfter": "1s"}, {"deregister_after_s": 60.0}),
        ({"TTL": "1s", "deregister_critical_service_after": "2h"}, {"deregister_after_s": 7200.0}),
        (
            {"HTTP": "http://x/", "Interval": "1s", "Header": {"a": ["b"]}, "Method": "POST"},
            {"headers": {"a": ("b",)}, "method": "POST"},
        ),
        (
            {"HTTP": "http://x/", "Interval": "1s", "TLSSkipVerify": True, "TLSServerName": "y"},
            {"tls_skip_verify": True, "tls_server_name": "y"},
        ),
    ],
)
def test_checks(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    spec = check(**fields).spec
    assert {name: getattr(spec, name) for name in expected} == expected
    # What is made of it is what the daemon takes.
    assert msgspec.json.decode(msgspec.json.encode(spec), type=CheckSpec) == spec


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"TTL": "0s"},
        {"TTL": "-1s"},
        {"TTL": True},
        {"TTL": []},
        {"HTTP": "http://x/"},
        {"HTTP": "http://x/", "Interval": "0"},
        {"HTTP": 5, "Interval": "1s"},
        {"DockerContainerID": "x", "Args": ["a"], "Interval": "1s"},
        {"H2PING": "a:1"},
        {"OSService": "x", "Interval": "1s"},
        {"TTL": "1s", "Status": "fine"},
        {"TTL": "1s", "FailuresBeforeCritical": -1},
        {"TTL": "1s", "FailuresBeforeWarning": 3, "FailuresBeforeCritical": 1},
        {"HTTP": "http://x/", "Interval": "1s", "Header": {"a": [1]}},
        {"HTTP": "http://x/", "Interval": "1s", "Header": []},
    ],
)
def test_what_is_no_check_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Failure) as caught:
        check(**fields)
    assert caught.value.status == 400


def test_what_consul_shows_of_a_check_is_kept() -> None:
    found = check(HTTP="http://x/", Interval="90s", Timeout="500ms", CheckID="own")
    assert found.ident == "own"
    assert found.extra == {"CheckID": "own", "Interval": "1m30s", "Timeout": "500ms"}


def test_ids_that_netd_would_not_take_are_others() -> None:
    assert own_id("service:web", set()) == "service:web"
    assert own_id("a b/c", set()) == "a-b-c"
    assert own_id("a b", {"a-b"}) == "a-b-2"
    assert own_id("", set()) == "check"
    assert own_id("maintenance", set()) == "check-maintenance"
    assert own_id("x" * 500, set()) == "x" * 100


def test_names_that_netd_would_not_take_are_others_each_its_own() -> None:
    assert own_name("web") == own_name("Web") == "web"
    names = ["_node", "a.b", "a-b", "a b", "a_b", "ä", "-a-", "x" * 64, "x" * 65, "/", "::"]
    made = [own_name(name) for name in names]
    assert len(set(made)) == len(names)
    for name in made:
        assert len(name) <= 63
        assert not name.startswith("-")
        assert not name.endswith("-")
        assert name != NODE_SERVICE


def test_one_id_on_two_nodes_is_two_instances() -> None:
    assert own_instance_id("web", "host-1") == "web@host-1"
    assert own_instance_id("web", "host-2") == "web@host-2"
    odd = {own_instance_id(ident, "host-1") for ident in ("a/b", "a b", "x" * 65, "a@b", "ä")}
    assert len(odd) == 5
    assert all(len(ident) <= 128 for ident in odd)


def test_keys_are_read_in_any_way_they_are_written() -> None:
    body = {"NAME": "a", "tagged_addresses": {"lan": "10.0.0.1"}, "EnableTagOverride": True}
    found = service_of(Fields({**body, "Port": 80.0, "Meta": None, "Tags": ["", "x"]}), RULES)
    assert found.extra["TaggedAddresses"] == {"lan": {"Address": "10.0.0.1", "Port": 80}}
    assert found.extra["EnableTagOverride"] is True
    assert (found.port, found.tags, found.meta) == (80, ("x",), {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    (
        *("Name", "ID", "Tags", "Address", "Port", "Meta", "Weights", "Passing", "Kind"),
        *("TaggedAddresses", "EnableTagOverride", "Connect", "Check", "Checks", "Status"),
        *("TTL", "Interval", "Timeout", "HTTP", "TCP", "Args", "Header"),
    )
)


@given(st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON) | st.sampled_from(("a", "1s"))))
def test_any_object_is_a_service_the_daemon_may_refuse_or_refused_here(body: Any) -> None:
    try:
        found = service_of(Fields({"Name": "a", **body}), RULES)
    except Failure as failure:
        assert failure.status == 400  # noqa: PT017
        return
    spec = ServiceSpec(
        name=own_name(found.name),
        port=found.port,
        meta=found.meta,
        weights=found.weights,
        checks=tuple(each.spec for each in found.checks),
        extra={"consul": found.extra},
    )
    assert msgspec.json.decode(msgspec.json.encode(spec), type=ServiceSpec).port == found.port


@given(st.binary(max_size=40))
def test_any_bytes_are_a_body_or_refused(raw: bytes) -> None:
    try:
        decoded(raw)
    except Failure as failure:
        assert failure.status == 400  # noqa: PT017


def test_a_body_that_is_nested_deep_is_refused() -> None:
    for raw in (b"[" * 100_000, b'{"a":' * 100_000, b'{"Connect":' * 2000 + b"1" + b"}" * 2000):
        with pytest.raises(Failure):
            service_of(decoded(raw), RULES)
