"""Real processes: their exit codes, their last words, their drain."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.support.eventually import eventually

PROGRAM = """
import asyncio, sys
from services.common.service import run_service
from services.common.settings import ServiceSettings, load

async def main(settings, health):
    {body}

run_service(main, load(ServiceSettings, sys.argv[1:], "test"), "test", node="n1")
"""


@dataclass
class Ended:
    code: int
    logs: list[dict[str, str]]

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.logs]


async def start(body: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM.format(body=body),
        *arguments,
        cwd=Path(__file__).parents[3],
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process, *, terminate: bool = True) -> Ended:
    if terminate:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, [json.loads(line) for line in err.splitlines()])


UP = "print('up', flush=True); "


async def test_sigterm_lets_main_clean_up_and_ends_with_0() -> None:
    ended = await end(
        await start(
            UP + "\n    try: await asyncio.sleep(60)\n    finally:\n"
            "        await asyncio.sleep(0.01); print('cleaned', file=sys.stdout)"
        )
    )
    assert ended.code == 0
    assert ended.events == ["drain started", "process ended"]
    assert {(line["service"], line["node"]) for line in ended.logs} == {("test", "n1")}


@pytest.mark.parametrize(
    ("body", "terminate", "error"),
    [
        pytest.param("raise RuntimeError('no disk')", False, "RuntimeError: no disk", id="main fails"),
        pytest.param("return", False, "its main task has ended", id="main returns"),
        pytest.param(
            "\n    async with asyncio.TaskGroup() as group:\n"
            "        group.create_task(asyncio.sleep(60)); raise OSError('no port')",
            False,
            "OSError: no port",
            id="a task of main's group fails",
        ),
        pytest.param(
            UP + "\n    try: await asyncio.sleep(60)\n    finally: raise ValueError('unclean')",
            True,
            "ValueError: unclean",
            id="cleaning up fails",
        ),
    ],
)
async def test_a_failure_is_logged_and_ends_with_1(body: str, terminate: bool, error: str) -> None:
    ended = await end(await start(body), terminate=terminate)
    assert ended.code == 1
    assert error in [line.get("error") for line in ended.logs]


async def test_a_thread_that_a_library_holds_does_not_hold_up_the_end() -> None:
    hangs = (
        "import time; from concurrent.futures import ThreadPoolExecutor\n"
        "    asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), time.sleep, 600)\n"
        f"    {UP}await asyncio.sleep(60)"
    )
    ended = await end(await start(hangs))
    assert ended.code == 0
    assert ended.events == ["drain started", "process ended"]


async def test_an_ops_address_that_is_taken_ends_with_1() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        ended = await end(await start("await asyncio.sleep(60)", f"--ops-listen=127.0.0.1:{port}"), terminate=False)
    assert (ended.code, ended.events) == (1, ["ops endpoint failed"])


async def test_readiness_is_visible_from_outside() -> None:
    process = await start("health.ready(); await asyncio.sleep(60)", "--ops-listen=127.0.0.1:0")
    assert process.stderr is not None
    async with asyncio.timeout(20):
        address = json.loads(await process.stderr.readline())["address"]

    async def ready() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/readyz") as answer:
            return answer.status == 200

    await eventually(ready)
    process.send_signal(signal.SIGTERM)
    assert (await end(process, terminate=False)).code == 0


async def test_a_second_main_that_hangs_is_left_behind(tmp_path: Path) -> None:
    body = (
        "import services.common.service as service; service.DRAIN_SECONDS = 0.2\n    " + UP + "\n    while True:\n"
        "        try: await asyncio.sleep(60)\n        except asyncio.CancelledError: pass"
    )
    ended = await end(await start(body))
    assert (ended.code, ended.events) == (1, ["drain started", "drain took too long"])
