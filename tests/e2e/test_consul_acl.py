"""Consul's API with tokens, on a host with containers: by curl, and by py-consul."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.consul_clients import AGENT, Answer, Place
from tests.e2e.lab import Host, Namespace, await_true
from tests.e2e.registry_lab import connected, gateway

ROOT: Final = str(uuid.uuid4())
CONFIGURATION: Final = """
[consul]
acl = true
acl_token_file = "{}"
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    # In a folder that the registry's user can reach, unlike pytest's.
    with tempfile.TemporaryDirectory(prefix="netd-acl-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        token = folder / "token"
        token.write_text(ROOT + "\n")
        token.chmod(0o600)
        (folder / "netd.toml").write_text(CONFIGURATION.format(token))
        host = Host(stack, folder)
        host.registry = True
        start(host)
        host.client.create_network(name="blue", driver="bridge")
        yield host


def start(host: Host) -> None:
    host.start_daemon("--config", str(host.folder / "netd.toml"))
    await_true(lambda: connected(host), 10)
    await_true(lambda: AGENT in host.client.registry()["listening"], 10)


@pytest.fixture
def shell(host: Host, stack: ExitStack) -> Place:
    return Place(stack, host.wrap)


def ask(place: Place, path: str, *flags: str, token: str = ROOT, body: object = None) -> Answer:
    shown = ("-H", f"X-Consul-Token: {token}") if token else ()
    return place.curl(path, *flags, *shown, body=body)


def made(place: Place, **body: Any) -> dict[str, Any]:
    """A new token."""
    found = ask(place, "/v1/acl/token", body=body)
    assert found.status == 200, found
    return dict(found.json)


@pytest.fixture
def container(host: Host, stack: ExitStack) -> tuple[Place, dict[str, Any], Namespace]:
    inside = host.container()
    endpoint = host.attach("blue", inside)
    return Place(stack, inside.wrap, agent=f"{gateway(endpoint)}:8500"), endpoint, inside


def test_who_shows_nothing_gets_nothing(host: Host, shell: Place) -> None:
    answer = ask(shell, "/v1/catalog/services", token="")
    assert (answer.status, answer.json) == (200, {})
    assert answer.headers["x-consul-default-acl-policy"] == "deny"
    assert ask(shell, "/v1/agent/self", token="").status == 403
    assert ask(shell, "/v1/acl/bootstrap", token="", body="").status == 403
    assert ask(shell, "/v1/agent/self").json["Config"]["NodeName"] == host.node
    assert ask(shell, "/v1/agent/self", token=str(uuid.uuid4())).body == "ACL not found"
    # Eureka's API, which has no tokens, is not there.
    assert not any(each.endswith(":8761") for each in host.client.registry()["listening"])


def test_a_service_and_its_token(
    shell: Place, container: tuple[Place, dict[str, Any], Namespace]
) -> None:
    place, endpoint, _ = container
    web = made(shell, ServiceIdentities=[{"ServiceName": "web"}])["SecretID"]
    register = "/v1/agent/service/register"
    assert ask(place, register, token="", body={"Name": "web"}).status == 403
    assert ask(place, register, token=web, body={"Name": "web", "Port": 80}).status == 200
    assert ask(place, register, token=web, body={"Name": "api"}).status == 403
    # Whatever the token: a container speaks for its own addresses.
    elsewhere = {"Name": "web", "ID": "other", "Address": "192.0.2.1"}
    for token in (web, ROOT):
        assert ask(place, register, token=token, body=elsewhere).status == 403
    address = endpoint["addresses"][0].partition("/")[0]
    for token, count in ((web, 1), (ROOT, 1), ("", 0)):
        rows = ask(shell, "/v1/health/service/web?passing", token=token).json
        assert [row["Service"]["Address"] for row in rows] == [address] * count
    assert ask(place, "/v1/agent/service/deregister/web", token=web, body="").status == 200


def test_tokens_outlive_the_daemon_and_its_registry(host: Host, shell: Place) -> None:
    rules = 'key_prefix "app/" { policy = "write" }'
    body = {"Name": "app", "Rules": rules}
    assert ask(shell, "/v1/acl/policy", body=body).status == 200
    token = made(shell, Policies=[{"Name": "app"}])
    host.stop_daemon()
    start(host)
    secret = token["SecretID"]
    answers = []

    def answered() -> bool:
        answers.append(ask(shell, "/v1/kv/app/a", token=secret, body="1"))
        return answers[-1].status == 200

    await_true(answered, 10)
    assert {each.status for each in answers} <= {200, 500}  # never taken for a stranger's
    assert ask(shell, "/v1/kv/other", token=secret, body="1").status == 403
    # No secret is in what netd has written.
    for file in (host.log, *(host.folder / "state").rglob("*")):
        if file.is_file():
            content = file.read_bytes()
            assert secret.encode() not in content, file
            assert ROOT.encode() not in content, file


PROGRAM: Final = """
import sys, consul
c = consul.Consul(host=sys.argv[1], token=sys.argv[2])
print(c.acl.token.read_self()["Description"])
try:
    c.kv.put("other", "1")
except consul.ACLPermissionDenied as error:
    print(error)
"""


def test_a_program_of_py_consul(shell: Place) -> None:
    secret = made(shell, Description="of a program")["SecretID"]
    program = shell.python("-c", PROGRAM, "127.0.0.1", secret)
    assert program.line() == "of a program"
    assert "lacks permission 'key:write' on \"other\"" in program.line()
