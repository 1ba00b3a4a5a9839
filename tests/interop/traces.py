"""What is left on a host of an engine's networks and containers."""

from typing import Any

from tests.interop.docker_engine import DockerHost


def traces(host: DockerHost) -> tuple[Any, ...]:
    """Links, netd's records, its rules, and what it would change."""
    rules = host.run("nft", "--stateless", "list", "ruleset")
    return (
        sorted(link for link in host.links() if not link.startswith(("docker", "veth"))),
        [network["name"] for network in host.client.networks()],
        host.client.endpoints(),
        sorted(line.strip() for line in rules.splitlines() if "comment" in line),
        host.plan(),
    )
