"""Media types: what a client accepts, and how a request's body is to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protos.k8s.runtime.runtime_pb2 import TypeMeta, Unknown
from services.apimachinery.errors import BadRequest, NotAcceptable, UnsupportedMediaType

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
MAGIC: Final = b"k8s\x00"

_KNOWN: Final = {JSON: JSON, YAML: YAML, "text/yaml": YAML, "application/x-yaml": YAML, PROTOBUF: PROTOBUF}
TABLE, PARTIAL, PARTIAL_LIST = "Table", "PartialObjectMetadata", "PartialObjectMetadataList"


@dataclass(frozen=True)
class Accepted:
    """The form of an answer: media type, and a transformation ("Table", ...) when one was asked for."""

    media: str = JSON
    transform: str = ""
    include: str = ""  # what a table's rows carry: "None", "Metadata" (also when empty) or "Object"


def accepted(header: str, *, protobuf: bool, include: str = "") -> Accepted:
    """The first form of an Accept header that is served. Raises NotAcceptable."""
    if not header.strip():
        return Accepted()
    for part in header.split(","):
        media, *rest = [piece.strip() for piece in part.split(";")]
        parameters = dict(pair.split("=", 1) for pair in rest if "=" in pair)
        form = JSON if media in ("*/*", "application/*") else _KNOWN.get(media)
        transform = parameters.get("as", "")
        if form is None or (form is PROTOBUF and not protobuf):
            continue
        if transform:
            if transform not in (TABLE, PARTIAL, PARTIAL_LIST) or form is PROTOBUF:
                continue
            if (parameters.get("g"), parameters.get("v")) != ("meta.k8s.io", "v1"):
                continue
        return Accepted(form, transform, include)
    forms = [JSON, YAML, *([PROTOBUF] if protobuf else [])]
    raise NotAcceptable(f"only the following media types are accepted: {', '.join(forms)}")


def body_form(header: str, *, protobuf: bool) -> str:
    """The form of a request's body. Raises UnsupportedMediaType."""
    media = header.partition(";")[0].strip().lower()
    form = _KNOWN.get(media or JSON)
    if form is None or (form is PROTOBUF and not protobuf):
        forms = [JSON, YAML, *([PROTOBUF] if protobuf else [])]
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(forms)}"
        )
    return form


def wrap(api_version: str, kind: str, raw: bytes) -> bytes:
    """The Kubernetes protobuf envelope around a serialized object."""
    meta = TypeMeta(api_version=api_version, kind=kind)
    return MAGIC + Unknown(type_meta=meta, raw=raw).SerializeToString()


def unwrap(body: bytes) -> tuple[str, str, bytes]:
    """apiVersion, kind and bytes of an enveloped object. Raises BadRequest."""
    if body[:4] != MAGIC:
        raise BadRequest("the body does not begin with the prefix of Kubernetes protobuf")
    try:
        unknown = Unknown.FromString(body[4:])
    except Exception as error:
        raise BadRequest(f"the body is not a Kubernetes protobuf envelope: {error}") from None
    return unknown.type_meta.api_version, unknown.type_meta.kind, unknown.raw
