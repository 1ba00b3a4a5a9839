"""The real daemon under requests that are made from its own description."""

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from requests.adapters import HTTPAdapter
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from tests.e2e.lab import Host, Namespace
from tests.e2e.remains import Remains

BASE = "http://netd"
# For each call and each way to make its data; the former where some data makes sense.
EXAMPLES = 60
EXAMPLES_OF_NONSENSE = 15
# What never ends is no question with an answer.
STREAMS = ("/v1/events", "/v1/names", "/v1/directory", "/v1/kv-changes")
NOWHERE = 4_194_304  # the highest pid that may be asked for; PID_MAX_LIMIT is not given away

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.allow_header_conformance,
]

# What makes sense in the world of the test, by field. Of each request some fields get these.
SENSE: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "/v1/networks": {
        "name": st.sampled_from(["n1", "n2", "n3", "blue"]),
        "driver": st.sampled_from(["bridge", "bridge", "host", "none", "macvlan"]),
        "subnets": st.sampled_from([[], ["10.40.0.0/24"], ["10.41.0.0/28", "fd41::/64"]]),
        "gateways": st.just([]),
        "mtu": st.sampled_from([None, 1280, 1400, 9000]),
        "vni": st.none(),
        "parent": st.none(),
        "encrypted": st.just(False),
        "options": st.sampled_from([{}, {"masquerade": False}, {"shim": True}]),
    },
    "/v1/networks/{network}/endpoints": {
        "container_id": st.sampled_from(["c1", "c2", "c3"]),
        "name": st.sampled_from(["", "web", "db"]),
        "aliases": st.sampled_from([[], ["www"], ["a", "b"]]),
        "ifname": st.sampled_from(["eth0", "eth1", "net2"]),
        "addresses": st.sampled_from([[], ["10.30.0.9"], ["10.30.0.10", "fd30::10"]]),
        "mac": st.sampled_from([None, "02:00:00:00:00:07"]),
        "ports": st.sampled_from([[], [{"host_port": 8080, "container_port": 80}]]),
        "bandwidth": st.sampled_from([{}, {"ingress_bps": 10**6}]),
        "default_route": st.sampled_from([None, True, False]),
    },
}
SENSE["/v1/endpoints/{id}"] = {
    name: SENSE["/v1/networks/{network}/endpoints"][name]
    for name in ("aliases", "ports", "bandwidth")
}


SENSE["/v1/services/{id}"] = {
    "name": st.sampled_from(["web", "api"]),
    "address": st.sampled_from(["", "10.30.0.9", "fd30::9"]),
    "port": st.sampled_from([0, 80]),
    "tags": st.sampled_from([[], ["v1", "v2"]]),
    "meta": st.sampled_from([{}, {"k": "v"}]),
    "weights": st.sampled_from([{}, {"passing": 0}, {"passing": 9, "warning": 1}]),
    "checks": st.sampled_from(
        [
            [],
            [{"kind": "ttl", "id": "ttl", "ttl_s": 60}, {"kind": "http", "target": "http://a/"}],
            [{"kind": "alias", "id": "alias", "target": "s1"}],
        ]
    ),
    "endpoint": st.just(""),
    "pid": st.none(),
    "network": st.sampled_from(["", "blue"]),
}
SENSE["/v1/services/{id}/checks/{check}"] = {
    "status": st.sampled_from(["passing", "warning", "critical"]),
    "output": st.sampled_from(["", "of a test"]),
}


SENSE["/v1/checks"] = {
    "reports": st.lists(
        st.fixed_dictionaries(
            {
                "service": st.sampled_from(["s1", "s2"]),
                "check": st.sampled_from(["ttl", "alias"]),
                "status": st.sampled_from(["passing", "warning", "critical"]),
            }
        ),
        max_size=3,
    )
}


class _Connection(urllib3.connection.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("netd")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(15)
        self.sock.connect(self._path)


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("netd")
        self._path = path

    def _new_conn(self) -> _Connection:
        return _Connection(self._path)


class UnixAdapter(HTTPAdapter):
    """Lets requests speak to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._pool = _Pool(path)

    def get_connection_with_tls_context(self, *_args: Any, **_options: Any) -> _Pool:
        return self._pool

    def close(self) -> None:
        self._pool.close()


class Fuzzed:
    """A host with something to ask for, and what was answered so far."""

    def __init__(self, host: Host, session: requests.Session, containers: list[Namespace]) -> None:
        self.host = host
        self.session = session
        self.containers = containers
        self.answers: Counter[tuple[str, str, int]] = Counter()

    def give_sense(self, case: Any, data: st.DataObject) -> None:
        """Let some of the case make sense, and keep it off the machine that runs the test."""
        sense = SENSE.get(case.path, {})
        if isinstance(case.query, dict):
            case.query.pop("wait_s", None)  # of seconds until something changes
        if isinstance(case.body, dict) and sense:
            # Mostly one thing is wild at a time, so that it gets past the checks of the others.
            names = sorted(case.body.keys() | sense.keys())
            wild = data.draw(st.sets(st.sampled_from(names), max_size=2))
            for name in names:
                if name in wild:
                    continue
                if name in sense:
                    case.body[name] = data.draw(sense[name])
                else:
                    case.body.pop(name, None)
            if "{network}" in case.path:
                self._keep_off_the_machine(case.body, data)
        if case.path.startswith("/v1/services/"):
            self._name_instances(case.path_parameters, data)
            return
        some = st.sampled_from([True, True, True, False])
        if "network" in (case.path_parameters or {}) and data.draw(some):
            case.path_parameters["network"] = data.draw(st.sampled_from(["blue", "blue", "n1"]))
        if "id" in (case.path_parameters or {}) and data.draw(some):
            ids = [endpoint["id"] for endpoint in self.host.client.endpoints()] or ["none"]
            # What is drawn must not depend on what is there.
            case.path_parameters["id"] = ids[data.draw(st.integers(0, 99)) % len(ids)]

    def _name_instances(self, parameters: dict[str, Any], data: st.DataObject) -> None:
        for name, known in (("id", ["s1", "s2", "s3"]), ("check", ["ttl", "alias"])):
            if name in parameters and data.draw(st.sampled_from([True, True, True, False])):
                parameters[name] = data.draw(st.sampled_from(known))
        if parameters.get("check") in ("ttl", "alias"):
            self._register_again(parameters["id"])

    def _register_again(self, instance: str) -> None:
        """Without it there would be checks to report by chance alone."""
        if instance in ("s1", "s2", "s3"):
            ttl = {"kind": "ttl", "id": "ttl", "ttl_s": 60}
            self.host.client.register(instance, name="web", checks=[ttl])

    def _keep_off_the_machine(self, body: dict[str, Any], data: st.DataObject) -> None:
        """A pid or path made at random may be that of a process of the machine itself."""
        pids = [container.pid for container in self.containers]
        odd = [self.host.pid, NOWHERE, None, 0, -1, "1", 10**9]
        paths = [None, "", "ns", "/nowhere", *(f"/proc/{pid}/ns/net" for pid in pids)]
        body["pid"] = data.draw(st.sampled_from(pids * 5 + odd))
        if "netns" in body:
            body["netns"] = data.draw(st.sampled_from(paths))

    def check(self, case: Any, *, keep: bool) -> None:
        """Make the call and judge the answer; remove what it made, unless `keep`."""
        response = case.call(base_url=BASE, session=self.session)
        status = response.status_code
        self.answers[case.method, case.path, status] += 1
        assert status < 500 or status in (503, 507), response.text
        case.validate_response(response, checks=CHECKS)
        if status >= 400:
            problem = response.json()
            assert problem["status"] == status
            assert problem["detail"]
            assert len(response.content) < 4096
        if status == 201 and not keep:
            kinds = ("endpoints", "services", "virtuals", "sessions", "networks")
            kind = next((kind for kind in kinds if kind in case.path), "networks")
            answer = self.session.delete(f"{BASE}/v1/{kind}/{response.json()['id']}")
            assert answer.status_code in (204, 409)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    with ExitStack() as stack:
        host = Host(stack, tmp_path_factory.mktemp("host"))
        host.start_daemon()
        session = stack.enter_context(requests.Session())
        session.mount(BASE, UnixAdapter(host.socket))
        yield Fuzzed(host, session, [host.container() for _ in range(3)])


@pytest.mark.timeout(300)
def test_every_call_with_any_data(fuzzed: Fuzzed) -> None:
    host = fuzzed.host
    fuzzed.session.get(f"{BASE}/healthz")  # connects
    before = Remains.settled(host)
    host.client.create_network(name="blue", driver="bridge", subnets=["10.30.0.0/24", "fd30::/64"])
    document = host.client.openapi()
    for path in STREAMS:
        del document["paths"][path]
    described = schemathesis.openapi.from_dict(document).get_all_operations()
    operations = [found.ok() for found in described]
    operations.sort(key=lambda operation: operation.method == "delete")  # else nothing is there
    for operation in operations:
        for mode in GenerationMode:
            _fuzz(fuzzed, operation, mode)
    attach = "/v1/networks/{network}/endpoints"
    reached = {(method, path, status) for method, path, status in fuzzed.answers}
    # Otherwise the test would only show that nonsense is refused.
    assert reached >= {
        *(("POST", "/v1/networks", status) for status in (200, 201, 400, 409)),
        *(("POST", attach, status) for status in (201, 400, 404, 409)),
        *(("PATCH", "/v1/endpoints/{id}", status) for status in (200, 400, 404)),
        *(("PUT", "/v1/services/{id}", status) for status in (200, 201, 400)),
        *(("PUT", "/v1/services/{id}/checks/{check}", status) for status in (204, 400, 404)),
        *(("PUT", "/v1/checks", status) for status in (200, 400)),
        *(("PUT", "/v1/services/{id}/maintenance", status) for status in (200, 400, 404)),
    }, fuzzed.answers
    _remove_all(host)
    before.check(host)


def _fuzz(fuzzed: Fuzzed, operation: Any, mode: GenerationMode) -> None:
    @seed(20)
    @settings(
        max_examples=EXAMPLES if operation.path in SENSE else EXAMPLES_OF_NONSENSE,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode), st.data())
    def run(case: Any, data: st.DataObject) -> None:
        fuzzed.give_sense(case, data)
        fuzzed.check(case, keep=data.draw(st.booleans()))

    try:
        run()
    except Unsatisfiable:
        # Where there is nothing to give, nothing wrong can be given; and any text is a name.
        assert mode is GenerationMode.NEGATIVE
        described = operation.definition.raw
        assert "requestBody" not in described
        assert {parameter["in"] for parameter in described["parameters"]} <= {"path"}


def _remove_all(host: Host) -> None:
    for virtual in host.client.virtuals():
        host.client.unexpose(virtual["id"])
    for service in host.client.services():
        host.client.deregister(service["id"])
    for endpoint in host.client.endpoints():
        host.client.detach(endpoint["id"])
    for network in host.client.networks():
        host.client.delete_network(network["id"])
