"""A conversation of Antigravity about invented buoys, in tests/sessions/antigravity."""

import json
from pathlib import Path

from ingest.readers.antigravity import Antigravity
from ingest.session import Cursor, Item, Unreadable
from lmm_mcp.domain.event import Event, Thread

HOME = Path(__file__).parents[1] / "sessions" / "antigravity" / "home"
ROOT = HOME / ".gemini" / "antigravity" / "brain"
LOG = ROOT / "9e0f1a2b-0000-4000-8000-0000000000d1" / ".system_generated" / "logs" / "transcript.jsonl"


def items(path: Path = LOG) -> list[Item]:
    return list(Antigravity().read(path, Cursor()))


def of_kind(kind: str, path: Path = LOG) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event) and item.kind == kind]


def test_a_prompt_is_what_was_typed_and_what_is_beside_it_tells_the_place() -> None:
    (prompt,) = of_kind("prompt")
    assert prompt.text == "Zähle die Bojen in buoys.csv 🛟"
    (thread,) = [item for item in items() if isinstance(item, Thread)]
    assert (thread.session_id, thread.cwd) == (LOG.parents[2].name, "/home/mira/buoys")


def test_arguments_are_read_though_they_are_json_within_json() -> None:
    shell, edit, *_ = of_kind("call")
    assert (shell.command, shell.cwd) == ("wc -l buoys.csv", "/home/mira/buoys")
    assert edit.text == "/home/mira/buoys/count.py\n-n = 0\n+n = 1"
    assert edit.paths == ("/home/mira/buoys/count.py",)


def test_results_find_their_calls_though_they_do_not_name_them() -> None:
    calls, results = of_kind("call"), of_kind("result")
    assert [result.call_id for result in results] == [call.id for call in calls]
    assert (results[0].exit_code, results[0].failed) == (1, True)
    assert results[0].text.startswith("The command exited"), "without the times before it"
    assert [call.ours for call in calls] == [result.ours for result in results] == [False, False, True, True]


def test_results_that_come_out_of_order_find_the_call_of_their_kind(tmp_path: Path) -> None:
    log = tmp_path / "transcript.jsonl"
    steps = [
        {
            "type": "PLANNER_RESPONSE",
            "tool_calls": [{"name": "run_command", "args": {}}, {"name": "view_file", "args": {}}],
        },
        {"type": "VIEW_FILE", "content": "seen"},
        {"type": "RUN_COMMAND", "content": "ran"},
    ]
    lines = [
        {"step_index": at, "source": "MODEL", "created_at": "2026-03-06T09:00:00Z"} | step
        for at, step in enumerate(steps)
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    shell, view = of_kind("call", log)
    seen, ran = of_kind("result", log)
    assert (seen.call_id, ran.call_id) == (view.id, shell.id)


def test_a_checkpoint_is_a_summary_and_a_stranger_is_said() -> None:
    assert [event.text for event in of_kind("summary")] == ["The buoys were counted with wc."]
    assert [item.problem for item in items() if isinstance(item, Unreadable)] == [
        "unknown source type 'TIDE' (1 times)"
    ]


def test_every_version_of_it_has_a_place_and_only_logs_are_looked_at() -> None:
    reader = Antigravity()
    assert ROOT in reader.roots({"HOME": str(HOME)}, [])
    assert Path("/home/mira/.gemini/antigravity-cli/brain") in reader.roots({"HOME": "/home/mira"}, [])
    assert list(reader.discover(ROOT)) == [LOG]
    conversation = LOG.parents[2]
    for other in (conversation / "plan.md", LOG.with_name("transcript_full.jsonl"), conversation / "transcript.jsonl"):
        assert reader.session_of(ROOT, other) is None
