"""`lmm mcp` as agents start it: a real process, a real pipe, in both generations of the protocol."""

import json
import os
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters

from lmm_mcp import children, samples
from lmm_mcp.paths import Home

pytestmark = pytest.mark.anyio
PATIENCE_s = 60


@asynccontextmanager
async def served(env: dict[str, str], era: str, cwd: Path, *options: str):
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "lmm_mcp", "mcp", *options], env=env, cwd=str(cwd)
    )
    async with Client(command, mode=era) as client:
        yield client


async def eventually(look):
    """What `look` finds as soon as it finds something; other processes are at work meanwhile."""
    with anyio.fail_after(PATIENCE_s):
        while not (found := await look()):
            await anyio.sleep(0.05)
        return found


async def recall(client: Client, query: str, **more) -> dict:
    reply = await client.call_tool("recall", {"query": query, "project": "*", **more})
    assert not reply.is_error, reply.content
    return reply.structured_content


async def test_a_served_memory_answers(harbour_env, era, tmp_path):
    async with served(harbour_env, era, tmp_path, "--no-ingest") as client:
        assert len((await client.list_tools()).tools) == 4
        found = await recall(client, "which port does the development database use?")
    assert found["status"] == "found"
    assert "5433" in found["text"]


async def test_the_working_directory_of_the_process_is_where_the_question_comes_from(own_env, era, tmp_path):
    shop = tmp_path / "shop"
    (shop / ".git").mkdir(parents=True)
    (shop / ".git" / "config").write_text("[core]\n\tbare = false\n", encoding="utf-8")
    async with served(own_env, era, shop, "--no-ingest") as client:
        reply = await client.call_tool("recall", {"query": "which port does the development database use?"})
    assert reply.structured_content["status"] == "nothing_found"
    assert str(shop) in reply.structured_content["text"]


async def test_the_first_server_on_an_empty_home_reads_the_sessions(tmp_path, era):
    env = samples.environment({**os.environ, "HOME": str(tmp_path)}, tmp_path / "lmm")
    async with served(env, era, tmp_path) as client:

        async def look():
            found = await recall(client, "which port does the development database use?")
            return found["status"] == "found" and found

        found = await eventually(look)
    assert "5433" in found["text"]


async def test_the_first_question_to_a_new_memory_is_told_that_reading_has_just_begun(tmp_path, era):
    env = samples.environment({**os.environ, "HOME": str(tmp_path)}, tmp_path / "lmm")
    async with served(env, era, tmp_path) as client:
        first = await client.call_tool("status", {})
    assert first.structured_content["reading"] in ("beginning", "importing")
    assert "nothing has been imported" not in first.content[0].text


async def test_a_remembered_note_can_be_recalled_soon_and_the_reader_goes_with_its_server(own_env, era, tmp_path):
    home = Home(Path(own_env["LMM_HOME"]))
    async with served(own_env, era, tmp_path) as client:
        await client.list_tools()  # what every client asks first; the ingest process is started after it

        async def is_watching():
            said = children.progress(home)
            return said is not None and said.phase == "watching" and said.is_running and said

        said = await eventually(is_watching)
        await client.call_tool("remember", {"text": "The mooring fee of berth 44 is due in April."})
        started = time.monotonic()

        async def look():
            found = await recall(client, "when is the mooring fee of berth 44 due?")
            return "in April" in found["text"]

        await eventually(look)
        assert time.monotonic() - started < 10  # two seconds on a machine that is not shared by a whole test run

    async def is_gone():
        return not said.is_running

    await eventually(is_gone)


async def test_two_servers_share_one_reader(own_env, era, tmp_path):
    home = Home(Path(own_env["LMM_HOME"]))

    async def is_watching():
        said = children.progress(home)
        return said is not None and said.phase == "watching" and said.is_running and said

    async with served(own_env, era, tmp_path) as first, served(own_env, era, tmp_path) as second:
        await first.list_tools()
        one = await eventually(is_watching)
        await second.list_tools()
        await recall(second, "which port does the development database use?")
        again = await eventually(is_watching)
    assert one.pid == again.pid


async def test_nothing_but_the_protocol_reaches_standard_output_and_no_question_the_log(own_env, era, tmp_path):
    async with await anyio.open_process(
        [sys.executable, "-m", "lmm_mcp", "mcp", "--no-ingest"], env=own_env, cwd=tmp_path
    ) as server:
        client = {"name": "test", "version": "0"}
        named = {"protocolVersion": "2026-07-28", "clientInfo": client, "clientCapabilities": {}}
        meta = {"_meta": {f"io.modelcontextprotocol/{name}": value for name, value in named.items()}}
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        greeting = [
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
        ]
        if era != "legacy":
            greeting = [{"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": meta}]
        more = {} if era == "legacy" else meta
        calls = (call_of("which port, XYLOPHONE?"), call_of("XYLOPHONE", since="XYLOPHONE"))
        messages = greeting + [
            {"jsonrpc": "2.0", "id": 2 + n, "method": "tools/call", "params": call | more}
            for n, call in enumerate(calls)
        ]
        for message in messages:
            await server.stdin.send(json.dumps(message).encode() + b"\n")
        told = b""
        while told.count(b"\n") < 3:
            told += await server.stdout.receive()
        await server.stdin.aclose()
        assert await server.wait() == 0
        complaints = b"".join([part async for part in server.stderr])
    assert {json.loads(line)["id"] for line in told.splitlines()} == {1, 2, 3}
    assert b"XYLOPHONE" not in complaints
    log = (Path(own_env["LMM_HOME"]) / "logs" / "server.log").read_text(encoding="utf-8")
    assert "recall: " in log
    assert "XYLOPHONE" not in log


def call_of(query: str, **more) -> dict:
    return {"name": "recall", "arguments": {"query": query, **more}}


async def test_a_home_that_cannot_be_used_is_named_in_one_line(tmp_path):
    (tmp_path / "lmm").write_text("a file", encoding="utf-8")
    env = {**os.environ, "LMM_HOME": str(tmp_path / "lmm")}
    done = await anyio.run_process([sys.executable, "-m", "lmm_mcp", "mcp"], env=env, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("lmm: ")
    assert "Traceback" not in done.stderr.decode()
