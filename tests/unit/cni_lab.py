"""netd-cni in this process, against a daemon with prepared answers."""

import json
from pathlib import Path
from typing import Any

from netd.runtimes.cni.plugin import answer
from tests.unit.cli_daemon import ENDPOINT, Daemon

ATTACHED: dict[str, Any] = ENDPOINT | {
    "id": "3f9a1c0de5b72468",
    "network": "blue",
    "container_id": "box",
    "ifname": "eth0",
    "host_ifname": "nv3f9a1c0de5b7",
    "mac": "0e:16:0a:14:00:02",
    "mtu": 1450,
    "addresses": ["10.20.0.2/24", "fd20::2/64"],
    "gateways": ["10.20.0.1", "fd20::1"],
    "dns": {"nameservers": ["10.20.0.1"], "search": ["blue.netd.internal"]},
    "default_route": True,
    "labels": {
        "netd.runtime": "cni",
        "netd.runtime.network": "net",
        "netd.runtime.ifname": "eth0",
    },
}


class Plugin:
    """Calls netd-cni as a runtime would: `config` and `environment` are what calls begin with."""

    def __init__(self, path: Path) -> None:
        self.config: dict[str, Any] = {
            "cniVersion": "1.1.0",
            "name": "net",
            "type": "netd-cni",
            "network": "blue",
            "socket": str(path),
        }
        self.environment = {
            "CNI_CONTAINERID": "box",
            "CNI_NETNS": "/run/netns/box",
            "CNI_IFNAME": "eth0",
        }

    def __call__(self, command: str, env: dict[str, str] | None = None, /, **config: Any) -> Any:
        """The output; what is an error must be one by the specification, and a result none."""
        full = {k: v for k, v in {**self.config, **config}.items() if v is not ...}
        environment = {**self.environment, **(env or {}), "CNI_COMMAND": command}
        code, text = answer(environment, lambda: json.dumps(full).encode())
        output = json.loads(text) if text else None
        assert (code == 0) == (output is None or "code" not in output)
        return output

    def body(self, daemon: Daemon, env: dict[str, str] | None = None, /, **config: Any) -> Any:
        """What an ADD asks the daemon for. An error of it fails the test."""
        daemon.on("POST", "/v1/networks", {}, 200)
        network = "blue" if "network" in self.config and config.get("network") != ... else "net"
        daemon.on("POST", f"/v1/networks/{network}/endpoints", ATTACHED, 201)
        daemon.calls.clear()
        result = self("ADD", env, **config)
        assert "code" not in result, result
        return daemon.calls[-1].body
