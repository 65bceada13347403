"""What keeps a server from starting, and whom a starting one answers."""

from __future__ import annotations

import pytest

from protos.compute.v1alpha1.machine_pb2 import Machine
from services.apimachinery.errors import Unavailable
from services.apimachinery.server.app import ApiServer
from services.apimachinery.server.auth.authorizer import AllowAll
from services.apimachinery.server.auth.identity import SYSTEM, User
from services.apimachinery.server.pipeline import Pipeline
from services.apimachinery.server.resource import define
from services.apimachinery.server.settings import ApiServerSettings


async def test_a_column_that_nobody_renders() -> None:
    settings = ApiServerSettings.model_construct(insecure=True, etcd_endpoints="127.0.0.1:1")
    with pytest.raises(ValueError, match=r"machines\.compute\.ironcore\.dev: .*local-disk-image"):
        ApiServer(settings, [define(Machine)])


def test_a_starting_server_answers_itself_only() -> None:
    pipeline = Pipeline(AllowAll())
    pipeline.require_started(User("anna"))
    pipeline.starting = "the server is starting"
    pipeline.require_started(SYSTEM)
    with pytest.raises(Unavailable, match="starting"):
        pipeline.require_started(User("admin", ("system:masters",)))
