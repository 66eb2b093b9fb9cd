"""`lmm serve --http`: the same tools for clients that want a URL, and for nobody else."""

import contextlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from lmm_mcp.errors import EngineError, HomeError
from lmm_mcp.paths import Home
from lmm_mcp.server import http, reach

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def served(harbour_env, tmp_path_factory):
    """The memory of `harbour_env`, served over HTTP: its environment, URL and token."""
    process = subprocess.Popen(
        [sys.executable, "-c", FREE_PORT, harbour_env["LMM_HOME"]],
        env=harbour_env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    said = [next(iter(process.stdout)), next(iter(process.stdout))]
    url = re.search(r"http://127\.0\.0\.1:\d+/mcp", said[0])[0]
    home = Home(Path(harbour_env["LMM_HOME"]))
    token = home.http_token.read_text(encoding="ascii").strip()
    assert token not in "".join(said)
    yield harbour_env, url, token
    reach.ask(home, {"want": "stop"}, 10)
    process.stdout.close()
    assert process.wait(60) == 0


# As `lmm serve --http`, on a port that is free.
FREE_PORT = """
import os, sys
from pathlib import Path
from lmm_mcp.paths import Home
from lmm_mcp.server import http, staying
http.SILENCE_s = 3.0
os._exit(staying.serve(Home(Path(sys.argv[1])), os.environ, 0))
"""


def asked(url: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of a plain request, as a browser or a curious neighbour would make it."""
    listing = body or json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
    usual = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    request = urllib.request.Request(url, data=listing, headers={**usual, **headers}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()
    except urllib.error.URLError as refusal:
        if isinstance(refusal.reason, ConnectionError):  # it does not listen to the end
            return 413, b""
        raise


async def test_a_client_with_the_token_recalls_from_the_project_it_names(served, era):
    _, url, token = served
    found = {}
    for project in ("", "/home/mira/lighthouse"):
        headers = {"Authorization": f"Bearer {token}", **({"X-LMM-Project": project} if project else {})}
        async with (
            create_mcp_http_client(headers=headers) as web,
            Client(streamable_http_client(url, http_client=web), mode=era) as client,
        ):
            assert len((await client.list_tools()).tools) == 4
            reply = await client.call_tool("status", {})
            found[project] = reply.structured_content["project"]
            reply = await client.call_tool("recall", {"query": "how often does the lamp turn?"})
            assert "17 seconds" in reply.structured_content["text"]
    assert found == {"": "", "/home/mira/lighthouse": "/home/mira/lighthouse"}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic {token}", "bearer{token}"])
def test_nobody_without_the_token_is_answered(served, authorization):
    _, url, token = served
    headers = {} if authorization is None else {"Authorization": authorization.format(token=token)}
    assert asked(url, headers) == (401, b"")
    assert asked(url.replace("/mcp", "/anything"), headers) == (401, b"")


@pytest.mark.parametrize(
    "header", [("Origin", "http://evil.example"), ("Origin", "null"), ("Host", "evil.example"), ("Host", "evil:80")]
)
def test_no_web_page_reaches_it_through_a_browser_even_with_the_token(served, header):
    _, url, token = served
    status, _ = asked(url, {"Authorization": f"Bearer {token}", header[0]: header[1]})
    assert status in (403, 421)


def test_a_body_that_is_too_long_or_nonsense_is_refused(served):
    _, url, token = served
    headers = {"Authorization": f"Bearer {token}"}
    assert asked(url, headers, b"x" * 2_500_000)[0] in (400, 413)
    assert asked(url, headers, b"nonsense")[0] == 400
    assert asked(url, headers)[0] == 200


def test_the_token_stands_in_no_log(served):
    env, url, token = served
    asked(url, {"Authorization": f"Bearer {token}", "Origin": "http://evil.example"})
    logs = b"".join(path.read_bytes() for path in (Path(env["LMM_HOME"]) / "logs").iterdir())
    assert logs
    assert token.encode() not in logs


@pytest.mark.skipif(os.name != "posix", reason="rights of files are another matter there")
def test_the_token_is_made_once_and_readable_by_the_user_alone(tmp_path):
    home = Home(tmp_path / "lmm").ensure()
    token = http.token_of(home)
    assert len(token) >= 40
    assert stat.S_IMODE(home.http_token.stat().st_mode) == 0o600
    home.http_token.chmod(0o644)
    assert http.token_of(home) == token
    assert stat.S_IMODE(home.http_token.stat().st_mode) == 0o600
    home.http_token.write_text("short", encoding="ascii")
    with pytest.raises(HomeError, match="holds no token"):
        http.token_of(home)


def test_a_port_that_is_taken_is_named(tmp_path):
    with http.bound(0) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"
        with pytest.raises(EngineError, match="Choose another one with --port"):
            http.bound(taken.getsockname()[1])


def test_silent_neighbours_are_cut_off_and_keep_nobody_out(served):
    _, url, token = served
    address = ("127.0.0.1", urllib.parse.urlsplit(url).port)
    silent = [socket.create_connection(address, timeout=30) for _ in range(http.MAX_CONNECTIONS + 20)]
    try:
        silent[0].sendall(b"POST /mcp HTTP/1.1\r\nHost: ")  # one that never ends its request
        for each in silent:
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
    finally:
        for each in silent:
            each.close()
    assert asked(url, {"Authorization": f"Bearer {token}"})[0] == 200


@pytest.mark.parametrize("last", [b"x", b"123456789GET"])
def test_neighbours_who_were_turned_away_and_send_half_of_a_request_are_cut_off_too(served, last):
    _, url, _ = served
    with socket.create_connection(("127.0.0.1", urllib.parse.urlsplit(url).port), timeout=15) as neighbour:
        neighbour.sendall(b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert neighbour.recv(4096).startswith(b"HTTP/1.1 401 ")
        neighbour.sendall(last)
        with contextlib.suppress(ConnectionResetError):
            assert neighbour.recv(1) == b""
