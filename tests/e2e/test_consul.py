"""Programs written for Consul, on one host: against its own agent's address, by two libraries."""

import os
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.consul_clients import AGENT, CLIENTS, LINE_S, Answer, Place
from tests.e2e.lab import Host, await_true
from tests.e2e.registry_lab import connected, host_with_registry, registry_pid


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with host_with_registry() as made:
        yield made


@pytest.fixture(params=CLIENTS)
def place(request: pytest.FixtureRequest, host: Host, stack: ExitStack) -> Place:
    """The host, where programs use one of the libraries."""
    return Place(stack, host.wrap, request.param)


@pytest.fixture
def shell(host: Host, stack: ExitStack) -> Place:
    return Place(stack, host.wrap)


# The programs


def test_a_service_is_found_and_watched(place: Place) -> None:
    watcher = place.start("watch", "web")
    assert watcher.line() == "1"
    web = place.start("web", "web", "8080")
    assert web.line() == "registered"
    answers, found = watcher.line().split()
    assert found == "web-8080"
    assert place.run("find", "web") == f"{Host.ADDRESS}:8080"
    # What others do wakes nobody who watches this one.
    for number in range(5):
        ident = f"other-{number}"
        place.curl("/v1/agent/service/register", body={"Name": "other", "ID": ident, "Port": 1})
    for number in range(5):
        place.curl(f"/v1/agent/service/deregister/other-{number}", body="")
    web.finish()
    assert watcher.line() == str(int(answers) + 1)
    assert place.run("find", "web") == ""


def test_a_service_says_how_it_is(place: Place) -> None:
    watcher = place.start("watch", "worker")
    assert watcher.line() == "1"
    worker = place.start("worker", "worker", "worker-1", "9000")
    assert worker.line() == "registered"

    def found() -> list[str]:
        return watcher.line().split()[1:]

    assert found() == ["worker-1"]
    for word in ("warn", "fail"):
        assert worker.tell(word) == "ok"
        assert found() == []
        assert worker.tell("pass") == "ok"
        assert found() == ["worker-1"]
    assert worker.tell("silent") == "ok"
    assert found() == []
    [row] = place.curl("/v1/health/checks/worker").json
    assert (row["Status"], row["CheckID"]) == ("critical", "service:worker-1")
    assert worker.tell("pass") == "ok"
    assert found() == ["worker-1"]
    worker.finish()
    assert place.curl("/v1/agent/service/deregister/worker-1", body="").status == 200
    assert found() == []


def test_one_of_two_leads(place: Place) -> None:
    key = f"service/{place.client}/leader"
    one = place.start("elect", key, "one")
    session = one.line().removeprefix("session ")
    assert one.line() == "leads"
    two = place.start("elect", key, "two")
    two.line()
    assert two.line() == "follows one"
    [pair] = place.curl(f"/v1/kv/{key}").json
    assert pair["Session"] == session
    assert one.tell("go") == "left"
    assert two.line() in ("leads", "follows nobody")
    three = place.start("elect", key, "three")
    three.line()
    assert three.line() == "follows two"
    # A session that somebody ends is the end of its locks.
    [pair] = place.curl(f"/v1/kv/{key}").json
    assert place.curl(f"/v1/session/destroy/{pair['Session']}", body="").body == "true"
    assert three.line() in ("leads", "follows nobody")


def test_configuration_in_keys(place: Place) -> None:
    assert place.run("config", "put", "app/limit", "10") == "True"
    watcher = place.start("config", "watch", "app/limit")
    assert watcher.line() == "10"
    adders = [place.start("config", "add", "app/limit", "1") for _ in range(3)]
    for adder in adders:
        adder.finish()
    while watcher.line() != "13":
        pass
    assert place.run("config", "get", "app/limit") == "b'13'"
    assert place.run("config", "ls", "app/") == "app/limit"
    assert place.run("config", "rm", "app/") == "True"
    assert watcher.line() == "None"
    assert place.run("config", "get", "app/limit") == "None"


def test_several_things_are_watched_by_asyncio(place: Place) -> None:
    key = f"both/{place.client}"
    watcher = place.start("both", "both", key)
    assert {watcher.line(), watcher.line()} == {"service", "key"}
    assert place.curl("/v1/agent/service/register", body={"Name": "both"}).status == 200
    assert watcher.line() == "service both"
    assert place.curl(f"/v1/kv/{key}", body="1").body == "true"
    assert watcher.line() == "key 1"
    assert place.curl("/v1/agent/service/deregister/both", body="").status == 200
    assert watcher.line() == "service"


# As Consul's users type it


def test_who_waits_is_woken_by_what_he_waits_for(shell: Place) -> None:
    def index_of(path: str) -> int:
        return shell.curl(path).consul_index

    paths = ("/v1/kv/wait/a", "/v1/kv/wait/?recurse", "/v1/kv/wait/new", "/v1/health/service/wait")
    before = {path: index_of(path) for path in paths}
    with ThreadPoolExecutor(len(paths)) as threads:

        def begin(wait: str) -> dict[str, Future[Answer]]:
            def ask(path: str) -> Answer:
                joint = "&" if "?" in path else "?"
                return shell.curl(f"{path}{joint}index={before[path]}&wait={wait}")

            return {path: threads.submit(ask, path) for path in paths}

        waiting = begin("1s")
        assert shell.curl("/v1/kv/elsewhere", body="1").body == "true"
        body = {"Name": "waiter", "ID": "other"}
        assert shell.curl("/v1/agent/service/register", body=body).status == 200
        # In vain: what they get is what there was.
        found = {path: future.result().consul_index for path, future in waiting.items()}
        assert found == before
        waiting = begin("60s")
        assert shell.curl("/v1/kv/wait/new", body="1").body == "true"
        for path in ("/v1/kv/wait/new", "/v1/kv/wait/?recurse"):
            answer = waiting[path].result(LINE_S)
            assert (answer.status, answer.consul_index > before[path]) == (200, True)
        assert not waiting["/v1/kv/wait/a"].done()
        assert shell.curl("/v1/kv/wait/a", body="1").body == "true"
        assert waiting["/v1/kv/wait/a"].result(LINE_S).status == 200
        assert not waiting["/v1/health/service/wait"].done()
        body = {"Name": "wait", "ID": "waited-for"}
        assert shell.curl("/v1/agent/service/register", body=body).status == 200
        [row] = waiting["/v1/health/service/wait"].result(LINE_S).json
        assert row["Service"]["ID"] == "waited-for"


def test_what_is_wrong_is_said(shell: Place) -> None:
    def put(path: str, body: object = "") -> tuple[int, str]:
        answer = shell.curl(path, body=body)
        return answer.status, answer.body

    assert put("/v1/agent/service/register", "{")[0] == 400
    assert put("/v1/agent/service/register", {"ID": "x"}) == (400, "Missing service name")
    code, said = put("/v1/agent/service/deregister/nothing")
    assert (code, "Unknown service ID" in said) == (404, True)
    code, said = put("/v1/agent/check/pass/service:nothing")
    assert (code, "Unknown check ID" in said) == (404, True)
    assert put("/v1/agent/maintenance") == (400, "Missing value for enable")
    assert put("/v1/kv/k?acquire=nobody", "1") == (500, "invalid session 'nobody'")
    assert put("/v1/kv/k?cas=1&acquire=x", "1")[0] == 400
    assert put("/v1/session/create", {"Node": "elsewhere"})[0] == 500
    assert put("/v1/catalog/nodes") == (405, "method PUT not allowed")
    for path, status in (
        ("/v1/nothing", 404),
        ("/v1/kv/nothing", 404),
        ("/v1/kv/", 400),
        ("/v1/catalog/services?dc=elsewhere", 500),
        ("/v1/catalog/services?index=x", 400),
        ("/v1/catalog/services?index=1&wait=soon", 400),
        ("/v1/health/state/well", 400),
        ("/v1/catalog/service/x?filter=ServicePort+is+large", 400),
        ("/v1/acl/tokens", 401),
    ):
        answer = shell.curl(path)
        assert answer.status == status, path
        assert answer.body or path == "/v1/kv/nothing", path
        assert not answer.headers["content-type"].startswith("application/json")


def test_bodies_are_bounded(shell: Place) -> None:
    most = "x" * 512 * 1024
    assert shell.curl("/v1/kv/large", body=most).body == "true"
    answer = shell.curl("/v1/kv/large", body=most + "x")
    assert (answer.status, "524288" in answer.body) == (413, True)
    assert len(shell.curl("/v1/kv/large?raw").body) == len(most)
    large = {"Name": "large", "Meta": {"text": "x" * 1024 * 1024}}
    assert shell.curl("/v1/agent/service/register", body=large).status == 413
    # Curl waits for a word before it sends so much; others do not.
    chunked = ("-H", "Transfer-Encoding: chunked", "-H", "Expect:")
    assert shell.curl("/v1/kv/large", *chunked, body=most + "x").status == 413
    assert shell.curl("/v1/kv/large", "-X", "DELETE").body == "true"


# What survives


def test_registrations_survive_the_end_of_netd_and_its_registry(stack: ExitStack) -> None:
    host = stack.enter_context(host_with_registry())
    shell = Place(stack, host.wrap)
    web = shell.start("web", "web", "8080")
    assert web.line() == "registered"
    ttl = {"CheckID": "lives", "TTL": "60s"}
    for ident, check in (("told", ttl), ("away", ttl | {"CheckID": "away"})):
        body = {"Name": ident, "ID": ident, "Port": 1, "Tags": ["a"], "Check": check}
        assert shell.curl("/v1/agent/service/register", body=body).status == 200
    assert shell.curl("/v1/agent/check/pass/lives", body="").status == 200
    assert shell.curl("/v1/agent/service/maintenance/away?enable=true", body="").status == 200
    assert shell.curl("/v1/kv/k", body="v").status == 200
    await_true(lambda: shell.passing("web") == ["web-8080"])

    def seen() -> object:
        rows = shell.curl("/v1/agent/services").json
        checks = shell.curl("/v1/agent/checks").json
        key = shell.curl("/v1/kv/k").json
        statuses = {name: check["Status"] for name, check in checks.items()}
        return rows, statuses, key, shell.curl("/v1/catalog/services").json

    before = seen()
    index = shell.curl("/v1/health/service/web").consul_index
    host.kill()
    check_answers_without_netd(shell)
    os.kill(registry_pid(host), signal.SIGKILL)
    host.launch()
    host.await_ready()
    await_true(lambda: connected(host), 20)
    await_true(lambda: shell.passing("web") == ["web-8080"], 10)
    assert seen() == before
    assert shell.curl("/v1/health/service/web").consul_index >= index
    # The check goes on, and so do those who report.
    web.finish()
    assert shell.curl("/v1/agent/service/register", body={"Name": "web"}).status == 200
    assert shell.curl("/v1/agent/check/fail/lives?note=bad", body="").status == 200
    [row] = shell.curl("/v1/health/state/critical?filter=CheckID==lives").json
    assert row["Output"] == "bad"


def check_answers_without_netd(shell: Place) -> None:
    """Its registry knows what there was, and refuses what it cannot do."""
    assert shell.passing("web") == ["web-8080"]
    for path in (
        "/v1/agent/service/register",
        "/v1/agent/service/deregister/told",
        "/v1/agent/check/fail/lives",
        "/v1/kv/k",
        "/v1/session/create",
        "/v1/event/fire/x",
    ):
        answer = shell.curl(path, body={"Name": "other"})
        assert answer.status == 500, path
        assert "netd cannot be reached: Connection refused" in answer.body, path
    assert shell.curl("/v1/kv/k").status == 500


def test_a_port_that_consul_has_is_taken_over_when_it_is_free(stack: ExitStack) -> None:
    with tempfile.TemporaryDirectory(prefix="netd-consul-") as name:
        Path(name).chmod(0o755)
        host = Host(stack, Path(name))
        agent = host.start(stack, "busybox", "httpd", "-f", "-p", AGENT)
        shell = Place(stack, host.wrap)
        await_true(lambda: host.succeeds("curl", "-s", "-o", "/dev/null", AGENT))
        host.registry = True
        host.start_daemon()
        await_true(lambda: AGENT in host.client.registry()["problems"], 10)
        found = [each for each in host.client.doctor() if each["level"] != "ok"]
        assert any(AGENT in each["detail"] for each in found)
        agent.kill()
        await_true(lambda: AGENT in host.client.registry()["listening"], 10)
        assert shell.curl("/v1/status/leader").json == f"{Host.ADDRESS}:8300"
        host.stop_daemon()
