"""Builds the demo guest: an OCI image layout with a kernel, an initramfs and a command line; it has no root disk.

The kernel is Debian's `linux-image-cloud-amd64`, downloaded and unpacked but never installed; the initramfs is busybox,
a few modules and the scripts in `guest/`. Nothing depends on the time of the build, so that equal inputs give equal
digests. `python -m ferrite.dev.guest_image OUTDIR` builds one; needs apt, dpkg and busybox-static.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

KERNEL_PACKAGE: Final = "linux-image-cloud-amd64"
BUSYBOX: Final = Path("/bin/busybox")
SCRIPTS: Final = Path(__file__).parent / "guest"
CACHE: Final = Path(__file__).resolve().parents[2] / "build" / "guest-image"
APT_SECONDS: Final = 240

# In the order in which they must be loaded: virtio.ko needs symbols of virtio_ring.ko, and so on.
MODULES: Final = (
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/block/virtio_blk",
    "drivers/char/hw_random/rng-core",
    "drivers/char/hw_random/virtio-rng",
    "drivers/firmware/qemu_fw_cfg",
    "drivers/input/evdev",
    "drivers/acpi/button",
)

# The second line saves an emulated guest an eighth of its boot.
COMMAND_LINE: Final = (
    "console=ttyS0 quiet panic=-1 random.trust_cpu=on "
    "mitigations=off nokaslr no_timer_check cryptomgr.notests apparmor=0 audit=0 rcupdate.rcu_expedited=1"
)

# Media types of the IronCore image format.
CONFIG_TYPE: Final = "application/vnd.ironcore.image.config.v1+json"
KERNEL_TYPE: Final = "application/vnd.ironcore.image.kernel"
INITRAMFS_TYPE: Final = "application/vnd.ironcore.image.initramfs"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"


def build(directory: Path, cache: Path = CACHE) -> str:
    """Makes `directory` an OCI image layout with the tag `latest`; returns the manifest's digest.

    A second call with the same kernel, busybox and scripts takes milliseconds. Raises RuntimeError when a package
    can't be had or busybox is missing.
    """
    kernel = _kernel(cache)
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    layers = [
        _put(blobs, KERNEL_TYPE, next(kernel.glob("boot/vmlinuz-*")).read_bytes()),
        _put(blobs, INITRAMFS_TYPE, _initramfs(kernel)),
    ]
    config = _put(blobs, CONFIG_TYPE, _json({"commandLine": COMMAND_LINE}))
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers}
    entry = _put(blobs, MANIFEST_TYPE, _json(manifest))
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    _replace(directory / "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    _replace(directory / "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
    return str(entry["digest"])


def _kernel(cache: Path) -> Path:
    """The unpacked kernel package; downloaded once per version that the package lists name."""
    done = sorted(path for path in cache.glob("linux-image-*") if (path / ".complete").exists())
    if done:
        return done[-1]
    package = _kernel_version()
    target = cache / package
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    _run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", package], cwd=target)
    archive = next(target.glob("*.deb"))
    _run(["dpkg-deb", "-x", str(archive), str(target)], cwd=target)
    archive.unlink()
    (target / ".complete").touch()
    return target


def _kernel_version() -> str:
    """The package that the meta package depends on, with refreshed lists when there are none."""
    for refresh in (False, True):
        if refresh:
            _run(["apt-get", "update", "-qq"])
        for line in _run(["apt-cache", "depends", "--important", KERNEL_PACKAGE], check=False).splitlines():
            relation, _, name = line.strip().partition(": ")
            if relation == "Depends" and name.startswith("linux-image-"):
                return name
    raise RuntimeError(f"apt knows no package {KERNEL_PACKAGE}: is a Debian mirror configured?")


def _initramfs(kernel: Path) -> bytes:
    if not BUSYBOX.is_file():
        raise RuntimeError(f"{BUSYBOX} is missing: install the package busybox-static")
    modules = next(kernel.glob("lib/modules/*/kernel"))
    archive = Newc()
    for folder in ("bin", "sbin", "dev", "proc", "sys", "run", "tmp", "etc", "etc/acpi", "etc/acpi/PWRF", "modules"):
        archive.directory(folder)
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    for applet in sorted(_applets()):
        archive.link(f"bin/{applet}", "busybox")
    loaded = []
    for module in MODULES:
        path = modules / f"{module}.ko"
        if path.exists():  # built in otherwise
            loaded.append(path.stem)
            archive.file(f"modules/{path.name}", path.read_bytes(), 0o644)
    archive.file("modules/order", "".join(f"{name}\n" for name in loaded).encode(), 0o644)
    archive.file("init", (SCRIPTS / "init").read_bytes(), 0o755)
    for script in ("lease", "sink"):
        archive.file(f"bin/{script}", (SCRIPTS / script).read_bytes(), 0o755)
    # The event that busybox acpid derives from a pressed power button: device PWRF, value 80.
    archive.file("etc/acpi/PWRF/00000080", (SCRIPTS / "power-button").read_bytes(), 0o755)
    return gzip.compress(archive.finish(), 6, mtime=0)


def _applets() -> Iterator[str]:
    for name in _run([str(BUSYBOX), "--list"]).split():
        if name != "busybox":
            yield name


class Newc:
    """A cpio archive in the format `newc`, which the Linux kernel unpacks as an initramfs."""

    MAGIC = "070701"

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def directory(self, name: str) -> None:
        """Adds a directory, mode 0755."""
        self._add(name, 0o040755, b"")

    def file(self, name: str, content: bytes, mode: int) -> None:
        """Adds a regular file."""
        self._add(name, 0o100000 | mode, content)

    def link(self, name: str, target: str) -> None:
        """Adds a symbolic link."""
        self._add(name, 0o120777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        """Adds a character device, mode 0600."""
        self._add(name, 0o020600, b"", major, minor)

    def finish(self) -> bytes:
        """The archive with its trailer."""
        self._add("TRAILER!!!", 0, b"")
        return b"".join(self._parts)

    def _add(self, name: str, mode: int, content: bytes, major: int = 0, minor: int = 0) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, checksum
        numbers = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(encoded), 0)
        header = (self.MAGIC + "".join(f"{number:08x}" for number in numbers)).encode()
        self._parts += [_padded(header + encoded), _padded(content)]


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _put(blobs: Path, media_type: str, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    if not (blobs / digest).exists():
        _replace(blobs / digest, content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _run(command: list[str], cwd: Path | None = None, *, check: bool = True) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=APT_SECONDS)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def main(arguments: list[str]) -> None:
    """`python -m ferrite.dev.guest_image OUTDIR`."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m ferrite.dev.guest_image OUTDIR")
    print(build(Path(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
