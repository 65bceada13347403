"""NetworkInterface → a device, an interface in the data plane, announced routes; its status tells what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from protos.metalnet.v1alpha1.network_interface_pb2 import NetworkInterface, NetworkInterfaceStatus
from protos.metalnet.v1alpha1.network_pb2 import Network
from services.apimachinery.client.objects import Key, is_deleting, key_of
from services.apimachinery.errors import ApiError, NotFound
from services.apimachinery.runtime.conditions import find_condition
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler, Waiting
from services.apimachinery.runtime.recorder import NORMAL, WARNING
from services.apimachinery.runtime.schedule import RetryPolicy
from services.common.logs import get_logger
from services.metalnet.agent.bond import Announcer
from services.metalnet.agent.dataplane import (
    DEVICE_IN_USE,
    ROUTE_EXISTS,
    Dataplane,
    DataplaneUnavailable,
    NotInitialized,
    NotSupported,
    Refused,
)
from services.metalnet.agent.lifetime import DataplaneLifetime
from services.metalnet.agent.routes import RouteInstaller
from services.metalnet.claims import DeviceClaims
from services.metalnet.model import status as report
from services.metalnet.model.announcements import announcements
from services.metalnet.model.devices import Device, PoolExhausted
from services.metalnet.model.names import INTERFACE_FINALIZER as FINALIZER
from services.metalnet.model.overlay import InterfaceId, Port, Prefix, Rates, UnderlayAddress, Vni, Wanted
from services.metalnet.model.status import Aspect
from services.metalnet.model.wanted import Unusable, not_carried_out, wanted_interface

log = get_logger(__name__)

DATAPLANE_UNAVAILABLE: Final = "DataplaneUnavailable"


class NetworkInterfaceReconciler(Reconciler):
    """One NetworkInterface of this node at a time."""

    deadline: ClassVar[float] = 60.0

    def __init__(
        self,
        manager: Manager,
        node: str,
        dataplane: Dataplane,
        lifetime: DataplaneLifetime,
        claims: DeviceClaims,
        announcer: Announcer,
        routes: RouteInstaller,
        *,
        public_vni: Vni,
        ipv6: bool,
    ) -> None:
        super().__init__("metalnet-networkinterface", workers=4, retries=RetryPolicy(first=0.1, limit=30.0))
        self._client = manager.client
        self._dataplane, self._lifetime, self._claims = dataplane, lifetime, claims
        self._announcer, self._routes = announcer, routes
        self._public_vni, self._ipv6 = public_vni, ipv6
        self._events = manager.recorder("metalnet-agent")
        self._nics = manager.informer(NetworkInterface, fields=f"spec.nodeName={node}")
        self._nics.index("network", lambda nic: [str(Key(nic.metadata.namespace, nic.spec.network_ref.name))])
        self._networks = manager.informer(Network)
        self.watch(self._nics)
        self.watch(self._networks, self._in_network)

    async def reconcile(self, key: Key) -> float | None:
        """Realises the interface, or lets it go."""
        if self._lifetime.problem:
            raise Waiting(report.PROGRAMMED, DATAPLANE_UNAVAILABLE, self._lifetime.problem)
        try:
            await self._reconcile(key)
        except (DataplaneUnavailable, NotInitialized) as error:
            self._lifetime.suspect()
            raise Waiting(report.PROGRAMMED, DATAPLANE_UNAVAILABLE, str(error), retry_after=1.0) from error
        return None

    async def on_waiting(self, key: Key, wait: Waiting) -> None:
        """Tells what it waits for. An interface that works goes on working while the data plane's door is closed."""
        nic = self._nics.get(key.name, key.namespace)
        if nic is None or (nic.status.state == "Ready" and wait.reason == DATAPLANE_UNAVAILABLE):
            return
        aspect = Aspect(wait.type, False, wait.reason, wait.message)
        await self._report(nic, report.unfinished(nic, "Pending", aspect))

    async def on_error(self, key: Key, error: Exception) -> None:
        """Tells what failed, unless that is the API itself: then nothing is wrong with the interface."""
        nic = self._nics.get(key.name, key.namespace)
        if nic is None or isinstance(error, ApiError):
            return
        reason = "Refused" if isinstance(error, Refused) else type(error).__name__
        await self._report(nic, report.unfinished(nic, "Error", Aspect(report.PROGRAMMED, False, reason, str(error))))

    def wake_all(self) -> None:
        """Looks at every interface again."""
        for nic in self._nics.items():
            self.queue.add(key_of(nic))

    async def take_over(self) -> None:
        """At the beginning of each life of the data plane's state: announces what is there already, before anything
        else is known. After a restart of the agent the routes of its interfaces must not run out."""
        ports = [port for port in await self._dataplane.interfaces() if self._is_ours(port)]
        for port in ports:
            prefixes = await self._present_prefixes(port.id)
            self._announcer.announce(port.id, announcements(port, prefixes, self._public_vni))
        self._routes.look_again(port.vni for port in ports)

    async def sweep(self) -> None:
        """Removes interfaces on our devices that nobody wants any more."""
        if not self._nics.is_synced:
            return
        known = {nic.metadata.uid for nic in self._nics.items()}
        ports = [port for port in await self._dataplane.interfaces() if self._is_ours(port)]
        for owner in {port.id for port in ports} | self._announcer.owners:
            if owner not in known:
                log.info("interface was swept", interface=owner)
                await self._release(owner)

    async def _reconcile(self, key: Key) -> None:
        nic = self._nics.get(key.name, key.namespace)
        if nic is None:
            await self.sweep()
            return
        if is_deleting(nic):
            await self._release(InterfaceId(nic.metadata.uid))
            if has_finalizer(nic, FINALIZER):
                await remove_finalizer(self._client, nic, FINALIZER)
            return
        nic = await ensure_finalizer(self._client, nic, FINALIZER)
        try:
            wanted = self._wanted(nic)
        except Unusable as error:
            await self._report(nic, report.unfinished(nic, "Error", Aspect(report.READY, False, "Invalid", str(error))))
            return
        device = await self._ensure_device(wanted)
        port = await self._ensure_port(nic, wanted, device)
        prefixes, problem = await self._ensure_prefixes(wanted)
        self._announcer.announce(wanted.id, announcements(port, prefixes, self._public_vni))
        await self._remove_prefixes(wanted)
        aspects = [
            Aspect(report.DEVICE, True, "Claimed", f"{device.name} ({device.port})"),
            report.programmed(port),
            *self._announced(),
            *self._extras(nic, wanted, port, problem),
        ]
        await self._report(nic, report.finished(nic, device, aspects, prefixes))

    def _wanted(self, nic: NetworkInterface) -> Wanted:
        name = nic.spec.network_ref.name
        network = self._networks.get(name, nic.metadata.namespace)
        if network is None:
            message = f"network {name} does not exist in namespace {nic.metadata.namespace}"
            raise Waiting(report.READY, "NetworkNotFound", message)
        return wanted_interface(nic, network.spec, ipv6=self._ipv6)

    async def _ensure_device(self, wanted: Wanted) -> Device:
        try:
            return await self._claims.claim(wanted.id)
        except PoolExhausted as error:
            raise Waiting(report.DEVICE, "NoFreeDevice", f"{error}; one is freed by deleting an interface") from error

    async def _ensure_port(self, nic: NetworkInterface, wanted: Wanted, device: Device) -> Port:
        port = await self._dataplane.interface(wanted.id)
        if port is not None and port.serves(wanted, device.port):
            self._routes.own(wanted)
            return port
        if nic.status.state == "Ready":
            change = Aspect(report.PROGRAMMED, False, "Recreating", "the data plane gets the interface anew")
            await self._report(nic, report.unfinished(nic, "Pending", change))
        try:
            if port is not None:
                await self._delete_port(port)
            async with self._routes.changing(wanted.vni):
                await self._routes.make_room(wanted)
                await self._dataplane.create_interface(wanted, device.port)
        except Refused as refusal:
            self._announcer.withdraw(wanted.id)
            await self._raise_wait(refusal, wanted, device)
            raise
        made = await self._dataplane.interface(wanted.id)
        if made is None:
            raise DataplaneUnavailable(f"interface {wanted.id} is gone right after it was made")
        log.info("interface made", interface=wanted.id, vni=wanted.vni, device=device.name, underlay=str(made.underlay))
        return made

    async def _raise_wait(self, refusal: Refused, wanted: Wanted, device: Device) -> None:
        """Waits where somebody else has to move first."""
        if refusal.code == DEVICE_IN_USE:
            await self.sweep()
            message = f"{device.name} is in use by another interface of the data plane"
            raise Waiting(report.PROGRAMMED, "DeviceInUse", message, retry_after=1.0) from refusal
        if refusal.code == ROUTE_EXISTS:
            addresses = " or ".join(str(prefix.network_address) for prefix in wanted.hosts)
            message = f"another interface of this node has {addresses} in VNI {wanted.vni}"
            raise Waiting(report.PROGRAMMED, "AddressInUse", message, retry_after=5.0) from refusal

    async def _delete_port(self, port: Port) -> None:
        async with self._routes.changing(port.vni):
            for prefix in await self._present_prefixes(port.id):
                await self._dataplane.delete_prefix(port.id, prefix)
            await self._dataplane.delete_interface(port.id)
            self._routes.disown(port.id)

    async def _ensure_prefixes(self, wanted: Wanted) -> tuple[dict[Prefix, UnderlayAddress], str]:
        """The wanted prefixes that are there, and why others are not."""
        if not wanted.prefixes:
            return {}, ""
        present: dict[Prefix, UnderlayAddress] = {}
        try:
            present = await self._dataplane.prefixes(wanted.id)
            missing = [prefix for prefix in wanted.prefixes if prefix not in present]
            if missing:
                async with self._routes.changing(wanted.vni):
                    await self._routes.make_room(wanted)
                    for prefix in missing:
                        present[prefix] = await self._dataplane.create_prefix(wanted.id, prefix)
        except (NotSupported, Refused) as error:
            return _only(wanted, present), str(error)
        return _only(wanted, present), ""

    async def _remove_prefixes(self, wanted: Wanted) -> None:
        for prefix in await self._present_prefixes(wanted.id):
            if prefix not in wanted.prefixes:
                await self._dataplane.delete_prefix(wanted.id, prefix)

    async def _present_prefixes(self, id: InterfaceId) -> Mapping[Prefix, UnderlayAddress]:
        try:
            return await self._dataplane.prefixes(id)
        except NotSupported:
            return {}

    def _announced(self) -> list[Aspect]:
        if self._announcer.connected:
            return [Aspect(report.ANNOUNCED, True, "Announced", "route reflectors know the interface", required=False)]
        message = "no route reflector is connected: other hosts may not find the interface"
        return [Aspect(report.ANNOUNCED, False, "NoReflector", message, required=False)]

    @staticmethod
    def _extras(nic: NetworkInterface, wanted: Wanted, port: Port, prefix_problem: str) -> list[Aspect]:
        aspects = []
        if wanted.prefixes:
            reason = "Failed" if prefix_problem else "Created"
            aspects.append(Aspect(report.PREFIXES, not prefix_problem, reason, prefix_problem))
        if wanted.rates != Rates():
            limited = port.rates == wanted.rates
            message = "" if limited else "the data plane does not limit rates on this device"
            reason = "Limited" if limited else "NotSupported"
            aspects.append(Aspect(report.RATES, limited, reason, message, required=False))
        if wanted.peers:
            peers = ", ".join(str(vni) for vni in wanted.peers)
            message = f"this node's agent does not exchange routes with VNI {peers}"
            aspects.append(Aspect(report.PEERINGS, False, "NotSupported", message, required=False))
        missing = not_carried_out(nic.spec)
        if missing:
            message = f"this node's agent does not program {', '.join(missing)}"
            aspects.append(Aspect(report.FEATURES, False, "NotSupported", message))
        return aspects

    async def _release(self, owner: InterfaceId) -> None:
        self._announcer.withdraw(owner)
        port = await self._dataplane.interface(owner)
        if port is not None:
            await self._delete_port(port)
        self._routes.disown(owner)
        if await self._claims.release(owner):
            log.info("interface released", interface=owner)
            self._wake_unready()

    def _wake_unready(self) -> None:
        for nic in self._nics.items():
            if nic.status.state != "Ready":
                self.queue.add(key_of(nic))

    async def _report(self, nic: NetworkInterface, status: NetworkInterfaceStatus) -> None:
        if status == nic.status:
            return
        before, after = _summary(nic.status), _summary(status)
        try:
            written = NetworkInterface(metadata=nic.metadata, spec=nic.spec, status=status)
            stored = await self._client.update_status(written)
        except NotFound:
            return
        # Later steps of the same reconcile write on top of this one.
        nic.CopyFrom(stored)
        if before != after:
            kind = NORMAL if status.state == "Ready" else WARNING
            self._events.event(nic, kind, after[1], after[2], action="Reconcile")

    def _is_ours(self, port: Port) -> bool:
        return self._claims.pool.has_port(port.device)

    def _in_network(self, network: Network) -> list[Key]:
        return [key_of(nic) for nic in self._nics.by_index("network", str(key_of(network)))]


def _only(wanted: Wanted, present: Mapping[Prefix, UnderlayAddress]) -> dict[Prefix, UnderlayAddress]:
    return {prefix: present[prefix] for prefix in wanted.prefixes if prefix in present}


def _summary(status: NetworkInterfaceStatus) -> tuple[str, str, str]:
    ready = find_condition(status.conditions, report.READY)
    return (status.state, ready.reason, ready.message) if ready is not None else (status.state, "", "")
