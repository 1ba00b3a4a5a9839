"""The daemon from start to stop: the one place that names the concrete classes."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from netd import logs
from netd.api.auth import Authority
from netd.api.metrics import (
    register_addresses,
    register_cluster,
    register_numbers,
    register_registry,
    register_status,
)
from netd.api.server import ApiServer
from netd.cluster.service import ClusterService
from netd.daemon import cni, consul_token, identity
from netd.daemon.config import ConfigError, changes
from netd.daemon.docker import DockerFront
from netd.daemon.page import PageSocket
from netd.daemon.plugins import Plugins
from netd.daemon.registry import RegistryProcess
from netd.daemon.settings import Config
from netd.daemon.settings.parts import cluster_settings, engine_settings
from netd.descriptors import take_all_descriptors
from netd.engine.clock import SystemClock
from netd.engine.core import Engine
from netd.engine.interfaces import KeyListeners, KeyValues, NetworkAuthority, SessionHealth
from netd.engine.settings import Reload, Settings
from netd.etcd.gateway import Gateway
from netd.etcd.keys import EtcdKeys
from netd.etcd.networks import EtcdNetworks
from netd.kernel.linux import LinuxKernel
from netd.model.errors import Unavailable
from netd.runtimes.docker.server import DockerPlugin
from netd.store.sqlite import SqliteStore
from netd.systemd import ServiceManager

log = logging.getLogger(__name__)

# With as many signs of life as this in the watchdog's time, the deadline passes before that does:
# netd ends by itself, and its log says why.
SIGNS_OF_LIFE = 4
PROGRESS_DEADLINE_S = 20.0


class HelperFailed(Exception):
    """Something that the daemon does beside its work has failed; the text says what and how."""


class Daemon:
    """`reload` reads the configuration anew, raising `ConfigError`; `sockets` and
    `docker_sockets` are those that the service manager has opened, none when the daemon opens
    its own. Without `registry` it starts none, whatever is configured.
    """

    def __init__(
        self,
        config: Config,
        *,
        reload: Callable[[], Config],
        manager: ServiceManager,
        sockets: Sequence[socket.socket] = (),
        docker_sockets: Sequence[socket.socket] = (),
        registry: bool = True,
    ) -> None:
        self._config = self._started_with = config
        self._reload = reload
        self._manager = manager
        self._sockets = sockets
        self._docker_sockets = docker_sockets
        self._may_have_registry = registry
        self._consul_token = ""
        self._registry = self._registry_process() if registry else None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. What is in the kernel stays there.

        Raises `NetdError` or OSError when it cannot start, of which `Invalid` says that the
        configuration is wrong, `HelperFailed` when it cannot go on.
        """
        stop = asyncio.Event()
        reload = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, reload.set)

        take_all_descriptors()  # each published port is a held socket
        engine, cluster, kernel = await self._open()
        _spare_the_collector()
        registry = self._registry
        docker = DockerFront(self._config.docker, engine, self._docker_sockets)
        api = self._make_api(engine, docker.plugin)
        offer = cni.Offer(self._config.cni, self._config.api.socket)
        try:
            await cluster.start()
            if registry is not None:
                await registry.adopt()  # before it can call
            await cni.bury(engine, self._config.api.socket)
            await self._listen(api)
            await docker.open()
            await offer.make()
            self._manager.ready(_summary(engine))
            helpers = [
                self._reload_when_asked(reload, engine),
                self._feed_watchdog(engine),
                offer.keep(),
            ]
            if registry is not None:
                helpers.append(registry.keep())
            await work_until(stop, *helpers)
        finally:
            self._manager.stopping()
            log.info("stopping; containers stay connected")
            offer.withdraw()
            engine.end_streams()  # first, so that their readers get the last events
            await docker.close()
            await api.stop()
            if registry is not None:
                registry.leave()
            await engine.stop()
            kernel.close()

    async def _open(self) -> tuple[Engine, ClusterService, LinuxKernel]:
        """Make what the daemon consists of; when one part fails, close the others again."""
        config = self._config
        async with AsyncExitStack() as undo:
            store = await SqliteStore.open(Path(config.state.dir))  # its lock guards the folder
            undo.push_async_callback(store.close)
            await identity.check(store, Path(config.state.dir))
            cluster = await ClusterService.open(cluster_settings(config))
            undo.push_async_callback(cluster.close)
            await identity.remember(store, cluster.id)
            kernel = LinuxKernel(config.node.name, docker_user_hook=config.host.docker_user_hook)
            undo.callback(kernel.close)
            self._consul_token = consul_token.load(config.consul.acl_token_file)
            settings = self._settings_of(config)
            make_keys = partial(keys_in_etcd, config) if config.kv.backend == "etcd" else None
            clock = SystemClock()
            authority = networks_in_etcd(config) if config.kv.networks == "etcd" else None
            engine = await Engine.start(
                kernel, store, clock, settings, cluster, make_keys, authority
            )
            undo.pop_all()
        return engine, cluster, kernel

    def _settings_of(self, config: Config) -> Settings:
        return engine_settings(
            config, registry=self._may_have_registry, management=self._consul_token
        )

    def _make_api(self, engine: Engine, docker: DockerPlugin) -> ApiServer:
        api = self._config.api
        registry = CollectorRegistry()
        register_status(registry, engine.status)
        register_numbers(
            registry,
            lambda: {**engine.counters(), **docker.counters()},
            lambda: {**engine.levels(), **docker.levels()},
        )
        register_cluster(registry, engine.cluster.members, lambda: engine.cluster.health().refused)
        register_addresses(registry, engine.address_levels)
        register_registry(registry, engine.registry)
        authority = Authority.from_names(api.group, api.view_group, api.registry_user)
        if self._registry is not None:
            authority = self._registry.admitted(authority)
        plugins = Plugins(engine, api.socket)
        return ApiServer(engine, authority=authority, registry=registry, plugins=plugins)

    def _registry_process(self) -> RegistryProcess | None:
        """The registry that is to be started, if it is this daemon's to start one."""
        config = self._config
        start = config.registry.start
        if start == "never" or (start == "auto" and self._manager.present):
            return None
        return RegistryProcess(
            config.api.socket,
            Path(config.state.dir),
            config.api.registry_user,
            config.log.level,
            self._page_socket() if config.page.enabled else None,
        )

    def _page_socket(self) -> PageSocket:
        api = self._config.api
        names = (api.group, api.view_group, api.registry_user)
        return PageSocket(Path(api.socket).parent, partial(Authority.from_names, *names))

    async def _listen(self, api: ApiServer) -> None:
        if self._sockets:
            self._page_socket().admit()
            await api.serve(self._sockets[0])
        else:
            await api.start(self._config.api.socket)

    async def _reload_when_asked(self, asked: asyncio.Event, engine: Engine) -> None:
        while True:
            await asked.wait()
            asked.clear()
            self._manager.reloading()
            try:
                new = self._reload()
                await self._take_over(new, engine)
            except (ConfigError, Unavailable) as error:
                engine.reload = msgspec.structs.replace(engine.reload, refused=str(error))
                log.error("configuration not reloaded: %s", error)
            self._manager.ready(_summary(engine))

    async def _take_over(self, new: Config, engine: Engine) -> None:
        applied, _ = changes(self._config, new)
        _, needs_restart = changes(self._started_with, new)
        await engine.configure(self._settings_of(new))
        logs.configure(new.log.level, new.log.format)
        engine.reload = Reload(needs_restart=tuple(needs_restart))
        if needs_restart:
            log.warning("these settings need a restart: %s", ", ".join(needs_restart))
        log.info("configuration reloaded; changed: %s", ", ".join(applied) or "nothing")
        self._config = new

    async def _feed_watchdog(self, engine: Engine) -> None:
        """Tell the service manager that netd works, after seeing that it does."""
        if self._manager.watchdog_s is None:
            return
        while True:
            try:
                async with asyncio.timeout(PROGRESS_DEADLINE_S):
                    await engine.prove_progress()
            except TimeoutError:
                raise HelperFailed(
                    f"the kernel thread has not answered for {PROGRESS_DEADLINE_S:.0f} s"
                ) from None
            self._manager.alive()
            self._manager.status(_summary(engine))
            await asyncio.sleep(self._manager.watchdog_s / SIGNS_OF_LIFE)


def keys_in_etcd(config: Config, listeners: KeyListeners, health: SessionHealth) -> KeyValues:
    """Keys, sessions and locks where `kv.etcd` says."""
    gateway = Gateway(config.kv.etcd)
    return EtcdKeys(gateway, SystemClock(), listeners, health, node=config.node.name)


def networks_in_etcd(config: Config) -> NetworkAuthority:
    """Which networks span hosts is decided where `kv.etcd` says."""
    return EtcdNetworks(Gateway(config.kv.etcd))


async def work_until(stop: asyncio.Event, *helpers: Coroutine[Any, Any, None]) -> None:
    """Let `helpers` work until `stop`. Raises `HelperFailed` as soon as one of them fails."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(helper) for helper in helpers]
            await stop.wait()
            for task in running:
                task.cancel()
    except ExceptionGroup as group:
        error = group.exceptions[0]
        if isinstance(error, HelperFailed):
            raise error from None
        raise HelperFailed(f"{type(error).__name__}: {error}") from error


def _spare_the_collector() -> None:
    """What is loaded by now lives as long as the daemon, and what comes later holds no cycles
    but those of failed calls: look for them less often than for a program that makes many.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


def _summary(engine: Engine) -> str:
    status = engine.status()
    return (
        f"{status.networks} networks, {status.endpoints} endpoints, {status.drift} drift, "
        f"{status.members} members"
    )
