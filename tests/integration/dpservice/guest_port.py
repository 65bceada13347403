"""A guest port seen from the guest, raw frames only."""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Sequence, Set
from ipaddress import IPv6Address
from typing import Final

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from tests.integration.dpservice.frames import BROADCAST, arp, ethernet, icmpv6, mac
from tests.integration.dpservice.lab import GATEWAY4, GATEWAY6, Lab, eventually, run
from tests.integration.dpservice.namespaces import VNET_HEADER, open_tap, raw_socket

ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
LINK_LOCAL: Final = "fe80::5054:ff:fe00:100"
OPTIONS: Final = (
    *("--dhcp-mtu=1440", "--dhcp-dns=8.8.8.8", "--dhcp-dns=9.9.9.9"),
    *("--dhcpv6-dns=2001:4860:4860::8888", "--dhcpv6-dns=2620:fe::fe"),
)


class Port:
    """A guest port seen from the guest: what it sends, what it gets. `silent`: its own network stack says nothing."""

    def __init__(
        self,
        lab: Lab,
        kind: str,
        *,
        silent: bool = True,
        ipv6: str = "2001:db8::1",
        boot: tuple[str, str] = ("", ""),
        options: Sequence[str] = OPTIONS,
    ) -> None:
        host, device = lab.hosts[0], "dtap0"
        self.guest = lab.guest(host, 0, "10.0.0.1", "2001:db8::1") if kind == "veth" else None
        if self.guest is not None and silent:
            self.guest.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
            self.guest.run("ip", "address", "flush", "dev", "eth0")
        host.start(*options)
        host.stub.Initialize(pb.InitializeRequest(), timeout=30)
        answer = host.stub.CreateInterface(
            pb.CreateInterfaceRequest(
                interface_id=b"vm",
                device_name="net_tap2",
                vni=100,
                ipv4_config=pb.IpConfig(primary_address=b"10.0.0.1"),
                ipv6_config=pb.IpConfig(primary_address=ipv6.encode()),
                pxe_config=pb.PxeConfig(next_server=boot[0], boot_filename=boot[1]),
                hostname="vm-1",
            ),
            timeout=30,
        )
        assert answer.status.code == 0
        self.host, self.client = host, "52:54:00:00:01:00"
        self.gateway = run("ip", "netns", "exec", host.namespace, "cat", f"/sys/class/net/{device}/address").strip()
        self.tap = open_tap(host.namespace, device) if kind == "tap" else -1
        # The kernel gives a device its queue only some time after its carrier is up.
        eventually(lambda: "state UP" in run("ip", "-n", host.namespace, "link", "show", device))
        self.socket = raw_socket(self.guest.namespace, "eth0") if self.guest else None

    def send(self, frame: bytes) -> None:
        if self.socket is not None:
            self.socket.send(frame)
        else:
            os.write(self.tap, bytes(VNET_HEADER) + frame)

    def answer(self, frame: bytes, announced: Set[bytes] | None = None) -> bytes | None:
        """The next frame from the gateway that nobody announced anyway, or None within a second."""
        announced = self.announcements() if announced is None else announced
        self.send(frame)
        while (received := self.receive()) is not None:
            if received[6:12] == mac(self.gateway) and received not in announced:
                return received
        return None

    def announcements(self) -> set[bytes]:
        """What comes unasked."""
        head = struct.pack("!BBHI", 136, 0, 0, 0xA0000000) + IPv6Address(GATEWAY6).packed
        router = struct.pack("!BBHBBHII", 134, 0, 0, 255, 0xC0, 65535, 0, 0) + b"\x01\x01" + mac(self.gateway)
        asked = [arp(1, self.gateway, GATEWAY4, "00:00:00:00:00:00", target) for target in (GATEWAY4, "10.0.0.1")]
        return {
            *(ethernet(BROADCAST, self.gateway, ARP, each) for each in asked),
            ethernet("33:33:00:00:00:01", self.gateway, IPV6, icmpv6(GATEWAY6, "ff02::1", head)),
            ethernet("33:33:00:00:00:01", self.gateway, IPV6, icmpv6(GATEWAY6, "ff02::1", router)),
        }

    def receive(self) -> bytes | None:
        if self.socket is not None:
            self.socket.settimeout(1)
            try:
                return self.socket.recv(4096)
            except TimeoutError:
                return None
        ready = select.poll()  # select() takes descriptors below 1,024 only
        ready.register(self.tap, select.POLLIN)
        if not ready.poll(1000):
            return None
        return os.read(self.tap, 4096)[VNET_HEADER:]

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        else:
            os.close(self.tap)
