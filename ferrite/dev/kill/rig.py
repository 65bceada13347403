"""The cluster under harm with all that looks at it: guests that ping, a writer, monitors."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from ferrite.dev import cluster, demo
from ferrite.dev.kill import harm, objects, survey
from ferrite.dev.kill.inventory import Inventory
from ferrite.dev.kill.monitors import KubectlWatch, PingCapture, RouteMonitor
from ferrite.dev.kill.writer import Writer
from ferrite.dev.observe import Observer, View, is_ready
from ferrite.dev.plan import ClusterPlan, Member
from ferrite.dev.services import apis
from services.apimachinery.client.grpc import GrpcClient

READY_SECONDS: Final = 120.0
WRITE_SECONDS: Final = 6.0
LOOK_SECONDS: Final = 0.25
GUEST: Final = "vm-1"


@dataclass
class Rig:
    """Everything a case needs. `before` is what there was when only the two guests ran."""

    plan: ClusterPlan
    observer: Observer
    client: GrpcClient
    writer: Writer
    pings: PingCapture
    routes: RouteMonitor
    watch: KubectlWatch
    before: Inventory

    async def until(self, holds: Callable[[View], bool], seconds: float) -> float | None:
        """Looks until it holds; after how many seconds, None when it did not in that time."""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            view = await self.observer.look()
            if not view.problem and holds(view):
                return time.monotonic() - started
            await asyncio.sleep(LOOK_SECONDS)
        return None


async def eventually(holds: Callable[[], bool], seconds: float) -> float | None:
    """Waits until it holds; after how many seconds, None when it did not in that time."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > seconds:
            return None
        await asyncio.sleep(0.05)
    return time.monotonic() - started


@contextlib.asynccontextmanager
async def running(plan: ClusterPlan, tell: Callable[[str], None]) -> AsyncIterator[Rig]:
    """Brings the cluster up with two guests that ping. Raises RuntimeError when they don't come."""
    await asyncio.to_thread(cluster.up, plan, tell, harm.small_disks)
    tls = cluster.admin_tls(plan)
    async with contextlib.AsyncExitStack() as stack:
        observer = Observer(plan)
        stack.push_async_callback(observer.close)
        client = GrpcClient(apis(plan)["core"].grpc, tls=tls, manager="ferrite-kill", deadline=WRITE_SECONDS)
        stack.push_async_callback(client.close)
        view = await _guests(plan, observer, tell)
        routes = RouteMonitor(plan)
        stack.push_async_callback(routes.close)
        node, device = _port(plan, view)
        pings = stack.enter_context(PingCapture(node, device, plan.logs / "pings.txt"))
        before = await _settled(lambda: survey.take(plan, routes))
        wanted = await routes.routes()
        writer = Writer(client, [hypervisor.name for hypervisor in plan.hypervisors])
        watch = KubectlWatch(plan)
        await stack.enter_async_context(_background(kubectl=watch.run(), routes=routes.run(wanted)))
        yield Rig(plan, observer, client, writer, pings, routes, watch, before)


async def _guests(plan: ClusterPlan, observer: Observer, tell: Callable[[str], None]) -> View:
    await _wait(observer, lambda view: is_ready(view, plan), "the cluster is ready")
    tell("applying two guests")
    manifests = objects.with_pings(demo.manifests(plan))
    await asyncio.to_thread(demo.kubectl, plan, "apply", "-f", "-", body=manifests)
    found = await _wait(
        observer,
        lambda view: all(view.console(name, rf"ping {_peer(name)} ok") for name in objects.GUESTS),
        "the guests ping each other",
    )
    tell("the guests ping each other")
    return found


async def _wait(observer: Observer, holds: Callable[[View], bool], what: str) -> View:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        view = await observer.look()
        if not view.problem and holds(view):
            return view
        await asyncio.sleep(LOOK_SECONDS)
    raise RuntimeError(f"not so within {READY_SECONDS:.0f} s: {what} ({view.problem or 'see the logs'})")


async def _settled(look: Callable[[], Awaitable[Inventory]]) -> Inventory:
    """Looks until two looks agree."""
    before, now = await look(), await look()
    while before != now:
        await asyncio.sleep(LOOK_SECONDS)
        before, now = now, await look()
    return now


def _port(plan: ClusterPlan, view: View) -> tuple[Member, str]:
    interface = view.interface_of(GUEST)
    if interface is None:
        raise RuntimeError(f"{GUEST} has no interface")
    pool = view.machines[GUEST].spec.machine_pool_ref.name
    return next(node for node in plan.hypervisors if node.name == pool), interface.status.tap_device.name


def _peer(name: str) -> str:
    return next(address for peer, address in objects.GUESTS.items() if peer != name)


@contextlib.asynccontextmanager
async def _background(**work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Endless work for as long as the context is open. Raises at the end what made any of it end before."""
    tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in work.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome
