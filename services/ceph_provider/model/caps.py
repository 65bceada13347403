"""What the cephx user of one volume may do: open its own image, read and write it, nothing else in the pool."""

from __future__ import annotations

from services.ceph_provider.model import names


def volume_caps(pool: str, volume_id: str, rbd_id: str) -> list[str]:
    """Capabilities as the monitors' `auth` commands take them; `rbd_id` is the image's internal id.

    RBD keeps an image in objects whose names begin like this. The name's object ends with a whole volume id, and data
    objects have a full stop behind the internal id; `x` calls RBD's methods in the OSD. `rbd_info` has the pool's
    settings, without which librbd opens nothing.
    """
    objects = {
        "rbd_info": "rx",
        f"rbd_id.{names.image_name(volume_id)}": "rx",
        f"rbd_header.{rbd_id}": "rwx",
        f"rbd_object_map.{rbd_id}": "rwx",
        f"rbd_data.{rbd_id}.": "rw",
    }
    osd = ", ".join(f"allow {rights} pool={pool} object_prefix {prefix}" for prefix, rights in objects.items())
    return ["mon", "profile rbd", "osd", osd]
