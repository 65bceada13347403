"""The command line of every process of a cluster: the same binaries, flags and certificates as in production. Pure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ferrite.dev.ceph import CephAccess
from ferrite.dev.identities import NET_NAMESPACE, PARTITION, VOLUME_POOL
from ferrite.dev.libvirtd import libvirtd_command, libvirtd_uri
from ferrite.dev.network import enter
from ferrite.dev.plan import GUEST_MTU, UPLINKS, ClusterPlan, Member
from ferrite.dev.supervisor import Process

TAPS: Final = 4
PUBLIC_VNI: Final = 100
CEPH_POOL: Final = "volumes"
METALBOND_PORT: Final = 4711
# /metrics, /healthz and /readyz in the management network.
OPS_PORTS: Final = {
    "core-apiserver": 9101,
    "core-controllers": 9102,
    "net-apiserver": 9103,
    "metalnet-apiserver": 9104,
    "apinetlet": 9105,
    "metalnetlet": 9106,
    "ceph-provider": 9107,
    "volumepoollet": 9108,
    "metalbond": 9109,
    "dpservice": 9110,
    "agent": 9111,
    "provider": 9112,
    "poollet": 9113,
}
METALBOND_GRPC_PORT: Final = 4712


@dataclass(frozen=True)
class Api:
    """An API server's place: `rest` and `grpc` are host:port."""

    name: str
    rest: str
    grpc: str


def apis(plan: ClusterPlan) -> dict[str, Api]:
    """core, net and metalnet, in the management network."""
    host = plan.control.ip
    ports = {"core": 6443, "net": 7443, "metalnet": 8443}
    return {name: Api(name, f"{host}:{port}", f"{host}:{port + 1}") for name, port in ports.items()}


class Services:
    """Builds the processes of one cluster."""

    def __init__(self, plan: ClusterPlan) -> None:
        self._plan = plan
        self._apis = apis(plan)

    def independent_of_ceph(self) -> list[Process]:
        """Everything but the storage and the daemons of etcd and Ceph."""
        found = [*self._control_plane(), self._metalbond()]
        for node in self._plan.hypervisors:
            found += self._node(node)
        return found

    def _control_plane(self) -> list[Process]:
        etcd = ["--etcd-endpoints", f"{self._plan.control.ip}:2379"]
        key = ["--encryption-key-file", str(self._plan.state / "encryption.key")]
        core = self._client("core")
        return [
            self._ferrite("core-apiserver", ["core", "apiserver"], [*self._server("core"), *etcd, *key]),
            self._ferrite(
                "core-controllers", ["core", "controllers"], [*core("core-controllers"), "--no-leader-elect"]
            ),
            self._ferrite(
                "net-apiserver",
                ["net", "apiserver"],
                [*self._server("net"), *etcd, *core("net-apiserver")],
            ),
            self._ferrite(
                "metalnet-apiserver",
                ["metalnet", "apiserver"],
                [*self._server("metalnet"), *etcd, *core("metalnet-apiserver")],
            ),
            self._ferrite(
                "apinetlet",
                ["net", "apinetlet"],
                [
                    *core("apinetlet"),
                    *self._client("net", "api-net")("apinetlet"),
                    *["--api-net-namespace", NET_NAMESPACE],
                ],
            ),
            self._ferrite(
                "metalnetlet",
                ["net", "metalnetlet"],
                [*self._client("net")("metalnetlet"), *self._client("metalnet")("metalnetlet"), "--name", PARTITION],
            ),
        ]

    def _metalbond(self) -> Process:
        plan = self._plan
        door = f"{plan.fabric.management}:{METALBOND_GRPC_PORT}"
        flags = ["--listen", f"[{plan.reflector}]:{METALBOND_PORT}", "--grpc-listen", door]
        return self._ferrite("metalbond", ["metalbond", "server"], [*flags, *self._tls("metalbond")], plan.fabric)

    def storage(self, access: CephAccess) -> list[Process]:
        """The storage provider and its poollet, once Ceph has told how it is reached."""
        plan = self._plan
        socket = f"unix:{plan.run}/ceph-provider.sock"
        provider = [
            *["--listen", socket],
            *["--supported-volume-classes", str(plan.state / "volume-classes.yaml")],
            *["--ceph-monitors", access.monitors, "--ceph-user", access.user],
            *["--ceph-key-file", str(access.key_file)],
            *["--ceph-pool", CEPH_POOL, "--ceph-kek-path", str(plan.state / "ceph.kek")],
        ]
        poollet = [
            *self._client("core")("volumepoollet"),
            *["--volume-pool-name", VOLUME_POOL, "--provider-id", f"ferrite://{VOLUME_POOL}"],
            *["--volume-runtime-endpoint", socket],
        ]
        return [
            self._ferrite("ceph-provider", ["ceph-provider", "serve"], provider),
            self._ferrite("volumepoollet", ["core", "volumepoollet"], poollet),
        ]

    def _node(self, node: Member) -> list[Process]:
        plan, run = self._plan, self._plan.run
        libvirt, state = run / node.name / "libvirt", plan.state / node.name
        dpservice = f"{run}/{node.name}/dpservice.sock"
        provider = f"unix:{run}/{node.name}/provider.sock"
        return [
            self._ferrite(
                f"{node.name}-dpservice",
                ["dpservice", "serve"],
                [
                    *["--ipv6", str(node.address), "--dhcp-mtu", str(GUEST_MTU), "--enable-ipv6-overlay"],
                    *[word for uplink in UPLINKS for word in ("--uplink", uplink)],
                    *[word for tap in range(TAPS) for word in ("--device", f"net_tap{tap + 2}=dtapvf_{tap}")],
                    *["--underlay-prefix", str(plan.underlay), "--grpc-unix", dpservice],
                    *["--compat-listen", "127.0.0.1:1337", "--bpf-root", str(plan.bpf_root(node))],
                    *["--state-dir", str(state / "dpservice")],
                ],
                node,
            ),
            Process(f"{node.name}-libvirtd", libvirtd_command(libvirt, netns=node.netns, hostname=node.name)),
            self._ferrite(
                f"{node.name}-agent",
                ["metalnet", "agent"],
                [
                    *self._client("metalnet")(f"{node.name}-agent"),
                    *["--node-name", node.name, "--dp-service-address", f"unix:{dpservice}"],
                    *["--metalbond-peer", f"[{plan.reflector}]:{METALBOND_PORT}", "--public-vni", str(PUBLIC_VNI)],
                    *["--tapdevice-mod", "--tap-count", str(TAPS), "--metalnet-dir", str(state / "metalnet")],
                    *["--enable-ipv6", "--node-address", str(node.management)],
                ],
                node,
            ),
            self._ferrite(
                f"{node.name}-provider",
                ["libvirt-provider", "serve"],
                [
                    *[
                        "--listen",
                        provider,
                        "--libvirt-uri",
                        libvirtd_uri(libvirt),
                        "--state-dir",
                        str(state / "provider"),
                    ],
                    *["--machine-classes", str(plan.state / "machine-classes.yaml")],
                    *["--node-name", f"{PARTITION}.{node.name}"],
                    *self._client("net")(f"{node.name}-provider"),
                    # Fewer slots boot faster under emulation; the hosts share two cores and pretend to have more.
                    *["--shutdown-timeout", "3", "--root-ports", "8", "--cpu-overcommit", "4"],
                ],
                node,
            ),
            self._ferrite(
                f"{node.name}-poollet",
                ["core", "machinepoollet"],
                [
                    *self._client("core")(f"{node.name}-poollet"),
                    *["--machine-pool-name", node.name, "--provider-id", f"ferrite://{node.name}"],
                    *["--machine-runtime-endpoint", provider],
                ],
                node,
            ),
        ]

    def _server(self, name: str) -> list[str]:
        api = self._apis[name]
        listen = ["--https-listen", api.rest, "--grpc-listen", api.grpc, "--etcd-prefix", f"/ferrite/{name}"]
        return [*listen, *self._tls(f"{name}-apiserver")]

    def _client(self, api: str, setting: str = "") -> _ClientFlags:
        return _ClientFlags(self, setting or api, self._apis[api].grpc)

    def _tls(self, certificate: str, prefix: str = "") -> list[str]:
        return tls_flags(self._plan.state / "pki", certificate, f"--{prefix}")

    def _ferrite(self, name: str, words: Sequence[str], flags: Sequence[str], member: Member | None = None) -> Process:
        host = member.management if member is not None else self._plan.control.ip
        role = name.removeprefix(f"{member.name}-") if member is not None else name
        watched = ["--ops-listen", f"{host}:{OPS_PORTS[role]}", "--trace-directory", str(self._plan.state / "traces")]
        command = [sys.executable, "-m", "ferrite.cli.main", *words, *flags, *watched]
        return Process(name, enter(member.netns, command) if member is not None else command)


@dataclass(frozen=True)
class _ClientFlags:
    """`flags(certificate)`: how a process reaches one API server."""

    services: Services
    setting: str
    address: str

    def __call__(self, certificate: str) -> list[str]:
        prefix = f"{self.setting}."
        return [f"--{prefix}address", self.address, *self.services._tls(certificate, prefix)]


def tls_flags(pki: Path, certificate: str, prefix: str) -> list[str]:
    """--PREFIXtls-ca, --PREFIXtls-cert and --PREFIXtls-key."""
    return [
        *[f"{prefix}tls-ca", str(pki / "ca.crt")],
        *[f"{prefix}tls-cert", str(pki / f"{certificate}.crt")],
        *[f"{prefix}tls-key", str(pki / f"{certificate}.key")],
    ]
