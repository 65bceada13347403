"""Names of everything that a volume consists of, the same as the original's, so that its tools and suites find them."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

VOLUMES_OBJECT: Final = "ironcore.csi.volumes"
"""RADOS object whose omap holds the records: key = volume id, value = JSON."""

LABELS_ANNOTATION: Final = "ceph-provider.ironcore.dev/labels"
ANNOTATIONS_ANNOTATION: Final = "ceph-provider.ironcore.dev/annotations"
CLASS_LABEL: Final = "ceph-provider.ironcore.dev/class"
MANAGER_LABEL: Final = "ceph-provider.ironcore.dev/manager"
MANAGER: Final = "ceph-volume-provider"
IMAGE_FINALIZER: Final = "image"
UID_LABEL: Final = "volumepoollet.ironcore.dev/volume-uid"
"""Set by volumepoollets: the API object that a volume stands for."""

ID_LENGTH: Final = 63
WWN_BYTES: Final = 8
_ID: Final = re.compile(r"[0-9a-f]{63}")


def random_id() -> str:
    """A new volume id: 63 hexadecimal digits."""
    return secrets.token_hex(32)[:ID_LENGTH]


def id_for_uid(uid: str) -> str:
    """The volume id of an API object: the same for each try to create it, so that two tries can't make two volumes."""
    return hashlib.sha256(f"volume-uid/{uid}".encode()).hexdigest()[:ID_LENGTH]


def is_id(text: str) -> bool:
    """Whether the text can be the id of a volume."""
    return _ID.fullmatch(text) is not None


def random_wwn() -> str:
    """A new World Wide Name: 16 hexadecimal digits, which is what fits into a disk's serial number behind its name."""
    return secrets.token_hex(WWN_BYTES)


def image_name(volume_id: str) -> str:
    """The RBD image of a volume."""
    return f"img_{volume_id}"


def user_id(volume_id: str) -> str:
    """The cephx user of a volume, without `client.`."""
    return f"volume-{volume_id}"
