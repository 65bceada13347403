"""One case of the matrix: the harm is done, a machine is applied meanwhile, and everything is looked at."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ferrite.dev import cluster
from ferrite.dev.kill import harm, objects, survey
from ferrite.dev.kill.matrix import STOP_SECONDS, Case, Harm
from ferrite.dev.kill.rig import Rig, eventually
from ferrite.dev.kill.writer import Refusal
from ferrite.dev.observe import View
from ferrite.dev.verify import Checks
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.k8s.core.v1.event_pb2 import Event
from services.apimachinery.errors import ApiError, Timeout, TooManyRequests, Unavailable

BACK_SECONDS: Final = 30.0
RUNNING_SECONDS: Final = 60.0
WATCH_SECONDS: Final = 15.0
REPLY_SECONDS: Final = 1.5
REFUSED_SECONDS: Final = 60.0
EXPLAINED_SECONDS: Final = 30.0
SLOWEST_REFUSAL_SECONDS: Final = 10.0
FULL_SECONDS: Final = 10.0
# What a client may be told when the store or a server is away: try again later.
CLEAR: Final = (Unavailable, Timeout, TooManyRequests)


class Trial:
    """Runs one case."""

    def __init__(self, rig: Rig, case: Case, checks: Checks) -> None:
        self._rig, self._case, self._checks = rig, case, checks
        self._machine = f"out-{case.name}"
        self._began = time.time()
        self._restarts = _restarts(rig)

    async def run(self) -> None:
        """Does harm, ends it, checks."""
        harms: dict[Harm, Callable[[], Awaitable[None]]] = {
            Harm.KILL: self._kill,
            Harm.KILL_GUESTS: self._kill,
            Harm.STOP: self._stop,
            Harm.FULL_DISK: self._fill,
            Harm.QUOTA: self._exhaust,
        }
        await harms[self._case.harm]()
        await self._machine_comes_up()
        await self._others_lived()
        if self._case.harm is Harm.KILL_GUESTS:
            await self._guest_is_back()
        await self._pings_went_on()
        self._routes_stayed()
        self._errors_were_clear()
        await self._kubectl_saw_it()
        await self._nothing_was_lost()
        await self._rig.writer.delete(Machine, self._machine)

    async def _kill(self) -> None:
        rig, case = self._rig, self._case
        targets = list(harm.pids(rig.plan, case.victims).values())
        if case.harm is Harm.KILL_GUESTS:
            targets += harm.guests(rig.plan, case.node)
        harm.send(targets, signal.SIGKILL)
        applying = asyncio.create_task(self._apply())
        took = await eventually(self._are_back, BACK_SECONDS)
        self._that(took is not None, "started again", f"after {took or 0:.1f} s")
        await applying

    def _are_back(self) -> bool:
        now = _restarts(self._rig)
        return all(now[victim] > self._restarts[victim] for victim in self._case.victims)

    async def _stop(self) -> None:
        targets = list(harm.pids(self._rig.plan, self._case.victims).values())
        harm.send(targets, signal.SIGSTOP)
        try:
            applying = asyncio.create_task(self._apply())
            await asyncio.sleep(STOP_SECONDS)
        finally:
            harm.send(targets, signal.SIGCONT)
        await applying

    async def _fill(self) -> None:
        plan = self._rig.plan
        if self._case.victims == ("etcd",):
            with harm.full(plan.state / "etcd"):
                applying = asyncio.create_task(self._apply())
                await self._refused()
                await asyncio.sleep(FULL_SECONDS)
            await applying
            return
        with harm.full(plan.state / self._case.node / "provider"):
            await self._apply()
            await self._is_explained("space")
            await self._is_not_half_applied()

    async def _exhaust(self) -> None:
        """etcd's quota: one object, written again and again, fills the store with old versions of it."""
        refused = await self._refused()
        applying = asyncio.create_task(self._apply())
        alarms = await asyncio.to_thread(harm.etcdctl, self._rig.plan, "alarm", "list")
        self._that("NOSPACE" in alarms, "etcd raised its alarm", alarms.strip() or "no alarm")
        self._that("space" in str(refused).lower(), "the refusal names the cause", str(refused))
        view = await self._rig.observer.look()
        self._that(not view.problem, "reads go on", view.problem or f"{len(view.machines)} machines listed")
        await asyncio.to_thread(harm.reclaim, self._rig.plan)
        await applying

    async def _refused(self) -> ApiError | None:
        """Writes until the server refuses; what it says, None when it never did."""
        deadline = time.monotonic() + REFUSED_SECONDS
        refused = None
        while refused is None and time.monotonic() < deadline:
            try:
                await self._rig.client.apply(objects.big_secret(), "ferrite-kill")
            except ApiError as error:
                refused = error
                self._rig.writer.refusals.append(Refusal(time.time(), 0.0, error))
        self._that(refused is not None, "a write is refused, not lost", f"{type(refused).__name__}: {refused}")
        return refused

    async def _apply(self) -> None:
        await self._rig.writer.create(objects.machine(self._machine, self._case.node))

    async def _machine_comes_up(self) -> None:
        def is_up(view: View) -> bool:
            machine = view.machines.get(self._machine)
            return machine is not None and machine.status.state == "Running"

        took = await self._rig.until(is_up, RUNNING_SECONDS)
        why = "" if took is not None else await self._why()
        self._that(
            took is not None, "a machine applied meanwhile runs", f"{took:.1f} s later" if took is not None else why
        )

    async def _why(self) -> str:
        """What the API tells about the machine, for a person."""
        try:
            machine = await self._rig.client.get(Machine, self._machine, objects.NAMESPACE)
            chosen = f"involvedObject.name={self._machine}"
            events = (await self._rig.client.list(Event, objects.NAMESPACE, fields=chosen)).items
        except ApiError as error:
            return str(error)
        conditions = "; ".join(f"{c.type}={c.status} {c.reason}: {c.message}" for c in machine.status.conditions)
        return f"{machine.status.state} on {machine.spec.machine_pool_ref.name}; {conditions}; " + "; ".join(
            f"{event.reason}: {event.message}" for event in events
        )

    async def _is_explained(self, word: str) -> None:
        deadline = time.monotonic() + EXPLAINED_SECONDS
        why = ""
        while word not in why.lower() and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            why = await self._why()
        told = why if word not in why.lower() else why[:160]
        self._that(word in why.lower(), "the user is told why the machine waits", told)

    async def _is_not_half_applied(self) -> None:
        view = await self._rig.observer.look()
        node = next(member for member in self._rig.plan.hypervisors if member.name == self._case.node)
        left = survey.half_applied(self._rig.plan, node, view.machines[self._machine].metadata.uid)
        self._that(not left, "nothing is half-applied", ", ".join(left) or "no domain, record or draft")

    async def _others_lived(self) -> None:
        now = _restarts(self._rig)
        died = [name for name in now if now[name] > self._restarts.get(name, 0) and name not in self._case.victims]
        self._that(not died, "no other process ended", ", ".join(died) or f"{len(now)} go on")

    async def _pings_went_on(self) -> None:
        allowed = self._case.lost_packets
        if allowed is None:
            return
        end = time.time()
        await asyncio.sleep(REPLY_SECONDS)
        tally = self._rig.pings.refresh().tally(self._began, end)
        lost = f" ({', '.join(f'{when - self._began:.1f} s' for when in tally.lost[:5])})" if tally.lost else ""
        detail = f"{tally.sent} sent, {len(tally.lost)} lost{lost}, slowest {tally.slowest * 1000:.0f} ms"
        enough = tally.sent > (end - self._began) / objects.PING_SECONDS / 2
        self._that(enough and len(tally.lost) <= allowed, f"pings go on, at most {allowed} lost", detail)

    async def _guest_is_back(self) -> None:
        names = list(objects.GUESTS)

        def all_ping(view: View) -> bool:
            return all(_last_ping_is_ok(view.consoles.get(name, "")) for name in names)

        await asyncio.sleep(REPLY_SECONDS)
        took = await self._rig.until(all_ping, RUNNING_SECONDS)
        self._that(took is not None, "the guests boot again and ping", f"{took or 0:.1f} s later")

    def _routes_stayed(self) -> None:
        gaps = [gap for gap in self._rig.routes.gaps if gap.when >= self._began]
        text = "; ".join(
            f"{gap.node} after {gap.when - self._began:.1f} s: {', '.join(gap.missing)}" for gap in gaps[:3]
        )
        self._that(not gaps, "no route was withdrawn", text or f"{self._rig.routes.looks} looks")

    def _errors_were_clear(self) -> None:
        refusals = [refusal for refusal in self._rig.writer.refusals if refusal.when >= self._began]
        bad = [
            f"{type(refusal.error).__name__}: {refusal.error} after {refusal.seconds:.1f} s"
            for refusal in refusals
            if not isinstance(refusal.error, CLEAR) or refusal.seconds > SLOWEST_REFUSAL_SECONDS
        ]
        kinds = sorted({f"{type(refusal.error).__name__}: {refusal.error}"[:90] for refusal in refusals})
        self._that(not bad, "refused writes say: try again", "; ".join(bad[:3]) or f"{len(refusals)} refused {kinds}")

    async def _kubectl_saw_it(self) -> None:
        await eventually(lambda: self._machine in self._rig.watch.seen, WATCH_SECONDS)
        ends = [said for when, said in self._rig.watch.ends if when >= self._began]
        saw = self._machine in self._rig.watch.seen
        if self._case.ends_watches:
            fine, what = saw and not any(ends), "kubectl get -w ends without an error and goes on when started again"
        else:
            fine, what = saw and not ends, "kubectl get -w goes on"
        self._that(
            fine, what, f"{'saw' if saw else 'did not see'} the machine; ended {len(ends)} times {' '.join(ends)}"
        )

    async def _nothing_was_lost(self) -> None:
        lies = await self._rig.writer.lies()
        known = len(self._rig.writer.ledger.created)
        self._that(not lies, "no acknowledged write is lost", "; ".join(lies[:3]) or f"{known} objects as written")
        double = survey.double(self._rig.plan, await self._rig.observer.look())
        self._that(not double, "no address, VNI, image, domain or device twice", "; ".join(double[:3]) or "none")

    def _that(self, holds: bool, what: str, detail: str) -> None:
        self._checks.that(holds, f"{self._case.name}: {what}", detail)


def _restarts(rig: Rig) -> dict[str, int]:
    return {name: entry["restarts"] for name, entry in cluster.status(rig.plan).items()}


def _last_ping_is_ok(console: str) -> bool:
    """Whether the guest has reached its peer since it booted last, and its last word on it is not a loss."""
    pings = [line for line in console.rpartition("booted")[2].splitlines() if " ping 10." in line]
    return any(" ok " in line for line in pings) and not pings[-1].endswith("lost")
