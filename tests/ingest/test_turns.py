from ingest.session import ToolCall
from ingest.turns import pair_turns
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.domain.fence import fenced

THREAD = Thread("claude-code", "s1", "s1", cwd="/work/harbour")


def event(id: str, kind: str, text: str, **more) -> Event:
    return Event(id, kind, text, at_ms=1_760_000_000_000, **more)


def test_each_prompt_opens_a_turn_and_takes_everything_up_to_the_next_one():
    turns = list(
        pair_turns(
            THREAD,
            [
                event("u1", "prompt", "one"),
                event("a1", "reply", "yes"),
                event("u2", "prompt", "two"),
                event("a2", "reply", "no"),
            ],
        )
    )
    assert [(turn.prompt.text, [step.text for step in turn.steps]) for turn in turns] == [
        ("one", ["yes"]),
        ("two", ["no"]),
    ]


def test_a_transcript_that_starts_in_the_middle_keeps_its_first_steps():
    (turn,) = pair_turns(THREAD, [event("a1", "reply", "carrying on")])
    assert turn.prompt is None
    assert turn.first_event.id == "a1"


def test_a_call_is_joined_with_its_result_even_when_others_came_between():
    (turn,) = pair_turns(
        THREAD,
        [
            event("c1", "call", "pytest", call_id="k1", tool="Bash", command="pytest"),
            event("c2", "call", "ls", call_id="k2", tool="Bash", command="ls"),
            event("r2", "result", "a b", call_id="k2", exit_code=0),
            event("r1", "result", "1 failed", call_id="k1", exit_code=1),
        ],
    )
    assert [(step.call.id, step.result.id) for step in turn.steps if isinstance(step, ToolCall)] == [
        ("c1", "r1"),
        ("c2", "r2"),
    ]


def test_a_result_without_its_call_stands_alone():
    (turn,) = pair_turns(THREAD, [event("r9", "result", "left over", call_id="gone")])
    assert [step.id for step in turn.steps] == ["r9"]


def test_what_this_memory_produced_is_dropped():
    (turn,) = pair_turns(
        THREAD,
        [
            event("u1", "prompt", "which port?"),
            event("c1", "call", "query: port", call_id="k", tool="mcp__lmm__recall", ours=True),
            event("r1", "result", "Port 5433", call_id="k", ours=True),
            event("a1", "reply", "It is 5433."),
        ],
    )
    assert [step.id for step in turn.steps] == ["a1"]


def test_a_pasted_brief_is_blanked_and_the_offsets_of_what_follows_stay_true():
    text = "see " + fenced("echo of old memory") + " then do it"
    (turn,) = pair_turns(THREAD, [event("u1", "prompt", text)])
    assert "echo" not in turn.prompt.text
    assert turn.prompt.text.index("then do it") == text.index("then do it")


def test_a_prompt_that_is_nothing_but_a_brief_vanishes():
    assert list(pair_turns(THREAD, [event("u1", "prompt", fenced("echo"))])) == []


def test_a_pasted_brief_is_blanked_whatever_the_case_of_its_marks():
    text = "see " + fenced("old words").replace("lmm-brief", "LMM-Brief") + " then do it"
    (turn,) = pair_turns(THREAD, [event("u1", "prompt", text)])
    assert turn.prompt.text.strip().split() == ["see", "then", "do", "it"]
    assert turn.prompt.text.index("then do it") == text.index("then do it")
