"""What containers and hosts are asked when it matters who reaches whom."""

from tests.e2e.lab import Namespace


def answers(host: Namespace, url: str) -> bool:
    """Whether a web server of busybox, which has no pages, is there for the host."""
    said = host.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url, check=False)
    return said == "404"
