"""A memory model behind a server on this machine: a real one that speaks the protocol, well and badly."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lmm_mcp import artifacts, config, prompting
from lmm_mcp.domain.writing import Offered
from lmm_mcp.errors import ModelError
from lmm_mcp.model import standing
from lmm_mcp.model.loopback import LoopbackRuntime, place_of
from lmm_mcp.model.serving import Serving
from lmm_mcp.model.writer import MemoryWriter
from lmm_mcp.paths import Home

OFFERED = [
    Offered(1, "a" * 16, 0, "user", "use npm", "2026-01-01", superseded=True),
    Offered(2, "b" * 16, 3, "user", "we use pnpm now", "2026-02-15"),
]


class Server(ThreadingHTTPServer):
    """What a test wants it to say, and what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict]] = []
        self.says = ["2"]
        self.status = 200
        self.pause_s = 0.0
        self.body: bytes | None = None
        self.name = "BaseHTTP/0.6"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def version_string(self) -> str:
        return self.server.name

    def do_POST(self) -> None:
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append((self.path, request))
        time.sleep(server.pause_s)
        said = server.says[min(len(server.asked), len(server.says)) - 1]
        reply = {"choices": [{"message": {"role": "assistant", "content": said}}]}
        body = server.body if server.body is not None else json.dumps(reply).encode()
        try:
            self.send_response(server.status)
            self.send_header("Location", "http://192.0.2.1/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # whoever asked has gone

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_the_prompt_that_training_knows_is_asked_and_the_answer_taken(server):
    written = MemoryWriter(LoopbackRuntime(server.address, model="qwen3")).write("npm?", OFFERED, within_s=5)
    assert (written.chosen, written.model) == ((2,), "qwen3")
    ((path, asked),) = server.asked
    assert path == "/v1/chat/completions"
    assert asked["messages"] == [{"role": "user", "content": prompting.choosing("npm?", OFFERED)}]
    assert (asked["model"], asked["temperature"]) == ("qwen3", 0)


def test_an_adapter_is_asked_in_the_place_of_its_model(server):
    LoopbackRuntime(server.address + "/v1/", model="qwen3", adapter="memory").choose("?", [1], within_s=5)
    ((path, asked),) = server.asked
    assert (path, asked["model"]) == ("/v1/chat/completions", "memory")


@pytest.mark.parametrize("said", ["7", "1 1", "Line 2 answers.", "", "2, 1", "none of them"])
def test_what_the_grammar_does_not_allow_counts_as_no_answer(server, said):
    server.says = [said]
    assert MemoryWriter(LoopbackRuntime(server.address)).write("npm?", OFFERED, within_s=5) is None


def test_a_server_that_takes_a_grammar_is_held_to_it_as_soon_as_it_has_told_its_name(server):
    server.name, server.says = "llama.cpp", ["2", "2", "We use pnpm now [2]."]
    model = LoopbackRuntime(server.address)
    for _ in range(2):
        assert model.choose("?", [1, 2], within_s=5).numbers == (2,)
    assert model.write("?", max_new_tokens=9, within_s=5) == "We use pnpm now [2]."
    sent = [asked.get("grammar") for _, asked in server.asked]
    assert sent == [None, 'root ::= "none" | line (" " line){0,1}\nline ::= "1" | "2"', None]


def test_no_other_server_is_sent_a_grammar(server):
    model = LoopbackRuntime(server.address)
    for _ in range(2):
        assert model.choose("?", [1, 2], within_s=5).numbers == (2,)
    assert not any("grammar" in asked for _, asked in server.asked)


def test_a_server_that_refuses_a_grammar_is_sent_none_again(server, monkeypatch):
    monkeypatch.setattr("lmm_mcp.model.loopback.FIRST_RETRY_s", 0.0)
    server.name = "llama.cpp"
    model = LoopbackRuntime(server.address)
    assert model.choose("?", [2], within_s=5).numbers == (2,)
    server.status = 400
    assert model.choose("?", [2], within_s=5) is None
    server.status = 200
    assert model.choose("?", [2], within_s=5).numbers == (2,)
    assert ["grammar" in asked for _, asked in server.asked] == [False, True, False]


def test_sentences_are_checked_as_those_of_our_own_process_are(server):
    server.says = ["2", "The user said: we use pnpm now [2]. We use yarn now [2]. We use npm [9]."]
    written = MemoryWriter(LoopbackRuntime(server.address), max_sentences=3).write("npm?", OFFERED, within_s=5)
    assert [(each.text, each.cites) for each in written.sentences] == [("The user said: we use pnpm now.", (2,))]
    assert written.dropped == 2


def test_a_sentence_that_says_no_more_than_its_line_is_not_told_beside_it(server):
    server.says = ["2", "Pnpm now [2]. We use pnpm now [2]."]
    written = MemoryWriter(LoopbackRuntime(server.address), max_sentences=3).write("npm?", OFFERED, within_s=5)
    assert (written.sentences, written.dropped, written.chosen) == ((), 0, (2,))


def test_who_is_slow_is_not_waited_for_and_asked_again(server):
    model = LoopbackRuntime(server.address)
    server.pause_s = 1.0
    begun_s = time.monotonic()
    assert model.choose("?", [2], within_s=0.2) is None
    assert time.monotonic() - begun_s < 0.8
    server.pause_s = 0.0
    assert model.choose("?", [2], within_s=5).numbers == (2,)


@pytest.mark.parametrize(
    ("status", "body"), [(500, None), (302, None), (200, b"not json"), (200, b"{}"), (200, b"x" * 2_000_000)]
)
def test_one_that_answers_badly_is_left_alone_for_a_while(server, status, body):
    server.status, server.body = status, body
    model = LoopbackRuntime(server.address)
    assert model.choose("?", [2], within_s=5) is None
    server.status, server.body = 200, None
    assert model.choose("?", [2], within_s=5) is None
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_costs_nothing():
    assert LoopbackRuntime("http://127.0.0.1:9").choose("?", [1], within_s=1) is None


def test_no_proxy_of_the_environment_is_asked(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:3128")
    assert LoopbackRuntime(server.address).choose("?", [2], within_s=5).numbers == (2,)


@pytest.mark.parametrize(
    "address",
    [
        "http://192.168.1.4:8080",
        "http://example.org/v1",
        "https://127.0.0.1:8080",
        "http://127.0.0.1.example.org",
        "http://localhost@example.org",
        "http://[2001:db8::1]:80",
        "http://0.0.0.0:8080",
        "127.0.0.1:8080",
        "http://127.0.0.1:port",
        "some=thing",
        "",
    ],
)
def test_no_other_machine_is_asked(address):
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:8080|only 127\.0\.0\.1"):
        LoopbackRuntime(address)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080, "/v1/chat/completions")),
        ("http://[::1]:8000/v1/", ("::1", 8000, "/v1/chat/completions")),
        ("http://LOCALHOST:11434/v1/chat/completions", ("localhost", 11434, "/v1/chat/completions")),
    ],
)
def test_this_machine_may_be_named_in_several_ways(address, place):
    assert place_of(address) == place


def test_a_server_is_not_asked_by_a_version_of_which_something_was_forgotten(server, tmp_path):
    home = Home(tmp_path / "lmm").ensure()
    draft = artifacts.draft(home)
    (draft / "adapter").mkdir()
    (draft / "adapter" / "weights").write_bytes(b"1")
    manifest = artifacts.Manifest("base", "h", "s", "l", "p", {}, 0, "run", "1", {}, "cpu", None)
    sources = artifacts.Sources.of([("codex", "t1")], [], as_of=artifacts.forgettings(home))
    version = artifacts.commit(home, draft, manifest, None, sources)
    settings = config.Model(server=server.address, name="qwen3", adapter=version.name)
    assert Serving(home, {}, settings).writer() is not None
    artifacts.mark_unclean(home, [("codex", "t1")])
    assert Serving(home, {}, settings).writer() is None
    assert Serving(home, {}, settings).scribe() is None
    assert Serving(home, {}, config.Model(server=server.address, adapter="mine")).writer() is not None
    assert Serving(home, {}, config.Model(server=server.address, adapter="v9999")).writer() is None


def committed(home: Home, max_sentences: int) -> str:
    draft = artifacts.draft(home)
    (draft / "adapter").mkdir()
    (draft / "adapter" / "weights").write_bytes(b"1")
    manifest = artifacts.Manifest(
        "base", "h", "s", "l", "p", {}, 0, "run", "1", {}, "cpu", None, max_sentences=max_sentences
    )
    return artifacts.commit(home, draft, manifest, None, artifacts.Sources.of([], [], as_of=0)).name


def test_a_version_writes_only_as_much_as_it_passed_with_whatever_the_settings_ask_for(server, tmp_path):
    home = Home(tmp_path / "lmm").ensure()
    silent, short = committed(home, 0), committed(home, 1)
    said = "The user said that we use pnpm now [2]. The user said: we use pnpm now [2]."

    def sentences(adapter: str, max_sentences: int = 3) -> int:
        server.asked.clear()
        server.says = ["2", said]
        settings = config.Model(server=server.address, adapter=adapter, max_sentences=max_sentences)
        written = Serving(home, {}, settings).writer().write("npm?", OFFERED, within_s=5)
        assert (written.chosen, written.model) == ((2,), adapter)
        return len(written.sentences)

    assert sentences("mine") == 2, "what is no version of ours is the user's to judge"
    assert sentences(silent) == 0
    assert len(server.asked) == 1, "and is not asked for any"
    assert sentences(short) == 1
    assert sentences(short, max_sentences=0) == 0
    server.asked.clear()
    scribe = Serving(home, {}, config.Model(server=server.address, adapter=silent)).scribe()
    assert scribe.write("npm?", OFFERED, within_s=5).sentences == ()


@pytest.mark.parametrize("max_sentences", [0, 1, 3])
def test_a_server_that_no_gate_has_judged_writes_into_cards_no_more_than_the_settings_let_into_briefs(
    server, tmp_path, max_sentences
):
    server.says = ["2", "We use pnpm now [2]. The user said: we use pnpm now [2]. In 2026-02 we use pnpm now [2]."]
    settings = config.Model(server=server.address, name="qwen3", max_sentences=max_sentences)
    scribe = Serving(Home(tmp_path / "lmm").ensure(), {}, settings).scribe()
    written = scribe.write("npm?", OFFERED, within_s=5)
    assert written.chosen == (2,)
    assert bool(written.sentences) == bool(max_sentences)
    assert len(written.sentences) <= max_sentences
    assert len(server.asked) == 1 + bool(max_sentences)


def test_it_is_told_where_the_settings_ask_for_sentences_that_the_model_may_not_write(tmp_path):
    home = Home(tmp_path / "lmm").ensure()
    artifacts.promote(home, committed(home, 0), force=True)
    assert "only chooses" in standing.told(standing.look(home), is_training=False, wanted_sentences=2)
    assert "only chooses" not in standing.told(standing.look(home), is_training=False)
    artifacts.promote(home, committed(home, 2), force=True)
    assert "only chooses" not in standing.told(standing.look(home), is_training=False, wanted_sentences=2)
