"""What a model sees and gets: the four tools over a real memory, in both generations of the protocol."""

import json
import threading
from pathlib import Path

import anyio
import pytest
from mcp import Client

from lmm_mcp.domain.fence import FENCE_CLOSE, FENCE_OPEN
from lmm_mcp.domain.recall import NothingFound, num_tokens
from lmm_mcp.paths import Home
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.tools import build_server

pytestmark = pytest.mark.anyio

HARBOUR = "/home/mira/harbour"
PORT_QUESTION = "which port does the development database use?"


@pytest.fixture
def desk(harbour, harbour_env) -> Desk:
    return Desk(harbour, harbour_env, cwd=HARBOUR)


async def call(desk: Desk, era: str, tool: str, **arguments):
    async with Client(build_server(desk), mode=era) as client:
        return await client.call_tool(tool, arguments)


def text_of(reply) -> str:
    (block,) = reply.content
    return block.text


async def complaint(desk: Desk, era: str, tool: str, **arguments) -> str:
    reply = await call(desk, era, tool, **arguments)
    assert reply.is_error, text_of(reply)
    return text_of(reply)


# What a model sees before it calls anything


async def test_there_are_four_tools_and_together_they_cost_less_than_900_tokens(desk, era):
    async with Client(build_server(desk), mode=era) as client:
        tools = (await client.list_tools()).tools
    definitions = json.dumps([tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in tools])
    assert [tool.name for tool in tools] == ["recall", "expand", "remember", "status"]
    assert num_tokens(definitions) <= 900


async def test_the_instructions_alone_say_when_to_recall(desk, era):
    server = build_server(desk)
    asks_first = (
        era if era == "legacy" else "auto"
    )  # a client told the version does not ask for it, nor for instructions
    async with Client(server, mode=asks_first) as client:
        assert (client.protocol_version == era) == (era != "legacy")
        told = client.instructions or ""
    assert told == server.instructions
    for moment in ("before you start work", "error", "user refers to earlier work", "`recall`"):
        assert moment in told
    assert num_tokens(told) <= 400


async def test_only_remember_writes_and_nothing_destroys(desk, era):
    async with Client(build_server(desk), mode=era) as client:
        hints = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
    assert [name for name, hint in hints.items() if not hint.read_only_hint] == ["remember"]
    assert [name for name, hint in hints.items() if hint.idempotent_hint] == ["recall", "expand", "status"]
    assert hints["remember"].destructive_hint is False


async def test_the_structured_output_of_recall_is_stable(desk, era):
    async with Client(build_server(desk), mode=era) as client:
        (recall,) = [tool for tool in (await client.list_tools()).tools if tool.name == "recall"]
    schema = recall.output_schema
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    assert schema["required"] == ["status", "text", "sessions", "citations", "notes"]
    properties = schema["properties"]
    assert properties["status"] == {"enum": ["found", "nothing_found"], "type": "string"}
    assert (properties["text"], properties["sessions"], properties["notes"]) == (text, texts, texts)
    citation = properties["citations"]["items"]
    assert citation["properties"] == dict.fromkeys(["mark", "id", "session", "agent", "project", "at"], text)
    assert citation["required"] == list(citation["properties"])
    assert list(recall.input_schema["properties"]) == ["query", "project", "since", "until", "agent", "budget_tokens"]
    assert recall.input_schema["required"] == ["query"]


async def test_the_structured_output_of_the_other_tools_is_stable(desk, era):
    async with Client(build_server(desk), mode=era) as client:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
    text, number, texts = {"type": "string"}, {"type": "integer"}, {"type": "array", "items": {"type": "string"}}
    passage = {
        "type": "object",
        "properties": {"session": text, "ids": texts},
        "required": ["session", "ids"],
    }
    assert schemas["expand"]["properties"] == {"text": text, "passages": {"type": "array", "items": passage}}
    assert schemas["remember"]["properties"] == {"id": text, "project": text}
    assert schemas["status"]["properties"] == {
        "text": text,
        "reading": text,
        "sessions": number,
        "passages": number,
        "project": text,
    }
    assert all(schema["required"] == list(schema["properties"]) for schema in schemas.values())


# Calls that are not understood


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("recall", {}, "`query` is missing. Write recall(query="),
        ("expand", {"before": 1}, "`ids` is missing. Write expand(ids="),
        ("remember", {"project": "*"}, "`text` is missing. Write remember(text="),
        ("recall", {"query": "x", "foo": 1}, "no argument `foo`; it takes query, project, since"),
        ("recall", {"question": "x"}, "`query` is missing"),
        ("status", {"verbose": True}, "no argument `verbose`; it takes none"),
    ],
)
async def test_a_call_with_missing_or_unknown_arguments_is_told_how_to_write_it(desk, era, tool, arguments, told):
    said = await complaint(desk, era, tool, **arguments)
    assert told in said
    assert "pydantic" not in said


# recall


async def test_recall_answers_with_a_brief_and_says_where_it_comes_from(desk, era):
    reply = await call(desk, era, "recall", query=PORT_QUESTION)
    found = reply.structured_content
    assert not reply.is_error
    assert found["status"] == "found"
    assert found["text"] == text_of(reply)
    assert "5433" in found["text"]
    assert found["text"].startswith(FENCE_OPEN)
    assert found["text"].endswith(FENCE_CLOSE)
    assert found["sessions"] == list(dict.fromkeys(citation["session"] for citation in found["citations"]))
    first = found["citations"][0]
    assert first["mark"] == "c1"
    assert first["agent"] in ("claude-code", "codex")
    assert first["project"] == HARBOUR
    assert first["at"].startswith("2026-03-")


@pytest.mark.parametrize("budget_tokens", [50, 120, 1000])
async def test_a_brief_keeps_within_its_budget(desk, era, budget_tokens):
    reply = await call(desk, era, "recall", query=PORT_QUESTION, budget_tokens=budget_tokens)
    assert num_tokens(text_of(reply)) <= budget_tokens


async def test_an_asker_is_told_of_its_own_project_only(desk, era):
    reply = await call(desk, era, "recall", query="how often does the lamp of the lighthouse turn?")
    assert "ZEBRAFISH" not in text_of(reply)
    assert {citation["project"] for citation in reply.structured_content["citations"]} <= {HARBOUR}


@pytest.mark.parametrize("project", ["*", "all", "lighthouse", "/home/mira/lighthouse"])
async def test_another_project_answers_when_it_is_asked_for(desk, era, project):
    reply = await call(desk, era, "recall", query="how often does the lamp of the lighthouse turn?", project=project)
    assert "ZEBRAFISH" in text_of(reply)


async def test_a_subfolder_belongs_to_its_project(harbour, harbour_env, era):
    desk = Desk(harbour, harbour_env, cwd=f"{HARBOUR}/tests/unit")
    reply = await call(desk, era, "recall", query=PORT_QUESTION)
    assert "5433" in text_of(reply)
    assert desk.asker().project == HARBOUR


async def test_who_stands_in_no_project_asks_all(harbour, harbour_env, era, tmp_path):
    for cwd in ("", str(tmp_path), harbour_env["HOME"]):
        reply = await call(Desk(harbour, harbour_env, cwd=cwd), era, "recall", query="the lamp of the lighthouse")
        assert "ZEBRAFISH" in text_of(reply), cwd


async def test_a_repository_without_history_is_told_how_to_ask_the_others(harbour, harbour_env, era, tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("[core]\n\tbare = false\n", encoding="utf-8")
    reply = await call(Desk(harbour, harbour_env, cwd=str(tmp_path)), era, "recall", query=PORT_QUESTION)
    found = reply.structured_content
    assert (found["status"], found["sessions"], found["citations"]) == ("nothing_found", [], [])
    assert 'project="*"' in found["text"]
    assert any('project="*"' in note for note in found["notes"])


async def test_times_narrow_what_is_recalled(desk, era):
    cart = "where do the carts of anonymous visitors live?"
    early = await call(desk, era, "recall", query=cart, until="2026-03-10")
    late = await call(desk, era, "recall", query=cart, since="2026-03-16T00:00:00Z")
    assert "Redis" in text_of(early)
    assert "anonymous_cart" not in text_of(early)
    assert "anonymous_cart" in text_of(late)
    assert all(citation["at"] >= "2026-03-16" for citation in late.structured_content["citations"])


async def test_one_agent_can_be_asked_alone(desk, era):
    reply = await call(desk, era, "recall", query="deploy to staging", agent="Codex")
    assert {citation["agent"] for citation in reply.structured_content["citations"]} == {"codex"}


async def test_the_same_question_gets_the_same_answer(desk, era):
    first, second = [await call(desk, era, "recall", query=PORT_QUESTION) for _ in range(2)]
    assert first.structured_content == second.structured_content


async def test_an_empty_memory_says_that_nothing_was_imported(tmp_path, era):
    desk = Desk(Home(tmp_path / "lmm").ensure(), {})
    reply = await call(desk, era, "recall", query=PORT_QUESTION)
    assert reply.structured_content["status"] == "nothing_found"
    assert "nothing has been imported yet" in text_of(reply)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"query": "  "}, "the query is empty"),
        ({"query": 7}, "the query is empty"),
        ({"query": "x" * 30_000}, "at most 20,000"),
        ({"budget_tokens": 0}, "between 50 and 20000"),
        ({"budget_tokens": 1_000_000}, "between 50 and 20000"),
        ({"budget_tokens": "much"}, "whole number"),
        ({"budget_tokens": True}, "whole number"),
        ({"since": "last spring"}, "2026-03-01"),
        ({"since": "2026-02-31"}, "which is no time"),
        ({"since": "2026-03-10", "until": "2026-03-01"}, "lies after until"),
        ({"agent": "clippy"}, "write one of claude-code, codex"),
        ({"project": "harbor"}, f"Did you mean {HARBOUR}"),
        ({"project": "zzz"}, 'project="*"'),
    ],
)
async def test_bad_arguments_are_refused_with_what_to_write_instead(desk, era, arguments, told):
    assert told in await complaint(desk, era, "recall", **({"query": PORT_QUESTION} | arguments))


async def test_arguments_left_out_may_be_null_too(desk, era):
    nothing = dict.fromkeys(["project", "since", "until", "agent", "budget_tokens"])
    reply = await call(desk, era, "recall", query=PORT_QUESTION, **nothing)
    assert "5433" in text_of(reply)


async def test_broken_settings_are_named_in_the_answer(own_env, era):
    home = Home(Path(own_env["LMM_HOME"]))
    home.config.write_text("recall = 3\n", encoding="utf-8")
    assert "config.toml" in await complaint(Desk(home, own_env), era, "recall", query="anything")


async def test_a_project_may_set_its_budget_and_nothing_that_redirects(harbour, harbour_env, era, tmp_path):
    file = tmp_path / ".lmm.toml"
    (tmp_path / "src").mkdir()
    desk = Desk(harbour, harbour_env, cwd=str(tmp_path / "src"))
    file.write_text("[recall]\nbudget_tokens = 60\n", encoding="utf-8")
    assert num_tokens(text_of(await call(desk, era, "recall", query=PORT_QUESTION, project="*"))) <= 60
    file.write_text('[embedder]\nname = "evil/model"\n', encoding="utf-8")
    desk = Desk(harbour, harbour_env, cwd=str(tmp_path / "src"))
    reply = await call(desk, era, "recall", query=PORT_QUESTION, project="*")
    assert reply.structured_content["status"] == "found"
    assert any(".lmm.toml" in note for note in reply.structured_content["notes"])


# expand


async def cited_id(desk: Desk, era: str, query: str) -> str:
    reply = await call(desk, era, "recall", query=query)
    return reply.structured_content["citations"][0]["id"]


async def test_expand_shows_who_said_what_around_a_citation(desk, era):
    chunk_id = await cited_id(desk, era, "port is already allocated")
    text = text_of(await call(desk, era, "expand", ids=[chunk_id], before=1, after=3))
    assert text.startswith(FENCE_OPEN)
    assert "user:" in text
    assert "agent runs:" in text
    assert "[2026-03-02 08:1" in text
    assert "exit 1" in text


async def test_expand_with_more_around_shows_more(desk, era):
    chunk_id = await cited_id(desk, era, "port is already allocated")
    near = text_of(await call(desk, era, "expand", ids=[chunk_id], before=0, after=0))
    far = text_of(await call(desk, era, "expand", ids=[chunk_id], before=50, after=50))
    assert len(far) > len(near)
    assert "tidebooks has to keep running" in far


async def test_ids_of_one_thread_come_out_as_one_passage(desk, era):
    reply = await call(desk, era, "recall", query="port tidebooks compose database migrations")
    ids = [c["id"] for c in reply.structured_content["citations"] if c["session"].startswith("95b4095a")]
    reply = await call(desk, era, "expand", ids=ids, before=50, after=50)
    text = text_of(reply)
    assert len(ids) > 1
    assert reply.structured_content["text"] == text
    (passage,) = reply.structured_content["passages"]
    assert sorted(passage["ids"]) == sorted(ids)
    assert passage["session"].startswith("95b4095a")
    assert text.count("# session 95b4095a") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"ids": []}, "0 ids were given"),
        ({"ids": ["c1"]}, "count anew in every brief"),
        ({"ids": ["0123456789abcdef"]}, "unknown id"),
        ({"ids": ["0123456789abcdef"], "before": -1}, "from 0 to 50"),
        ({"ids": ["0123456789abcdef"] * 21}, "1 to 20"),
    ],
)
async def test_expand_refuses_what_is_no_id_and_says_where_to_get_one(desk, era, arguments, told):
    assert told in await complaint(desk, era, "expand", **arguments)


# remember and status


async def test_remember_leaves_a_note_in_the_inbox_and_says_for_which_project(own_env, era):
    told = []
    desk = Desk(Home(Path(own_env["LMM_HOME"])), own_env, cwd=HARBOUR)
    server = build_server(desk, on_remembered=lambda: told.append("look"))
    async with Client(server, mode=era) as client:
        reply = await client.call_tool("remember", {"text": "The mooring fee is due in April."})
    assert reply.structured_content["project"] == HARBOUR
    (inbox,) = desk.home.notes.glob("*.jsonl")
    (note,) = [json.loads(line) for line in inbox.read_text(encoding="utf-8").splitlines()]
    assert note["text"] == "The mooring fee is due in April."
    assert note["id"] == reply.structured_content["id"]
    assert told == ["look"]


@pytest.mark.parametrize("text", ["", "  \n", "x" * 20_001, 7])
async def test_remember_refuses_empty_and_endless_notes(own_env, era, text):
    desk = Desk(Home(Path(own_env["LMM_HOME"])), own_env, cwd=HARBOUR)
    assert await complaint(desk, era, "remember", text=text)
    assert not list(desk.home.notes.glob("*.jsonl"))


@pytest.mark.parametrize("rule", ["exclude_agents = ['notes']", f"exclude_paths = ['{HARBOUR}']"])
async def test_remember_refuses_what_the_settings_exclude(own_env, era, rule):
    desk = Desk(Home(Path(own_env["LMM_HOME"])).ensure(), own_env, cwd=f"{HARBOUR}/web")
    desk.home.config.write_text(f"[sessions]\n{rule}\n", encoding="utf-8")
    assert "your settings exclude" in await complaint(desk, era, "remember", text="The mooring fee is due in April.")
    assert not list(desk.home.notes.glob("*.jsonl"))


async def test_status_says_what_is_held_and_who_is_asked(desk, era):
    reply = await call(desk, era, "status")
    text = text_of(reply)
    assert reply.structured_content["text"] == text
    assert (reply.structured_content["sessions"], reply.structured_content["project"]) == (5, HARBOUR)
    assert reply.structured_content["reading"] == "stopped"
    assert "5 sessions" in text
    assert f"you ask: the project {HARBOUR}" in text


async def test_finding_nothing_while_reading_has_just_begun_is_told_as_that(tmp_path, era):
    desk = Desk(Home(tmp_path / "lmm").ensure(), {})
    async with Client(build_server(desk, is_beginning=lambda: True), mode=era) as client:
        nothing = await client.call_tool("recall", {"query": PORT_QUESTION, "budget_tokens": 50})
        status = await client.call_tool("status", {})
    assert "has just begun" in text_of(nothing)
    assert num_tokens(text_of(nothing)) <= 50
    assert nothing.structured_content["status"] == "nothing_found"
    assert status.structured_content["reading"] == "beginning"
    assert "remembered: nothing yet" in text_of(status)


# A call that lasts


class SlowDesk(Desk):
    """Opens only when it is told to."""

    def __init__(self, home: Home) -> None:
        super().__init__(home, {})
        self.is_open = threading.Event()

    def recall(self, query, **_):
        assert self.is_open.wait(20)
        return NothingFound("Nothing relevant is remembered.", 0)


async def test_a_call_reports_progress_while_the_memory_is_still_being_opened(tmp_path, era):
    desk = SlowDesk(Home(tmp_path))
    heard = []

    async def on_progress(progress, total, message):
        heard.append(message)
        desk.is_open.set()

    async with Client(build_server(desk), mode=era) as client:
        await client.call_tool("recall", {"query": "anything"}, progress_callback=on_progress)
    assert heard[0] == "opening the memory"


async def test_tools_are_listed_while_the_memory_is_still_being_opened(tmp_path, era):
    desk = SlowDesk(Home(tmp_path))
    async with Client(build_server(desk), mode=era) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.call_tool, "recall", {"query": "anything"})
        await anyio.lowlevel.checkpoint()
        assert len((await client.list_tools()).tools) == 4
        desk.is_open.set()
