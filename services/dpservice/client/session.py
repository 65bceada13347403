"""The connection to a server, and what can go wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from services.common.grpc_client import OPTIONS

CALL_SECONDS: Final = 30.0
CLIENT_CODE: Final = 1000
"""Code of what the client itself found wrong, where a server would give one of its own."""
CLIENT_EXIT, SERVER_EXIT = 1, 2


class Failure(Exception):
    """An error as it is shown: from where (client, grpc, server), with a code and a text."""

    def __init__(self, source: str, code: int, message: str) -> None:
        super().__init__(message)
        self.source, self.code, self.message = source, code, message

    @property
    def exit_code(self) -> int:
        """2 for what the server refused, 1 for everything else."""
        return SERVER_EXIT if self.source == "server" else CLIENT_EXIT

    def __str__(self) -> str:
        return f"{self.message} ({self.code})" if self.source == "server" else self.message


def client_failure(message: str) -> Failure:
    """What is wrong on this side."""
    return Failure("client", CLIENT_CODE, message)


class Session:
    """Calls by their names. Every call raises Failure."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = pb_grpc.DPDKironcoreStub(channel)

    def call(self, name: str, request: Message) -> Any:
        """The answer, if the server did what it was asked."""
        try:
            answer = getattr(self._stub, name)(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNIMPLEMENTED:
                # The original's clients take it for a refusal by the server, and exit so.
                raise Failure("server", code.value[0], f"the server does not serve {name}") from error
            raise Failure("grpc", code.value[0], error.details() or code.name) from error
        if answer.status.code:
            raise Failure("server", answer.status.code, answer.status.message)
        return answer


@contextmanager
def connected(address: str, seconds: float) -> Iterator[Session]:
    """A session with `host:port` or `unix:/path`. Raises Failure when there is nobody within `seconds`."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=seconds)
        except grpc.FutureTimeoutError as error:
            raise client_failure(f"{address}: nobody answers within {seconds:g} s") from error
        yield Session(channel)
