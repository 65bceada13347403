"""Looks at everything that exists because of the cluster, from etcd's keys to Ceph's users."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import rados
import rbd
from pyroute2 import netns as namespaces

from ferrite.dev import cluster, network
from ferrite.dev.kill import harm
from ferrite.dev.kill.inventory import Inventory, duplicates
from ferrite.dev.kill.monitors import RouteMonitor
from ferrite.dev.observe import View
from ferrite.dev.plan import ClusterPlan, Member
from ferrite.dev.services import CEPH_POOL, METALBOND_GRPC_PORT
from protos.metalbond.v1 import metalbond_pb2, metalbond_pb2_grpc
from services.common.grpc_client import grpc_channel

# Keys that come and go by themselves, or that only count.
PASSING: Final = ("/events/", "/events.k8s.io/", "/revision/")
# Data of images comes with use; the index of the trash is made at the first removal and then stays, empty.
PASSING_OBJECTS: Final = ("rbd_data.", "rbd_trash")
CEPH_LIMITS: Final = {"rados_osd_op_timeout": "10", "rados_mon_op_timeout": "10", "client_mount_timeout": "10"}


async def take(plan: ClusterPlan, monitor: RouteMonitor) -> Inventory:
    """One look. Raises grpc.aio.AioRpcError, OSError, subprocess or rados errors when somebody does not answer."""
    found = await asyncio.to_thread(_local, plan)
    found |= await asyncio.to_thread(_ceph, plan)
    found["etcd keys"] = Counter(await asyncio.to_thread(_keys, plan))
    for node, interfaces in (await monitor.interfaces()).items():
        found[f"dpservice interfaces of {node}"] = Counter(interfaces)
    for node, routes in (await monitor.routes()).items():
        found[f"dpservice routes of {node}"] = Counter(routes)
    found["metalbond routes"] = Counter(await _reflected(plan))
    return found


def double(plan: ClusterPlan, view: View) -> list[str]:
    """Addresses, VNIs, domains, images and devices that two objects believe to have; one phrase each."""
    addresses = [
        (f"address {address} in {interface.spec.network_ref.name}", uid)
        for uid, interface in view.interfaces.items()
        for address in interface.spec.ips
    ]
    prefixes = [
        (f"prefix {prefix.spec.prefix}", name)
        for name, prefix in view.prefixes.items()
        if prefix.spec.HasField("parent_ref") and prefix.status.phase == "Allocated"
    ]
    vnis = [(f"VNI {network.spec.id}", uid) for uid, network in view.networks.items() if network.spec.id]
    images = [
        (f"image {volume.status.access.handle}", name)
        for name, volume in view.volumes.items()
        if volume.status.access.handle
    ]
    domains = [(f"domain {name}", node.name) for node in plan.hypervisors for name in _domains(plan, node)]
    machines = [
        (f"machine {machine.status.machine_id}", name)
        for name, machine in view.machines.items()
        if machine.status.machine_id
    ]
    devices = [
        (f"device {claim.read_text()} of {node.name}", claim.name)
        for node in plan.hypervisors
        for claim in _claims(plan, node)
    ]
    return duplicates([*addresses, *prefixes, *vnis, *images, *domains, *machines, *devices])


def half_applied(plan: ClusterPlan, node: Member, uid: str) -> list[str]:
    """What a hypervisor holds of a machine that it refused, and drafts and domains that belong to no record."""
    store = plan.state / node.name / "provider" / "store" / "machines"
    found = [f"draft {path.name}" for path in store.glob(".*")]
    found += [f"record {path.name}" for path in store.iterdir() if uid in path.read_text()]
    return found + [f"domain {name}" for name in _domains(plan, node) if not (store / name).exists()]


def _local(plan: ClusterPlan) -> dict[str, Counter[str]]:
    found = {"namespaces": Counter(name for name in namespaces.listnetns() if name in _netns(plan))}
    found["processes"] = Counter(cluster.status(plan).keys())
    for member in plan.members:
        found[f"links of {member.name}"] = Counter(_links(member))
    for node in plan.hypervisors:
        found[f"programs of {node.name}"] = Counter(
            name for pid in network.processes_in(node.netns) if (name := harm.program(pid)) not in ("", "tcpdump")
        )
        found[f"TAP claims of {node.name}"] = Counter(
            f"{claim.name} {claim.read_text()}" for claim in _claims(plan, node)
        )
        found[f"domains of {node.name}"] = Counter(_domains(plan, node))
        for folder in ("machines", "store/machines"):
            names = (entry.name for entry in (plan.state / node.name / "provider" / folder).iterdir())
            found[f"provider's {folder} of {node.name}"] = Counter(names)
        root = plan.bpf_root(node)
        found[f"BPF pins of {node.name}"] = Counter(str(path.relative_to(root)) for path in root.rglob("*"))
    return found


def _links(member: Member) -> list[str]:
    """Names of the links in a namespace. Not by pyroute2, which forks: gRPC's threads do not survive that."""
    command = network.enter(member.netns, ["cat", "/proc/self/net/dev"])
    table = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    return [line.partition(":")[0].strip() for line in table.splitlines() if ":" in line]


def _ceph(plan: ClusterPlan) -> dict[str, Counter[str]]:
    configuration = str(plan.state / "ceph" / "ceph.conf")
    with (
        rados.Rados(conffile=configuration, name="client.admin", conf=CEPH_LIMITS) as ceph,
        ceph.open_ioctx(CEPH_POOL) as pool,
    ):
        tool = rbd.RBD()
        images: Iterable[str] = [*tool.list(pool), *(f"trash {entry['name']}" for entry in tool.trash_list(pool))]
        headers = [entry.key for entry in pool.list_objects() if not entry.key.startswith(PASSING_OBJECTS)]
        code, output, problem = ceph.mon_command(json.dumps({"prefix": "auth ls", "format": "json"}), b"", timeout=10)
        if code != 0:
            raise OSError(f"ceph auth ls: {problem}")
        users = [entry["entity"] for entry in json.loads(output)["auth_dump"]]
    return {"RBD images": Counter(images), "Ceph objects": Counter(headers), "cephx users": Counter(users)}


def _keys(plan: ClusterPlan) -> list[str]:
    keys = harm.etcdctl(plan, "get", "/ferrite/", "--prefix", "--keys-only").split()
    return [key for key in keys if not any(passing in key for passing in PASSING)]


async def _reflected(plan: ClusterPlan) -> list[str]:
    address = f"{plan.fabric.management}:{METALBOND_GRPC_PORT}"
    async with grpc_channel(address, tls=cluster.admin_tls(plan)) as channel:
        stub: Any = metalbond_pb2_grpc.RouteReflectorStub(channel)
        held = (await stub.ListRoutes(metalbond_pb2.ListRoutesRequest(), wait_for_ready=True)).routes
    routes = [status.route for status in held]
    return [f"{route.vni} {route.destination} via {route.next_hop.address}" for route in routes]


def _domains(plan: ClusterPlan, node: Member) -> list[str]:
    return [path.stem for path in (plan.run / node.name / "libvirt" / "run" / "qemu").glob("*.xml")]


def _claims(plan: ClusterPlan, node: Member) -> list[Any]:
    directory = plan.state / node.name / "metalnet" / "netfns" / "claims"
    return [path for path in directory.glob("*") if not path.name.startswith(".")]


def _netns(plan: ClusterPlan) -> set[str]:
    return {member.netns for member in plan.members}
