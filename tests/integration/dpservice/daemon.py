"""A daemon with the memory engine, on a unix socket."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from tests.integration.dpservice.lab import IMPATIENT


class Daemon:
    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "services.dpservice", "serve", "--engine=memory", "--static-underlay"),
                *("--ipv6=fc00:1::1", "--uplink=pf0", f"--state-dir={directory}/state"),
                *(f"--grpc-unix={self.socket}", "--device=net_tap2=dtap0", "--device=net_tap3=dtap1", *options),
            ],
            stderr=(directory / "log").open("ab"),
        )
        self.channel = grpc.insecure_channel(f"unix:{self.socket}", options=IMPATIENT)
        grpc.channel_ready_future(self.channel).result(timeout=20)
        self.stub = pb_grpc.DPDKironcoreStub(self.channel)

    @property
    def socket(self) -> Path:
        return self.directory / "grpc.sock"

    def close(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()
