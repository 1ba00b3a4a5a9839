"""The calls of the API as methods. Values are plain dicts and lists, as they came in JSON."""

from __future__ import annotations

import json
import os

from netd.client.errors import ApiError, Unreachable
from netd.client.http import Connection, ProtocolError, Response
from netd.client.kv import KeyCalls
from netd.client.targets import path as _path
from netd.client.targets import query as _query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    Object = dict[str, Any]

DEFAULT_SOCKET = "/run/netd/netd.sock"
STREAM_SILENCE_S = 60.0  # the daemon sends an empty line every 15 s


class Client:
    """A client of one daemon; `socket_path` is NETD_SOCKET's value when it is left out.

    Keeps one connection open; not to be used by two threads at once. Methods raise
    `ApiError` for what the daemon refused and `Unreachable` when it did not answer. A network
    is given by name or id, `timeout_s` bounds each wait for the daemon.
    """

    def __init__(self, socket_path: str | None = None, timeout_s: float = 30.0) -> None:
        self.socket_path = socket_path or os.environ.get("NETD_SOCKET") or DEFAULT_SOCKET
        self._connection = Connection(self.socket_path, timeout_s)
        self.kv = KeyCalls(self._object, self._whole, self._lines)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ready(self) -> None:
        """Raises `ApiError` while the daemon starts, and when it cannot do its work."""
        self._whole("GET", "/readyz")

    def status(self) -> Object:
        return self._object("GET", "/v1/status")

    def networks(self) -> list[Object]:
        return self._objects("GET", "/v1/networks")

    def network(self, ref: str) -> Object:
        return self._object("GET", _path("/v1/networks", ref))

    def create_network(self, **spec: Any) -> Object:
        """`name` and `driver`, and what else is not to be chosen by the daemon."""
        return self._object("POST", "/v1/networks", spec)

    def reclaim(self, ref: str, members: list[str]) -> Object:
        """Take over the addresses that hosts own which will not come back."""
        return self._object("POST", _path("/v1/networks", ref, "reclaim"), {"members": members})

    def delete_network(self, ref: str) -> None:
        self._whole("DELETE", _path("/v1/networks", ref))

    def attach(self, network: str, **request: Any) -> Object:
        """`container_id`, `netns` or `pid`, and what else the endpoint is to have."""
        return self._object("POST", _path("/v1/networks", network, "endpoints"), request)

    def endpoints(self, **filters: str | None) -> list[Object]:
        """Those that match all of `network`, `container_id` and `node` that are given."""
        return self._objects("GET", "/v1/endpoints" + _query(filters))

    def endpoint(self, endpoint_id: str) -> Object:
        return self._object("GET", _path("/v1/endpoints", endpoint_id))

    def update_endpoint(self, endpoint_id: str, **patch: Any) -> Object:
        """Change `ports`, `aliases`, `labels`, `bandwidth` or `name`."""
        return self._object("PATCH", _path("/v1/endpoints", endpoint_id), patch)

    def detach(self, endpoint_id: str) -> None:
        self._whole("DELETE", _path("/v1/endpoints", endpoint_id))

    def detach_container(self, container_id: str) -> None:
        self._whole("DELETE", _path("/v1/containers", container_id))

    def resolve(self, name: str, record_type: str = "A", source: str | None = None) -> Object:
        """Look `name` up as the container with the address `source` sees it."""
        return self._object(
            "GET", "/v1/resolve" + _query({"name": name, "type": record_type, "from": source})
        )

    def trace(self, name: str, record_type: str = "A", source: str | None = None) -> Object:
        """The same look-up with each step that led to its answer."""
        query = _query({"name": name, "type": record_type, "from": source})
        return self._object("GET", "/v1/resolve/trace" + query)

    def registry(self) -> Object:
        """What the process that answers names has reported last."""
        return self._object("GET", "/v1/registry")

    def services(self, *, passing: bool = False, **filters: str | None) -> list[Object]:
        """Instances that match all of `name`, `node` and `network` that are given."""
        asked = filters | {"passing": "1" if passing else None}
        return self._objects("GET", "/v1/services" + _query(asked))

    def service(self, service_id: str) -> Object:
        return self._object("GET", _path("/v1/services", service_id))

    def register(self, service_id: str, **spec: Any) -> Object:
        """Register an instance of the service `name`, or change it."""
        return self._object("PUT", _path("/v1/services", service_id), spec)

    def deregister(self, service_id: str) -> None:
        self._whole("DELETE", _path("/v1/services", service_id))

    def report(self, service_id: str, check: str, status: str, output: str = "") -> None:
        """What a check has found: `passing`, `warning` or `critical`."""
        result = {"status": status, "output": output}
        self._whole("PUT", _path("/v1/services", service_id, "checks", check), result)

    def maintain(self, service_id: str, enable: bool, reason: str = "") -> Object:
        """Take an instance out, or let it in again."""
        asked = {"enable": enable, "reason": reason}
        return self._object("PUT", _path("/v1/services", service_id, "maintenance"), asked)

    def virtuals(self) -> list[Object]:
        """The services with virtual addresses."""
        return self._objects("GET", "/v1/virtuals")

    def virtual(self, service: str) -> Object:
        return self._object("GET", _path("/v1/virtuals", service))

    def expose(self, service: str, **spec: Any) -> Object:
        """Give a service virtual addresses, or other `ports` at those it has."""
        return self._object("PUT", _path("/v1/virtuals", service), spec)

    def unexpose(self, service: str) -> None:
        self._whole("DELETE", _path("/v1/virtuals", service))

    def members(self) -> list[Object]:
        return self._objects("GET", "/v1/members")

    def join(self, addresses: list[str], token: str | None = None) -> Object:
        """Join the hosts at `addresses`; none with a token asks those that the token names."""
        return self._object(
            "POST", "/v1/members/join", {"addresses": list(addresses), "token": token}
        )

    def leave(self) -> None:
        self._whole("POST", "/v1/members/leave")

    def keys(self) -> list[Object]:
        return self._objects("GET", "/v1/keys")

    def install_key(self, secret: str | None = None) -> Object:
        """Install a key (32 bytes in base64), or one that the daemon makes, on all members."""
        return self._object("POST", "/v1/keys", {"secret": secret})

    def use_key(self, key_id: str) -> Object:
        return self._object("PUT", _path("/v1/keys", key_id, "primary"))

    def remove_key(self, key_id: str) -> None:
        self._whole("DELETE", _path("/v1/keys", key_id))

    def issue_token(self, expires_s: int = 3600, uses: int = 1) -> Object:
        return self._object("POST", "/v1/tokens", {"expires_s": expires_s, "uses": uses})

    def records(self, **filters: str | None) -> list[Object]:
        """What the host sees of the replicated log; filter by `table` and `owner`."""
        return self._objects("GET", "/v1/records" + _query(filters))

    def plan(self) -> list[Object]:
        return self._objects("GET", "/v1/plan")

    def reconcile(self) -> Object:
        return self._object("POST", "/v1/reconcile")

    def doctor(self) -> list[Object]:
        return self._objects("GET", "/v1/doctor")

    def explain(
        self, source: str, destination: str, protocol: str = "tcp", port: int | None = None
    ) -> Object:
        """The way between two ends: ids or names of endpoints, containers, hosts, addresses."""
        asked = {"from": source, "to": destination, "protocol": protocol, "port": port}
        return self._object("GET", "/v1/explain" + _query(asked))

    def topology(self) -> Object:
        """Hosts, networks and endpoints, as far as the host knows."""
        return self._object("GET", "/v1/topology")

    def openapi(self) -> Object:
        return self._object("GET", "/v1/openapi.json")

    def metrics(self) -> str:
        """Prometheus' text format."""
        return self._whole("GET", "/metrics").decode()

    def events(self, since: int | None = None) -> Lines:
        """Events as they happen; those after revision `since` first."""
        return self._lines("/v1/events" + _query({"since": since}))

    def names(self, watch: bool = False) -> Lines:
        """All names, a `sync`, and then, with `watch`, changes as they happen."""
        return self._lines("/v1/names" + _query({"watch": "1" if watch else None}))

    def directory(self, watch: bool = False) -> Lines:
        """What the registry has to know, a `sync`, and then, with `watch`, changes."""
        return self._lines("/v1/directory" + _query({"watch": "1" if watch else None}))

    def _object(
        self, method: str, target: str, body: Object | None = None, *, once: bool = False
    ) -> Object:
        value: Object = json.loads(self._whole(method, target, body, once=once))
        return value

    def _objects(self, method: str, target: str) -> list[Object]:
        value: list[Object] = json.loads(self._whole(method, target))
        return value

    def _whole(
        self, method: str, target: str, body: Object | None = None, *, once: bool = False
    ) -> bytes:
        encoded = None if body is None else json.dumps(body).encode()
        try:
            response = self._connection.request(method, target, encoded, once=once)
            answer = response.read()
        except OSError as error:
            self._connection.close()
            raise _unreachable(self.socket_path, error) from error
        if not response.reusable:
            self._connection.close()
        if response.status >= 400:
            raise _api_error(response, answer)
        return answer

    def _lines(self, target: str) -> Lines:
        # A stream occupies its connection, so it has one of its own.
        connection = Connection(self.socket_path, STREAM_SILENCE_S)
        try:
            response = connection.request("GET", target)
            if response.status >= 400:
                raise _api_error(response, response.read())
        except OSError as error:
            connection.close()
            raise _unreachable(self.socket_path, error) from error
        except ApiError:
            connection.close()
            raise
        return Lines(connection, response)


class Lines:
    """An iterator over a stream of JSON values. Close it, or leave its `with`, to stop early."""

    def __init__(self, connection: Connection, response: Response) -> None:
        self._connection = connection
        self._response = response

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Object:
        try:
            while (line := self._response.line()) == b"\n":
                pass  # a sign of life
        except OSError as error:
            self.close()
            raise _unreachable(self._connection.path, error) from error
        if not line:
            self.close()
            raise StopIteration
        value: Object = json.loads(line)
        return value

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _api_error(response: Response, body: bytes) -> ApiError:
    try:
        problem = json.loads(body)
        return ApiError(
            code=problem["code"],
            status=response.status,
            title=problem["title"],
            detail=problem["detail"],
            field=problem.get("field"),
        )
    except (ValueError, KeyError, TypeError):
        detail = f"the answer is not netd's: {body[:200].decode(errors='replace')}"
        return ApiError(code="internal", status=response.status, title="Not netd", detail=detail)


def _unreachable(path: str, error: OSError) -> Unreachable:
    if isinstance(error, PermissionError):
        return Unreachable(
            f"not allowed to connect to {path}: run as root, or as a member of the group netd"
        )
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return Unreachable(
            f"no netd answers on {path}. Start it with 'systemctl start netd' or "
            f"'netd --socket {path}', or set NETD_SOCKET to the socket of one that runs"
        )
    if isinstance(error, TimeoutError):
        return Unreachable(f"netd on {path} did not answer in time")
    if isinstance(error, ProtocolError):
        return Unreachable(f"what answers on {path} is not netd, or it stopped: {error}")
    return Unreachable(f"lost the connection to netd on {path}: {error.strerror or error}")
