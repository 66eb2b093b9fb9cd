"""What agents send is answered, even where it is cut in the middle of a character."""

import json
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from lmm_mcp.server.mending import mended


@given(st.text(st.one_of(st.characters(exclude_categories=()), st.sampled_from('\ud83d\ude00\\"u')), max_size=60))
def test_only_lone_halves_of_characters_are_replaced(text):
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert json.loads(mended(json.dumps(text).encode())).count("\ufffd") == whole.count("\ufffd")
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert mended(json.dumps(text).encode()) == json.dumps(text).encode()


def test_half_a_character_in_an_argument_gets_an_answer(harbour_env, tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-m", "lmm_mcp", "mcp", "--no-ingest"],
        env=harbour_env,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    call = {"name": "recall", "arguments": {"query": "which port does the database use? \ud83d", "project": "*"}}
    with server:
        answers = []
        for message in (
            {"id": 1, "method": "initialize", "params": hello},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/call", "params": call},
        ):
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            server.stdin.flush()
            while "id" in message and (not answers or answers[-1].get("id") != message["id"]):
                answers.append(json.loads(server.stdout.readline()))
        server.stdin.close()
    assert "5433" in answers[-1]["result"]["structuredContent"]["text"]
