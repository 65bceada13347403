"""What the containers find before they start."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ferrite.compose.setup import Folders, compose_identities, host_ports, setup, user_of
from services.apimachinery.client import kubeconfig


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    found = Folders(*(tmp_path / name for name in ("authority", "pki", "out", "image", "images")))
    for folder in (found.pki, found.out, found.image):
        folder.mkdir()
    (found.image / "index.json").write_text("{}")
    return found


def test_each_service_owns_its_files_alone(folders: Folders) -> None:
    setup([], folders)
    for name in compose_identities():
        for path in (folders.pki / name, *(folders.pki / name).iterdir()):
            found = path.stat()
            assert (found.st_uid, stat.S_IMODE(found.st_mode) & 0o077) == (user_of(name), 0), path


def test_a_second_run_changes_nothing(folders: Folders) -> None:
    def seen() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(folders.pki.rglob("*")) if path.is_file()}

    setup([], folders)
    before = seen()
    setup([], folders)
    assert seen() == before


def test_the_kubeconfig_reaches_the_published_ports(folders: Folders) -> None:
    setup([], folders)
    assert kubeconfig.read(folders.out / "kubeconfig").server == "https://127.0.0.1:6443"
    assert kubeconfig.read(folders.out / "kubeconfig", "metalnet").server == "https://127.0.0.1:8443"


@pytest.mark.parametrize(
    ("environment", "port"),
    [({}, 6443), ({"FERRITE_CORE_PORT": ""}, 6443), ({"FERRITE_CORE_PORT": "16443"}, 16443)],
    ids=["by default", "when empty", "when chosen"],
)
def test_ports_on_the_host(environment: dict[str, str], port: int) -> None:
    assert host_ports(environment)["core"] == port
