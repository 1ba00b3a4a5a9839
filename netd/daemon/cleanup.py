"""`netd cleanup`: take back all that netd has made in the kernel."""

from pathlib import Path

from netd.daemon.cni import Offer
from netd.daemon.registry import end_left_over
from netd.daemon.settings import Config
from netd.engine.host import SYSCTL_BEFORE
from netd.engine.intent import Intent
from netd.engine.interfaces import Scope
from netd.kernel.foreign import DockerUserHook
from netd.kernel.linux import LinuxKernel
from netd.plan.diff import diff
from netd.plan.objects import HOST_OWNER, Object, Sysctl
from netd.plan.operations import Operation
from netd.store.sqlite import SqliteStore


async def clean_up(config: Config) -> list[str]:
    """Remove links, addresses, routes and the nft table; set sysctls back to what they were; end
    a registry that a netd has left; have runtimes find no configuration of netd's.

    The daemon must not run (its state folder is locked while it does: `Unavailable`). What is
    wanted stays in the store: the next start makes it again. Returns what was done, in lines.
    """
    state_dir = Path(config.state.dir)
    store = await SqliteStore.open(state_dir)
    kernel = LinuxKernel(config.node.name)
    try:
        snapshot = await store.load()
        intent = Intent(quarantine_s=0)
        for network in snapshot.networks:
            intent.add_network(network)
        for record in snapshot.endpoints:
            intent.add_endpoint(record)
        sandboxes = {r.sandbox.key: r.sandbox for r in snapshot.endpoints if r.sandbox is not None}
        seen = await kernel.observe(Scope(sandboxes=sandboxes, wanted=intent.desired.state))
        operations = diff({}, seen.state) + [
            Operation(verb="change", object=obj, reason="as it was before netd")
            for obj in _sysctls_before(dict(snapshot.facts))
        ]
        failures = await kernel.apply(operations, sandboxes)
        await kernel.reap()
        hooks = DockerUserHook().remove()
        failed = {failure.operation for failure in failures}
        done = [f"done: {op.text()}" for op in operations if op not in failed]
        if await end_left_over(state_dir):
            done.append("done: end the registry")
        if Offer(config.cni, config.api.socket).remove():
            done.append(f"done: remove {config.cni.conflist}")
        if hooks:
            done.append(f"done: delete {hooks} rules of netd from DOCKER-USER")
        return done + [f"failed: {failure.text()}" for failure in failures]
    finally:
        kernel.close()
        await store.close()


def _sysctls_before(facts: dict[str, str]) -> list[Object]:
    return [
        Sysctl(owner=HOST_OWNER, name=key.removeprefix(SYSCTL_BEFORE), value=value)
        for key, value in facts.items()
        if key.startswith(SYSCTL_BEFORE) and value
    ]
