"""Namespaces and links of a cluster: a management bridge, a fabric, hypervisors with two uplinks each, an edge.

root ── bridge ──┬── fabric (routes underlay prefixes; the route reflector runs here)
 (control plane) ├── hv1 ══ pf0, pf1 ══ fabric
                 ├── hv2 ══ pf0, pf1 ══ fabric
                 └── edge ── pf0, pf1 ── fabric    ("the internet")
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError, NetNS
from pyroute2 import netns as namespaces

from ferrite.dev.plan import UNDERLAY_MTU, UPLINKS, ClusterPlan, Member

FABRIC_LINK_LOCAL = "fe80::1"
MEMBER_LINK_LOCAL = "fe80::2"

# Duplicate address detection would delay every address by a second or two.
_SYSCTLS = {"net/ipv6/conf/all/accept_dad": "0", "net/ipv6/conf/default/accept_dad": "0"}
_ROUTER_SYSCTLS = {"net/ipv6/conf/all/forwarding": "1", "net/ipv4/ip_forward": "1"}


def create(plan: ClusterPlan) -> None:
    """Makes everything anew; call `sweep.sweep` first when an earlier run may have left something."""
    with IPRoute() as root:
        bridge = _add_bridge(root, plan)
        for member in plan.members:
            namespaces.create(member.netns)
            _set_sysctls(member.netns, _SYSCTLS | (_ROUTER_SYSCTLS if member is plan.fabric else {}))
            with NetNS(member.netns) as inside:
                _up(inside, "lo")
            _add_management_leg(root, bridge, plan, member)
    with NetNS(plan.fabric.netns) as fabric:
        configure_fabric(fabric, plan)
        for member in plan.edge_members:
            add_uplinks(fabric, member, member.netns)
            route_to_member(fabric, member)
            with NetNS(member.netns) as inside:
                route_to_fabric(inside, plan, member)


def remove(plan: ClusterPlan) -> None:
    """Removes the namespaces and the bridge; links inside go with them. Absent ones are fine."""
    present = set(namespaces.listnetns())
    for member in plan.members:
        if member.netns in present:
            namespaces.remove(member.netns)
    with IPRoute() as root:
        for name in [plan.bridge, *(member.leg for member in plan.members)]:
            for index in root.link_lookup(ifname=name):
                with contextlib.suppress(NetlinkError):  # it may be going with its namespace at this moment
                    root.link("del", index=index)


def enter(netns: str, command: Iterable[str]) -> list[str]:
    """The command line that runs `command` in a network namespace and in no other of its own.

    `ip netns exec` would also give it a private /sys, hiding bpffs and cgroups.
    """
    return ["nsenter", f"--net=/var/run/netns/{netns}", "--", *command]


def processes_in(netns: str) -> list[int]:
    """Pids of the processes whose network namespace this is."""
    try:
        wanted = Path("/var/run/netns", netns).stat().st_ino
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns/net").stat().st_ino == wanted:
                    found.append(int(entry.name))
            except OSError:
                continue  # gone meanwhile
    return found


def _add_bridge(root: IPRoute, plan: ClusterPlan) -> int:
    root.link("add", ifname=plan.bridge, kind="bridge")
    index = _index(root, plan.bridge)
    root.addr("add", index=index, address=str(plan.control.ip), prefixlen=plan.control.network.prefixlen)
    root.link("set", index=index, state="up")
    return index


def _add_management_leg(root: IPRoute, bridge: int, plan: ClusterPlan, member: Member) -> None:
    root.link("add", ifname=member.leg, kind="veth", peer={"ifname": "mgmt", "net_ns_fd": member.netns})
    root.link("set", index=_index(root, member.leg), master=bridge, state="up")
    with NetNS(member.netns) as inside:
        index = _up(inside, "mgmt")
        inside.addr("add", index=index, address=str(member.management), prefixlen=plan.control.network.prefixlen)


def configure_fabric(fabric: Any, plan: ClusterPlan) -> None:
    """Gives the reflector its underlay address; `fabric` is a netlink connection into that namespace."""
    fabric.addr("replace", index=_index(fabric, "lo"), address=str(plan.reflector), prefixlen=128)


def add_uplinks(fabric: Any, member: Member, netns: str | int) -> None:
    """Makes a member's uplinks in place of such as are there; `netns` is its namespace's name or open file."""
    for uplink in UPLINKS:
        name = fabric_link(member, uplink)
        for index in fabric.link_lookup(ifname=name):
            fabric.link("del", index=index)
        fabric.link("add", ifname=name, kind="veth", peer={"ifname": uplink, "net_ns_fd": netns})


def route_to_member(fabric: Any, member: Member) -> None:
    """The fabric's half: its ends of the uplinks, and the member's prefix over both."""
    links = [_join(fabric, fabric_link(member, uplink), FABRIC_LINK_LOCAL) for uplink in UPLINKS]
    _route(fabric, str(member.underlay), MEMBER_LINK_LOCAL, links)


def route_to_fabric(inside: Any, plan: ClusterPlan, member: Member) -> None:
    """The member's half: its address, its ends of the uplinks, and the whole underlay over both."""
    links = [_join(inside, uplink, MEMBER_LINK_LOCAL) for uplink in UPLINKS]
    inside.addr("replace", index=_index(inside, "lo"), address=str(member.address), prefixlen=128)
    _route(inside, str(plan.underlay), FABRIC_LINK_LOCAL, links)


def fabric_link(member: Member, uplink: str) -> str:
    """Name of the fabric's end of an uplink."""
    return f"{member.name}-{uplink}"


def _join(links: Any, name: str, address: str) -> int:
    index = _index(links, name)
    links.link("set", index=index, mtu=UNDERLAY_MTU, state="up")
    links.addr("replace", index=index, address=address, prefixlen=64)
    return index


def _route(links: Any, prefix: str, gateway: str, over: list[int]) -> None:
    links.route("replace", dst=prefix, multipath=[{"gateway": gateway, "oif": index} for index in over], family=10)


def _up(links: Any, name: str) -> int:
    index = _index(links, name)
    links.link("set", index=index, state="up")
    return index


def _index(links: Any, name: str) -> int:
    found = links.link_lookup(ifname=name)
    if not found:
        raise RuntimeError(f"link {name} is missing")
    return int(found[0])


def _set_sysctls(netns: str, values: dict[str, str]) -> None:
    script = "\n".join(f"echo {value} > /proc/sys/{name}" for name, value in values.items())
    subprocess.run(enter(netns, ["sh", "-ec", script]), check=True, timeout=10)
