"""Named formats of strings: a check returns what the text must be, or None when it fits.

Names follow RFC 1123; label keys and values follow Kubernetes' API conventions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_interface
from typing import Final
from uuid import UUID

Check = Callable[[str], str | None]

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DEVICE: Final = re.compile(r"[a-z]{3,4}")


def dns_label(text: str) -> str | None:
    """At most 63 characters."""
    if len(text) <= 63 and _LABEL.fullmatch(text):
        return None
    return (
        "must be a lowercase RFC 1123 label: at most 63 lower case letters, digits and '-', "
        "with a letter or digit at both ends"
    )


def dns_subdomain(text: str) -> str | None:
    """At most 253 characters."""
    if len(text) <= 253 and _SUBDOMAIN.fullmatch(text):
        return None
    return (
        "must be a lowercase RFC 1123 subdomain: at most 253 lower case letters, digits, '-' and '.', "
        "with a letter or digit at both ends of each part"
    )


def path_segment(text: str) -> str | None:
    """A name that has no rule but that it must stand in a URL's path."""
    if text in ("", ".", "..") or "/" in text or "%" in text:
        return "must not be '.' or '..' and must not contain '/' or '%'"
    return None


def qualified_name(text: str) -> str | None:
    """A label key, annotation key or finalizer: [DNS subdomain/]name, the name at most 63 characters."""
    prefix, slash, name = text.rpartition("/")
    if slash and (not prefix or dns_subdomain(prefix)):
        return "must have a lowercase RFC 1123 subdomain before the '/'"
    if len(name) <= 63 and _QUALIFIED.fullmatch(name):
        return None
    return (
        "must be a qualified name: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends, "
        "optionally after a DNS subdomain and '/'"
    )


def label_value(text: str) -> str | None:
    """Empty, or at most 63 characters."""
    if not text or (len(text) <= 63 and _QUALIFIED.fullmatch(text)):
        return None
    return (
        "a valid label must be empty, or at most 63 letters, digits, '-', '_' and '.', "
        "with a letter or digit at both ends"
    )


def ip(text: str) -> str | None:
    """An address without zone."""
    try:
        if "%" not in text and ip_address(text):
            return None
    except ValueError:
        pass
    return "must be a valid IP address (such as 10.9.8.7 or 2001:db8::ffff)"


def cidr(text: str) -> str | None:
    """Address and prefix length; bits beyond the length may be set."""
    try:
        if "%" not in text and text.rpartition("/")[2].isdecimal() and "/" in text and ip_interface(text):
            return None
    except ValueError:
        pass
    return "must be a valid CIDR value (such as 10.9.8.0/24 or 2001:db8::/64)"


def ip_family(text: str) -> str | None:
    """The two of Kubernetes."""
    return None if text in ("IPv4", "IPv6") else "must be IPv4 or IPv6"


def uuid(text: str) -> str | None:
    """With hyphens."""
    try:
        if str(UUID(text)) == text.lower():
            return None
    except ValueError:
        pass
    return "must be a UUID such as 123e4567-e89b-12d3-a456-426614174000"


def device(text: str) -> str | None:
    """A disk's device name in the guest."""
    if _DEVICE.fullmatch(text):
        return None
    return "must be a device name: two lower case letters for the bus, then one or two more (such as oda)"


def link(text: str) -> str | None:
    """A network link's name: what the kernel's dev_valid_name() takes (IFNAMSIZ is 16, with the final zero)."""
    if 1 <= len(text.encode()) <= 15 and text not in (".", "..") and not re.search(r"[/:\s]", text):
        return None
    return "must be the name of a network link: 1 to 15 bytes without '/', ':' and white space"


FORMATS: Final[dict[str, Check]] = {
    "ip": ip,
    "cidr": cidr,
    "dns-label": dns_label,
    "dns-subdomain": dns_subdomain,
    "ip-family": ip_family,
    "uuid": uuid,
    "label-value": label_value,
    "qualified-name": qualified_name,
    "device": device,
    "link": link,
    "any": path_segment,
}
