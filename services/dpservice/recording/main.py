"""`dpservice capture --vf ID ... --write FILE`: packets of this host's guests and uplinks as a pcap file or stream.

Without the daemon it works too: the programs record into a pinned buffer. `--write -` goes into a pipe:
`ferrite dpservice capture --bpf-root DIR --vf vm1 --write - | tcpdump -nr -`.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import BinaryIO, NoReturn

import grpc
from pydantic import Field

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from services.common import settings
from services.common.settings import ServiceSettings
from services.dpservice.engine.capture import FIRST_UPLINK, IN, OUT
from services.dpservice.engine.pins import Pins
from services.dpservice.recording import pcap
from services.dpservice.recording.recorder import RECORD_MAX, Recorder
from services.dpservice.settings import USUAL_ROOT

PROGRAM = "dpservice capture"
CALL_SECONDS = 5.0
WAIT_SECONDS = 0.5


class CaptureSettings(ServiceSettings):
    """What is captured and where to."""

    bpf_root: str = Field(USUAL_ROOT, description="the --bpf-root of the data plane")
    vf: list[str] = Field([], description="interface id, or name of a guest device; repeatable")
    pf: list[int] = Field([], description="index of an uplink, 0 or 1, for what comes in there; repeatable")
    write: str = Field("-", description="pcap file; -: standard output, for `tcpdump -r -`")
    address: str = Field("localhost:1337", description="the data plane's gRPC address, asked for interface ids")
    snap_length: int = Field(RECORD_MAX, ge=14, le=RECORD_MAX, description="bytes kept of a packet")
    count: int = Field(0, ge=0, description="end after so many packets; 0: when interrupted")


def main(arguments: list[str]) -> None:
    """Captures until interrupted. Raises SystemExit: 2 for wrong settings, 1 for what the machine refuses."""
    wanted = settings.load(CaptureSettings, arguments, PROGRAM)
    if not wanted.vf and not wanted.pf:
        _refuse("--vf, --pf: none is given", code=2)
    if wanted.write == "-" and sys.stdout.isatty():
        _refuse("--write -: is for a pipe: ... --write - | tcpdump -nr -", code=2)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        points = dict.fromkeys(_points(wanted), IN | OUT)
        recorder = Recorder(Path(wanted.bpf_root), points, wanted.snap_length)
        with sys.stdout.buffer if wanted.write == "-" else Path(wanted.write).open("wb") as out:
            _run(recorder, out, wanted.count, wanted.snap_length)
    except BrokenPipeError:
        sys.stderr.close()
    except (LookupError, OSError) as error:
        _refuse(str(error), code=1)


def _run(recorder: Recorder, out: BinaryIO, count: int, snap_length: int) -> None:
    seen = 0
    with recorder.recording():
        out.write(pcap.file_header(snap_length))
        out.flush()
        try:
            while not count or seen < count:
                for recorded in recorder.packets(WAIT_SECONDS):
                    out.write(pcap.packet(recorded.time, recorded.length, recorded.data))
                    seen += 1
                    if seen == count:
                        break
                out.flush()
        except KeyboardInterrupt:
            pass
        print(f"{seen} packets, {recorder.lost} lost", file=sys.stderr)


def _points(wanted: CaptureSettings) -> list[int]:
    """Raises LookupError for what is not there, OSError."""
    pins = Pins(Path(wanted.bpf_root))
    layout, devices = pins.layout("port"), {}
    for key, raw in pins.items("ports"):
        if layout.number(raw, "used"):
            name = layout.bytes(raw, "device").rstrip(b"\0").decode()
            devices[name] = int.from_bytes(key, "little")
    for index in wanted.pf:
        if index not in (0, 1):
            raise LookupError(f"--pf: there is no uplink {index}")
    guests = []
    for name in wanted.vf:
        device = name if name in devices else _device_of(name, wanted.address)
        if device not in devices:
            raise LookupError(f"--vf: {name} has no port")
        guests.append(devices[device])
    return guests + [FIRST_UPLINK + index for index in wanted.pf]


def _device_of(interface: str, address: str) -> str:
    """The device of an interface. Raises LookupError."""
    with grpc.insecure_channel(address) as channel:
        request = pb.GetInterfaceRequest(interface_id=interface.encode())
        try:
            answer = pb_grpc.DPDKironcoreStub(channel).GetInterface(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise LookupError(
                f"--vf: {interface} is no guest device, and {address} can't be asked: {error.code().name}"
            ) from error
    if answer.status.code:
        raise LookupError(f"--vf: there is no interface or guest device {interface}")
    return str(answer.interface.pci_name)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _refuse(text: str, code: int) -> NoReturn:
    print(f"{PROGRAM}: {text}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
