"""Two hosts of `docker_engine.py` whose daemons are a cluster."""

import os
import tempfile
from base64 import b64encode
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from tests.interop.docker_engine import DockerHost


def new_folder(stack: ExitStack) -> Path:
    """One that the registry's user can reach. Pytest's are not: whoever else starts pytest on this
    machine closes the folder that they are all in.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netd-pair-")))
    folder.chmod(0o755)
    return folder


def start_cluster(hosts: Iterable[DockerHost]) -> tuple[str, ...]:
    """Start the daemons and join them; the flags that each was started with."""
    first, *others = hosts
    key = first.folder / "cluster.key"
    key.touch(mode=0o600)
    key.write_bytes(b64encode(os.urandom(32)) + b"\n")
    flags = ("--cluster-key", str(key), "--profile", "fast")
    for host in (first, *others):
        host.registry = True
        host.launch(*flags)
    for host in (first, *others):
        host.await_ready()
    first.client.join([host.ADDRESS for host in others])
    return flags
