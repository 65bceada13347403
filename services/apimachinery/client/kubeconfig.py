"""Kubeconfig files: how to reach a Kubernetes API server and as whom. Read and written; exec plugins are not run."""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


class KubeconfigError(ValueError):
    """A kubeconfig can't be used; the text names the file, the field and the rule."""


@dataclass(frozen=True)
class Access:
    """One context of a kubeconfig. Certificates and key are PEM; empty parts are not used."""

    server: str
    ca: bytes = b""
    cert: bytes = b""
    key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    """Read anew for each request: tokens in files are rotated."""
    namespace: str = ""
    server_name: str = ""
    insecure: bool = False

    def bearer(self) -> str:
        """The token of a request; empty when certificates tell who we are. Raises OSError for an unreadable file."""
        return self.token_file.read_text().strip() if self.token_file else self.token

    def ssl_context(self) -> ssl.SSLContext | None:
        """None for plain HTTP. Raises ssl.SSLError for unusable PEM."""
        if not self.server.startswith("https:"):
            return None
        context = ssl.create_default_context(cadata=self.ca.decode() if self.ca else None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert:
            _load_cert_chain(context, self.cert + b"\n" + self.key)
        return context


def read(path: Path, context: str = "") -> Access:
    """A context of the file, the current one by default. KubeconfigError for anything missing or unreadable."""
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise KubeconfigError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise KubeconfigError(f"{path}: is not a kubeconfig")
    name = context or str(tree.get("current-context") or "")
    if not name:
        raise KubeconfigError(f"{path}: has no current-context and none was named")
    chosen = _named(path, tree, "contexts", name, "context")
    cluster = _named(path, tree, "clusters", str(chosen.get("cluster") or ""), "cluster")
    user = _named(path, tree, "users", str(chosen["user"]), "user") if chosen.get("user") else {}
    for unsupported in ("exec", "auth-provider", "username"):
        if user.get(unsupported):
            raise KubeconfigError(f"{path}: user {chosen['user']}: {unsupported} is not supported")
    if not cluster.get("server"):
        raise KubeconfigError(f"{path}: cluster {chosen['cluster']}: server is missing")
    access = Access(
        server=str(cluster["server"]).rstrip("/"),
        ca=_pem(path, cluster, "certificate-authority"),
        cert=_pem(path, user, "client-certificate"),
        key=_pem(path, user, "client-key"),
        token=str(user.get("token") or ""),
        token_file=path.parent / user["tokenFile"] if user.get("tokenFile") else None,
        namespace=str(chosen.get("namespace") or ""),
        server_name=str(cluster.get("tls-server-name") or ""),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
    )
    if bool(access.cert) != bool(access.key):
        raise KubeconfigError(f"{path}: user {chosen['user']}: client-certificate and client-key go together")
    return access


def write(path: Path, contexts: Mapping[str, Access], current: str) -> None:
    """Writes a file with one cluster, user and context per entry, readable by its owner only.

    The file is replaced in one step. KubeconfigError when `current` is not an entry.
    """
    if current not in contexts:
        raise KubeconfigError(f"{path}: current context {current!r} is not one of {', '.join(contexts)}")
    tree = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": name, "cluster": _cluster(access)} for name, access in contexts.items()],
        "users": [{"name": name, "user": _user(access)} for name, access in contexts.items()],
        "contexts": [{"name": name, "context": _context(name, access)} for name, access in contexts.items()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes files of mode 0600.
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "w") as file:
            yaml.safe_dump(tree, file, sort_keys=False)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _cluster(access: Access) -> dict[str, Any]:
    return _without_empty(
        {
            "server": access.server,
            "certificate-authority-data": base64.b64encode(access.ca).decode(),
            "tls-server-name": access.server_name,
            "insecure-skip-tls-verify": access.insecure,
        }
    )


def _user(access: Access) -> dict[str, Any]:
    return _without_empty(
        {
            "client-certificate-data": base64.b64encode(access.cert).decode(),
            "client-key-data": base64.b64encode(access.key).decode(),
            "token": access.token,
            "tokenFile": str(access.token_file or ""),
        }
    )


def _context(name: str, access: Access) -> dict[str, Any]:
    return _without_empty({"cluster": name, "user": name, "namespace": access.namespace})


def _without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if value}


def _named(path: Path, tree: dict[str, Any], plural: str, name: str, member: str) -> dict[str, Any]:
    for entry in tree.get(plural) or ():
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(member) or {}
            if isinstance(found, dict):
                return found
    raise KubeconfigError(f"{path}: {plural} has no {name!r}")


def _pem(path: Path, tree: dict[str, Any], name: str) -> bytes:
    """The inline `<name>-data`, which wins as in kubectl, or the contents of the file `<name>`."""
    try:
        if tree.get(f"{name}-data"):
            return base64.b64decode(str(tree[f"{name}-data"]), validate=True)
        if tree.get(name):
            return (path.parent / str(tree[name])).read_bytes()
    except (binascii.Error, OSError) as error:
        raise KubeconfigError(f"{path}: {name}: {error}") from error
    return b""


def _load_cert_chain(context: ssl.SSLContext, pem: bytes) -> None:
    # ssl reads keys from files only; an anonymous one keeps the key off the disk.
    number = os.memfd_create("client-certificate")
    with os.fdopen(number, "wb") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{number}")
