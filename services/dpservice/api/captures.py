"""The packet capture."""

from __future__ import annotations

from typing import Any

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.api import decode, encode
from services.dpservice.api.answers import Door, answers
from services.dpservice.api.encode import SUCCESS
from services.dpservice.model.errors import CaptureFailed, CaptureStopFailed


class CaptureServicer(Door):
    """Start, stop and status of the one capture."""

    @answers(pb.CaptureStartResponse, engine_failed=CaptureFailed)
    def CaptureStart(self, request: pb.CaptureStartRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.capture(request.capture_config)
        self._dataplane.change(lambda model: (None, model.start_capture(wanted)))
        return pb.CaptureStartResponse(status=SUCCESS)

    @answers(pb.CaptureStopResponse, engine_failed=CaptureStopFailed)
    def CaptureStop(self, request: pb.CaptureStopRequest, context: grpc.ServicerContext) -> Any:
        count = self._dataplane.change(lambda model: model.stop_capture())
        return pb.CaptureStopResponse(status=SUCCESS, stopped_interface_cnt=count)

    @answers(pb.CaptureStatusResponse)
    def CaptureStatus(self, request: pb.CaptureStatusRequest, context: grpc.ServicerContext) -> Any:
        running = self._dataplane.read(lambda model: model.capture())
        if running is None:
            return pb.CaptureStatusResponse(status=SUCCESS, is_active=False)
        return pb.CaptureStatusResponse(status=SUCCESS, is_active=True, capture_config=encode.capture(running))
