"""Makes what the containers need before they start: certificates, keys, the guest image, a kubeconfig. Runs to its end.

Everything is kept if it exists, so that `docker compose up` may be repeated. Each service finds its files in a folder
of its own below /pki, which only its user may enter; the authority's key is in a volume that nobody else mounts.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ferrite.dev.certificates import Authority, Identity
from ferrite.dev.identities import identities
from ferrite.dev.plan import ClusterPlan
from services.apimachinery.client import kubeconfig

# User ids of the images, as in the Dockerfile.
USERS: Final = {
    "core-apiserver": 64001,
    "core-controllers": 64002,
    "net-apiserver": 64003,
    "apinetlet": 64004,
    "metalnetlet": 64005,
    "metalnet-apiserver": 64006,
    "metalbond": 64007,
    "volumepoollet": 64008,
    "provider": 64009,
    "poollet": 64009,
    "agent": 64010,
}
STORAGE_USER: Final = 64008
# On the host: context of the kubeconfig → port of the API server.
HOST_PORTS: Final = {"core": 6443, "net": 7443, "metalnet": 8443}


@dataclass(frozen=True)
class Folders:
    """Where things go; tests have others."""

    authority: Path = Path("/authority")
    pki: Path = Path("/pki")
    out: Path = Path("/out")
    image: Path = Path("/image")
    images: Path = Path("/images")


def setup(arguments: list[str], folders: Folders = Folders()) -> None:
    """The command: makes everything, then returns."""
    authority = Authority(folders.authority)
    for name, identity in compose_identities().items():
        _hand_out(authority, name, identity, folders.pki / name)
    _secret(folders.pki / "core-apiserver" / "encryption.key", USERS["core-apiserver"], _encryption_key())
    _secret(folders.pki / "ceph-provider" / "kek", STORAGE_USER, secrets.token_bytes(32))
    shutil.copytree(folders.image, folders.images, dirs_exist_ok=True)
    _write_kubeconfig(folders)
    print("certificates, keys, guest image and kubeconfig are in place")


def compose_identities() -> dict[str, Identity]:
    """The development cluster's identities; servers answer to their container's name, and on the host to localhost."""
    found = identities(compose_plan())
    return {
        name: replace(identity, hosts=(name, "localhost", "127.0.0.1")) if identity.hosts else identity
        for name, identity in found.items()
    }


def compose_plan() -> ClusterPlan:
    """Members and underlay addresses of the containers' cluster: those of the development cluster."""
    return ClusterPlan("cmp", Path("/"))


def user_of(name: str) -> int:
    """The user of a certificate's folder; the administrator's is root's. `hv1-agent` is the agent of a hypervisor."""
    return USERS.get(name) or USERS.get(name.rpartition("-")[2]) or 0


def _hand_out(authority: Authority, name: str, identity: Identity, folder: Path) -> None:
    cert, key = authority.issue(name, identity)
    _own(folder, user_of(name))
    for source, target in ((authority.certificate_file, "ca.crt"), (cert, "tls.crt"), (key, "tls.key")):
        _write(folder / target, user_of(name), source.read_bytes())


def _own(folder: Path, user: int) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(folder, user, user)


def _secret(path: Path, user: int, content: bytes) -> None:
    if not path.exists():
        _own(path.parent, user)
        _write(path, user, content)


def _write(path: Path, user: int, content: bytes) -> None:
    """Replaces the file at once: readers may be running already."""
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o400)
    fresh.write_bytes(content)
    os.chown(fresh, user, user)
    fresh.replace(path)


def _encryption_key() -> bytes:
    return f"compose:{base64.b64encode(secrets.token_bytes(32)).decode()}\n".encode()


def _write_kubeconfig(folders: Folders) -> None:
    """For the person at the host: it belongs to whom its folder belongs."""
    admin = folders.pki / "admin"
    ca, cert, key = ((admin / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))
    path = folders.out / "kubeconfig"
    kubeconfig.write(path, contexts(host_ports(os.environ), ca, cert, key), current="core")
    owner = folders.out.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


def host_ports(environment: Mapping[str, str]) -> dict[str, int]:
    """Context → port on the host, as published by docker-compose.yml: FERRITE_CORE_PORT and so on."""
    return {
        name: int(environment.get(f"FERRITE_{name.upper()}_PORT") or default) for name, default in HOST_PORTS.items()
    }


def contexts(ports: Mapping[str, int], ca: bytes, cert: bytes, key: bytes) -> dict[str, kubeconfig.Access]:
    """A kubeconfig context for each API server."""
    return {
        name: kubeconfig.Access(f"https://127.0.0.1:{port}", ca=ca, cert=cert, key=key, namespace="default")
        for name, port in ports.items()
    }
