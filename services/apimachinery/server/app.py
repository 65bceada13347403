"""An API server put together: etcd, caches, pipeline, both doors, the server's own controllers.

    class Settings(ApiServerSettings): ...                       # a service's further settings

    server = ApiServer(
        settings,
        [define(Network, hooks=NetworkHooks(), allocator=NetworkIds()), define(NetworkInterface), ...],
        title="ferrite-net",
        authorizer=lambda resources: DelegatedAuthorizer(core),  # or RbacAuthorizer: rights are stored here
        admission=lambda resources: [RemoteNamespaces(core)],
    )
    async with server.running():
        await until_signal()

While it runs, `server.rest_address` and `server.grpc_address` tell where, and `server.loopback` is how in-process
controllers read and write. Servers keep nothing but caches: any number of them may share a prefix.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from services.apimachinery.errors import ApiError
from services.apimachinery.schema.columns import missing_renderers
from services.apimachinery.server.admission import Admission
from services.apimachinery.server.auth.authorizer import AllowAll, Authorizer
from services.apimachinery.server.auth.identity import TokenAuthenticator
from services.apimachinery.server.door import Identities
from services.apimachinery.server.grpc.handler import ResourceHandler
from services.apimachinery.server.grpc.methods import service_names
from services.apimachinery.server.loopback import Loopback
from services.apimachinery.server.pipeline import Pipeline
from services.apimachinery.server.registry import Resources, build
from services.apimachinery.server.resource import Definition
from services.apimachinery.server.rest.application import RestApplication
from services.apimachinery.server.settings import ApiServerSettings
from services.apimachinery.store.compaction import compact_for_ever
from services.apimachinery.store.etcd import Etcd
from services.apimachinery.store.value import Encryption
from services.common.grpc_server import grpc_server
from services.common.logs import get_logger
from services.common.tasks import Backoff

log = get_logger(__name__)

DRAIN_SECONDS = 5.0

Task = Callable[[Loopback], Awaitable[None]]


class ApiServer:
    """One server process. Raises ValueError for settings or kinds that don't fit together, OSError for unreadable
    files.

    `preparations` are tried until they have succeeded once; before, both doors are open but answer that the server is
    starting. `tasks` run for ever beside the doors (garbage collection, namespace lifecycle). Each gets the loopback.
    """

    def __init__(
        self,
        settings: ApiServerSettings,
        definitions: Sequence[Definition],
        *,
        title: str = "ferrite",
        authorizer: Callable[[Resources], Authorizer] | None = None,
        admission: Callable[[Resources], Sequence[Admission]] = lambda resources: (),
        tokens: TokenAuthenticator | None = None,
        preparations: Sequence[Task] = (),
        tasks: Sequence[Task] = (),
    ) -> None:
        self._settings, self._title, self._preparations, self._tasks = settings, title, preparations, tasks
        self._tls = settings.server_tls()
        keys = settings.encryption_keys()
        encryption = Encryption.read(keys) if keys else None
        if encryption is None and not settings.insecure and any(item.encrypted for item in definitions):
            raise ValueError(
                "encryption-key-file is required: Secrets are encrypted at rest (or --insecure, for tests)"
            )
        if authorizer is None and not settings.insecure:
            raise ValueError("a server without an authorizer is insecure")
        self._etcd = Etcd(settings.etcd_prefix, settings.etcd())
        self.resources = build(definitions, self._etcd, encryption)
        _check_columns(self.resources)
        self.authorizer = authorizer(self.resources) if authorizer and not settings.insecure else AllowAll()
        self.pipeline = Pipeline(self.authorizer, admission(self.resources))
        self._prepared = asyncio.Event()
        if preparations:
            self.pipeline.starting = "the server is starting: the objects of the system are not there yet"
        else:
            self._prepared.set()
        self.loopback = Loopback(self.pipeline, self.resources)
        self._identities = Identities(tokens, open_to_all=self._tls is None)
        self._rest = RestApplication(self.pipeline, self.resources, self._identities, self.problem, title)
        self.rest_address = self.grpc_address = ""

    async def problem(self) -> str:
        """What keeps the server from doing its work; empty when all is well."""
        try:
            await self._etcd.get(self._etcd.index_key(""))
            for storage in self.resources.storages():
                await storage.cache.ready(timeout=0.05)
        except ApiError as error:
            return error.message
        return self.pipeline.starting

    async def prepared(self) -> None:
        """Returns when the server answers others."""
        await self._prepared.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ApiServer]:
        """Serves while the context is open. Raises OSError or RuntimeError when an address can't be had."""
        settings = self._settings
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(storage.cache.run(), name=f"cache of {storage.kind}")
                for storage in self.resources.storages()
            ]
            if settings.compaction_interval:
                compaction = compact_for_ever(self._etcd, settings.compaction_interval, settings.compaction_keep)
                background.append(group.create_task(compaction, name="compaction"))
            if self._preparations:
                background.append(group.create_task(self._prepare(), name="preparations"))
            background += [group.create_task(_run(task, self.loopback), name="controller") for task in self._tasks]
            handler = ResourceHandler(self.pipeline, self.resources, self._identities.of_call)
            names = service_names(self.resources)
            try:
                async with (
                    self._rest_door() as self.rest_address,
                    grpc_server(
                        settings.grpc_listen,
                        names,
                        lambda server: server.add_generic_rpc_handlers((handler,)),
                        tls=self._tls,
                        traced=False,
                    ) as self.grpc_address,
                ):
                    log.info("server started", rest=self.rest_address, grpc=self.grpc_address)
                    try:
                        yield self
                    finally:
                        # Else both doors would wait for clients that have no reason to go.
                        for storage in self.resources.storages():
                            storage.cache.end_watches()
            finally:
                for task in background:
                    task.cancel()
                await self._etcd.close()

    async def _prepare(self) -> None:
        backoff = Backoff(first=0.2, limit=5.0)
        while not self._prepared.is_set():
            try:
                for step in self._preparations:
                    await step(self.loopback)
                # Rights and namespaces are looked up in the caches.
                for storage in self.resources.storages():
                    await storage.cache.fresh()
                self.pipeline.starting = ""
                self._prepared.set()
            except Exception as error:
                log.warning("preparation failed", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(backoff.next())

    @asynccontextmanager
    async def _rest_door(self) -> AsyncIterator[str]:
        host, _, port = self._settings.https_listen.rpartition(":")
        if not port.isdecimal():
            raise ValueError(f"https-listen {self._settings.https_listen!r} is not host:port")
        runner = web.AppRunner(
            self._rest.application(), access_log=None, handler_cancellation=True, shutdown_timeout=DRAIN_SECONDS
        )
        await runner.setup()
        context = self._tls.server_context() if self._tls else None
        try:
            site = web.TCPSite(runner, host.strip("[]") or None, int(port), ssl_context=context)
            await site.start()
            yield f"{host}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def _check_columns(resources: Resources) -> None:
    for resource in resources:
        if missing := missing_renderers(resource.kind, resource.renderers):
            raise ValueError(f"{resource.kind}: nobody renders the columns' {', '.join(missing)}")


async def _run(task: Task, loopback: Loopback) -> None:
    await task(loopback)
