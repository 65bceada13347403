"""One core API server with mTLS, and a set of all kinds for each version of kubectl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.core.apiserver.conftest import CoreServer
from tests.support.etcd import running_etcd
from tests.support.kubectl import VERSIONS, Cli
from tests.support.kubectl_samples import Samples
from tests.support.processes import directory


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    with directory("kubectl") as made:
        yield made


@pytest.fixture(scope="session")
def server(place: Path) -> Iterator[CoreServer]:
    """Shared by all tests of this folder; it starts no controllers but the server's own."""
    with running_etcd() as etcd:
        server = CoreServer(etcd, place)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session", params=VERSIONS)
def cli(request: pytest.FixtureRequest, server: CoreServer, place: Path) -> Cli:
    """The administrator's kubectl."""
    return command(request.param, server, place)


@pytest.fixture(scope="session")
def current(server: CoreServer, place: Path) -> Cli:
    """The administrator's current kubectl."""
    return command("current", server, place)


def command(version: str, server: CoreServer, place: Path) -> Cli:
    home = place / f"home-{version}"
    home.mkdir(exist_ok=True)
    return Cli(version, server.kubeconfig(server.admin_tls), home)


@pytest.fixture(scope="session")
def world(cli: Cli, current: Cli, place: Path) -> Samples:
    """One object of each kind with its status; tests read them, and change no more than notes of their own."""
    made = Samples(place / "manifests")
    cli("create", "namespace", made.namespace)
    cli("apply", *made.files)
    whole = {each.kind: {**each.tree, "status": each.status} for each in made if each.status}
    place = made.written(made.place.with_suffix(".status"), whole)
    current("replace", "-n", made.namespace, "--subresource=status", "-f", place)
    return made


@pytest.fixture
def fresh(cli: Cli, place: Path) -> Samples:
    """A set of the test's own, of which only the namespace is there."""
    made = Samples(place / "manifests")
    cli("create", "namespace", made.namespace)
    return made
