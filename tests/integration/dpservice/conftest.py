from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from services.dpservice.__main__ import main
from tests.integration.dpservice import lone_guest
from tests.integration.dpservice.daemon import Daemon
from tests.integration.dpservice.lab import Lab, new_name, sweep
from tests.integration.dpservice.path_town import Test, build
from tests.support.dpservice.trial import Run, prepared_trials, trials


@pytest.fixture(scope="session", autouse=True)
def _swept() -> None:
    sweep()


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix=new_name()) as directory:
        made = Daemon(Path(directory))
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def stub(daemon: Daemon) -> pb_grpc.DPDKironcoreStub:
    daemon.stub.Initialize(pb.InitializeRequest(), timeout=30)
    return daemon.stub


@pytest.fixture(scope="module")
def in_town() -> Iterator[Callable[[Test], None]]:
    """Runs a function with a town that is built anew."""
    with trials() as run:
        yield lambda test: run(lambda trial: test(build(trial)))


@pytest.fixture(scope="module")
def in_trial() -> Iterator[Run]:
    """Runs a function with a host that has the lone guest, made anew."""
    with prepared_trials(lone_guest.settle_in) as run:
        yield run


VNI = 100
BALANCED = "172.20.0.1"


@pytest.fixture
def pair(lab: Lab) -> Lab:
    """Two hosts that serve, guests a and c on the first, b on the second, and routes between them."""
    return populate(lab)


@pytest.fixture(scope="module")
def shared_pair() -> Iterator[Lab]:
    """The same for tests that leave it as they found it."""
    made = Lab()
    try:
        yield populate(made)
    finally:
        made.close()


def populate(lab: Lab) -> Lab:
    """Guests and routes of `pair`."""
    one, two = lab.hosts
    a = lab.guest(one, 0, "10.0.0.1", "2001:db8::1")
    b = lab.guest(two, 0, "10.0.0.2", "2001:db8::2")
    c = lab.guest(one, 1, "10.0.0.3", "2001:db8::3")
    for host in lab.hosts:
        host.start()
        host.initialize()
    one.create(a, VNI, "a")
    one.create(c, VNI, "c")
    two.create(b, VNI, "b")
    for address in (b.ipv4 + "/32", b.ipv6 + "/128"):
        one.route(VNI, address, b.underlay)
    for guest in (a, c):
        for address in (guest.ipv4 + "/32", guest.ipv6 + "/128"):
            two.route(VNI, address, guest.underlay)
    return lab


def furnish(lab: Lab, router: str) -> Lab:
    """A populated pair whose guest a has NAT and two firewall rules, c a VIP; with a load balancer of one target, and a
    default route to `router`, an underlay address."""
    one = populate(lab).hosts[0]
    for line in (
        f"create route --vni={VNI} --prefix=0.0.0.0/0 --next-hop-vni=0 --next-hop-ip={router}",
        "create nat --interface-id=a --nat-ip=1.2.3.4 --minport=100 --maxport=104",
        "create vip --interface-id=c --vip=1.2.3.5",
        f"create neighbornat --nat-ip=1.2.3.4 --vni={VNI} --minport=104 --maxport=200 --underlayroute=fc00:7::1",
        f"create loadbalancer --id=lb1 --vni={VNI} --vip={BALANCED} --lbports=TCP/80,UDP/53",
        "create lbtarget --lb-id=lb1 --target-ip=fc00:1:0:8::1",
        "create firewallrule --interface-id=a --rule-id=r --direction=egress --action=drop --src=0.0.0.0/0"
        " --dst=10.66.0.0/16 --protocol=udp --dst-port-min=53 --dst-port-max=54 --priority=1",
        "create firewallrule --interface-id=a --rule-id=s --direction=egress --action=accept --src=0.0.0.0/0"
        " --dst=0.0.0.0/0",
    ):
        main([f"--address=unix:{one.directory}/grpc.sock", *line.split()])
    return lab
