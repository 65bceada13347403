"""A data plane that speaks what the original speaks and nothing else: `dpservice` without Ferrite's own services."""

from __future__ import annotations

import sys

from protos.dpdkironcore.v1 import dpdk_pb2_grpc
from services.dpservice.__main__ import main
from services.dpservice.api.server import CallsApart, Doors


def only_dpdkironcore(doors: Doors, server: CallsApart) -> None:
    """In place of `Doors.add_to`."""
    dpdk_pb2_grpc.add_DPDKironcoreServicer_to_server(doors.dpdkironcore, server)


if __name__ == "__main__":
    Doors.add_to = only_dpdkironcore  # type: ignore[method-assign]
    main(sys.argv[1:])
